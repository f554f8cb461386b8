//! Upload of a file that must not exist yet, verified against its SHA-256.
//!
//! S3 verifies the SHA-256 of each request, and afterwards reports the SHA-256 of the object. A
//! large file is uploaded in parts, several at a time. An interrupted upload is resumed: parts that
//! S3 has with the right checksum are not sent again. An object is never overwritten. If the key is
//! taken, the present object is compared.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::operation::list_parts::ListPartsOutput;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, MultipartUpload,
};
use futures_util::{StreamExt as _, stream};
use indicatif::ProgressBar;
use sha2::{Digest as _, Sha256};

use super::{Bucket, Head, Written, base64, size};

/// Maximum number of parts of an upload.
const MAX_PARTS: u64 = 10_000;
/// Maximum number of concurrent requests.
const CONCURRENCY: usize = 4;
/// Maximum number of attempts while other writes to the same key interfere.
const ATTEMPTS: usize = 5;

/// Local file with its checksums.
#[derive(Clone, Debug)]
pub(crate) struct HashedFile {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) sha256: [u8; 32],
    /// Size of a part, and the SHA-256 of each; empty for a single upload.
    part_size: u64,
    parts: Vec<[u8; 32]>,
}

/// Outcome of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upload {
    /// The object is stored.
    Stored,
    /// The same content was there before.
    Present,
    /// Other content is there; it was not touched.
    Taken,
}

impl HashedFile {
    /// Reads the file once.
    /// A file of more than `part` bytes has parts of this size, or larger ones if there would be too
    /// many.
    pub(crate) fn read(path: &Path, part: u64, progress: &ProgressBar) -> anyhow::Result<Self> {
        let read = || {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            let part_size = part.max(size.div_ceil(MAX_PARTS).next_multiple_of(1 << 20));
            let mut whole = Sha256::new();
            let mut parts = Vec::new();
            let mut at = 0;
            while at < size {
                let bytes = read_at(&file, at, part_size.min(size - at))?;
                whole.update(&bytes);
                parts.push(Sha256::digest(&bytes).into());
                at += bytes.len() as u64;
                progress.inc(bytes.len() as u64);
            }
            if size <= part {
                parts.clear();
            }
            std::io::Result::Ok(Self {
                path: path.to_owned(),
                size,
                sha256: whole.finalize().into(),
                part_size,
                parts,
            })
        };
        read().with_context(|| format!("cannot read {}", path.display()))
    }

    /// SHA-256 in hexadecimal digits.
    pub(crate) fn digest(&self) -> String {
        hex(&self.sha256)
    }

    /// Returns the SHA-256 that S3 has for an upload of this file by this program.
    fn stored_checksum(&self) -> String {
        if self.parts.is_empty() {
            return base64(&self.sha256);
        }
        let composite = Sha256::digest(self.parts.concat());
        format!("{}-{}", base64(&composite), self.parts.len())
    }

    fn part(&self, index: usize) -> std::io::Result<Vec<u8>> {
        let at = index as u64 * self.part_size;
        read_at(
            &File::open(&self.path)?,
            at,
            self.part_size.min(self.size - at),
        )
    }
}

/// Hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn read_at(file: &File, at: u64, length: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, at)?;
    Ok(bytes)
}

impl Bucket {
    /// Uploads the file to a key that must be free, and verifies the stored object.
    pub(crate) async fn upload(
        &self,
        key: &str,
        file: &HashedFile,
        metadata: &HashMap<String, String>,
        progress: &ProgressBar,
    ) -> anyhow::Result<Upload> {
        for _ in 0..ATTEMPTS {
            if let Some(head) = self.head(key).await? {
                let same = self.holds(key, &head, file).await?;
                progress.inc(file.size);
                return Ok(if same { Upload::Present } else { Upload::Taken });
            }
            let written = if file.parts.is_empty() {
                self.put_file(key, file, metadata).await?
            } else {
                self.put_parts(key, file, metadata, progress).await?
            };
            if let Written::Stored(_) = written {
                let head = self.head(key).await?;
                let Some(head) = head else {
                    bail!(
                        "cannot verify {}: the object is gone after its upload",
                        self.uri(key)
                    );
                };
                if !self.holds(key, &head, file).await? {
                    bail!(
                        "cannot verify {}: S3 has other bytes than {}; delete the object, and publish again",
                        self.uri(key),
                        file.path.display()
                    );
                }
                if file.parts.is_empty() {
                    progress.inc(file.size);
                }
                return Ok(Upload::Stored);
            }
        }
        bail!(
            "cannot write {}: other writes interfered {ATTEMPTS} times; publish again",
            self.uri(key)
        )
    }

    /// Returns `true` if the object has the content of the file: by the SHA-256 that S3 has, or by
    /// the bytes if S3 has none.
    async fn holds(&self, key: &str, head: &Head, file: &HashedFile) -> anyhow::Result<bool> {
        if head.size != file.size {
            return Ok(false);
        }
        match &head.sha256 {
            Some(sum) if *sum == file.stored_checksum() => return Ok(true),
            // Of the object as a whole.
            Some(sum) if !sum.contains('-') => return Ok(*sum == base64(&file.sha256)),
            _ => {}
        }
        let Some(mut body) = self.open(key).await? else {
            return Ok(false);
        };
        let mut sha256 = Sha256::new();
        while let Some(bytes) = body.next().await {
            sha256.update(bytes.with_context(|| format!("cannot read {}", self.uri(key)))?);
        }
        Ok(<[u8; 32]>::from(sha256.finalize()) == file.sha256)
    }

    async fn put_file(
        &self,
        key: &str,
        file: &HashedFile,
        metadata: &HashMap<String, String>,
    ) -> anyhow::Result<Written> {
        let bytes = std::fs::read(&file.path)
            .with_context(|| format!("cannot read {}", file.path.display()))?;
        let put = self.client.put_object().bucket(&self.name).key(key);
        let put = put.set_metadata(Some(metadata.clone()));
        let put = put.checksum_sha256(base64(&file.sha256)).if_none_match("*");
        let call = self.call("write", key, "s3:PutObject");
        match put.body(bytes.into()).send().await {
            Ok(output) => Ok(Written::Stored(
                output.e_tag().unwrap_or_default().to_owned(),
            )),
            Err(error) if call.is_conflict(&error) => Ok(Written::Conflict),
            Err(error) => Err(call.error(&error)),
        }
    }

    async fn put_parts(
        &self,
        key: &str,
        file: &HashedFile,
        metadata: &HashMap<String, String>,
        progress: &ProgressBar,
    ) -> anyhow::Result<Written> {
        let (id, mut done) = match self.resumable(key, file).await {
            Some(found) => found,
            None => (self.create_upload(key, metadata).await?, HashMap::new()),
        };
        let (id, missing) = (id.as_str(), 0..file.parts.len());
        let missing = missing.filter(|index| !done.contains_key(index));
        progress.inc(done.len() as u64 * file.part_size);
        // After a failure, parts that are on their way still arrive, and no other begins.
        let stopped = AtomicBool::new(false);
        let stopped = &stopped;
        let put_part = |index| async move {
            if stopped.load(Ordering::Relaxed) {
                return Ok((index, None));
            }
            let sent = self.put_part(key, file, id, index).await;
            if !matches!(sent, Ok((_, Some(_)))) {
                stopped.store(true, Ordering::Relaxed);
            }
            sent
        };
        let arrived: Vec<_> = stream::iter(missing.collect::<Vec<usize>>())
            .map(put_part)
            .buffer_unordered(CONCURRENCY)
            .inspect(|_| progress.inc(file.part_size))
            .collect()
            .await;
        let arrived = arrived.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        for (index, etag) in arrived {
            let Some(etag) = etag else {
                // Another publisher of the same file has completed or aborted the upload.
                return Ok(Written::Conflict);
            };
            done.insert(index, etag);
        }
        let parts = file.parts.iter().enumerate().map(|(index, sha256)| {
            CompletedPart::builder()
                .part_number(number(index))
                .set_e_tag(done.remove(&index))
                .checksum_sha256(base64(sha256))
                .build()
        });
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(parts.collect()))
            .build();
        let complete = self.client.complete_multipart_upload();
        let complete = complete.bucket(&self.name).key(key).upload_id(id);
        let complete = complete.multipart_upload(parts).if_none_match("*");
        let call = self.call("complete the upload of", key, "s3:PutObject");
        match complete.send().await {
            Ok(output) => Ok(Written::Stored(
                output.e_tag().unwrap_or_default().to_owned(),
            )),
            Err(error) if call.is_conflict(&error) => {
                // S3 asks for a new upload after a 409, and the parts would cost storage.
                let abort = self.client.abort_multipart_upload();
                let _ = abort.bucket(&self.name).key(key).upload_id(id).send().await;
                Ok(Written::Conflict)
            }
            Err(error) if is_gone(error.code()) => Ok(Written::Conflict),
            Err(error) => Err(call.error(&error)),
        }
    }

    async fn create_upload(
        &self,
        key: &str,
        metadata: &HashMap<String, String>,
    ) -> anyhow::Result<String> {
        let create = self.client.create_multipart_upload();
        let create = create.bucket(&self.name).key(key);
        let create = create.set_metadata(Some(metadata.clone()));
        let create = create.checksum_algorithm(ChecksumAlgorithm::Sha256);
        let call = self.call("begin the upload of", key, "s3:PutObject");
        let created = create.send().await.map_err(|error| call.error(&error))?;
        let id = created.upload_id().map(str::to_owned);
        id.with_context(|| format!("cannot write {}: S3 gave no upload id", self.uri(key)))
    }

    /// Uploads a part, and returns its `ETag`; `None` if the upload has ended.
    async fn put_part(
        &self,
        key: &str,
        file: &HashedFile,
        id: &str,
        index: usize,
    ) -> anyhow::Result<(usize, Option<String>)> {
        let bytes = file.part(index);
        let bytes = bytes.with_context(|| format!("cannot read {}", file.path.display()))?;
        let put = self.client.upload_part().bucket(&self.name).key(key);
        let put = put.upload_id(id).part_number(number(index));
        let put = put.checksum_sha256(base64(&file.parts[index]));
        let call = self.call("write a part of", key, "s3:PutObject");
        match put.body(bytes.into()).send().await {
            Ok(output) => Ok((index, Some(output.e_tag().unwrap_or_default().to_owned()))),
            Err(error) if is_gone(error.code()) => Ok((index, None)),
            Err(error) => Err(call.error(&error)),
        }
    }

    /// Finds an interrupted upload of this file: its id, and the `ETag`s of its parts by index. Every
    /// part that it has must be one of the file's. Without the permission to list uploads there is
    /// none.
    async fn resumable(
        &self,
        key: &str,
        file: &HashedFile,
    ) -> Option<(String, HashMap<usize, String>)> {
        let list = self.client.list_multipart_uploads();
        let listed = list.bucket(&self.name).prefix(key).send().await.ok()?;
        let uploads = listed.uploads().iter();
        let of_key = uploads.filter(|upload| upload.key() == Some(key));
        for id in of_key.rev().filter_map(MultipartUpload::upload_id) {
            let list = self.client.list_parts();
            let list = list.bucket(&self.name).key(key).upload_id(id);
            let pages = list.into_paginator().send().collect::<Result<Vec<_>, _>>();
            let Ok(pages) = pages.await else { continue };
            let parts = pages.iter().flat_map(ListPartsOutput::parts);
            let parts: Option<HashMap<usize, String>> = parts
                .map(|part| {
                    let index = usize::try_from(part.part_number()?).ok()?.checked_sub(1)?;
                    let length = file.size.checked_sub(index as u64 * file.part_size)?;
                    let is_same = part.checksum_sha256() == Some(&base64(file.parts.get(index)?))
                        && size(part.size()) == length.min(file.part_size);
                    is_same
                        .then(|| Some((index, part.e_tag()?.to_owned())))
                        .flatten()
                })
                .collect();
            if let Some(parts) = parts.filter(|parts| !parts.is_empty()) {
                return Some((id.to_owned(), parts));
            }
        }
        None
    }
}

/// Number of a part in S3, from 1.
fn number(index: usize) -> i32 {
    i32::try_from(index + 1).unwrap_or(i32::MAX)
}

fn is_gone(code: Option<&str>) -> bool {
    code == Some("NoSuchUpload")
}
