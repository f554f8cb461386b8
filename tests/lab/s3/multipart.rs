//! Multipart uploads, with SHA-256 checksums of their parts or none.
//!
//! An upload with `x-amz-checksum-algorithm: SHA256` requires the checksum of each part, when the
//! part is uploaded and at the end. Its object has the composite checksum.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use md5::{Digest as _, Md5};
use s3s::dto::{
    AbortMultipartUploadInput, ChecksumAlgorithm, ChecksumType, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CompletedPart, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, ETag, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListPartsInput, ListPartsOutput, MultipartUpload, Part, Timestamp, UploadPartInput,
    UploadPartOutput,
};
use s3s::{S3ErrorCode, S3Request, S3Result, s3_error};
use sha2::{Digest as _, Sha256};

use super::conditions::Conditions;
use super::fields::{received, shown_version, sums, user_metadata};
use super::length;
use super::store::{Checksum, Metadata, NewObject, Store, hex};

/// Minimum size of every part but the last, in bytes.
const MIN_PART: usize = 5 << 20;
/// Maximum number of parts.
const MAX_PARTS: i32 = 10_000;

/// Uploads in progress, by their id.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    uploads: Mutex<BTreeMap<String, Upload>>,
}

#[derive(Debug)]
struct Upload {
    bucket: String,
    key: String,
    with_sha256: bool,
    metadata: Metadata,
    initiated: SystemTime,
    parts: BTreeMap<i32, UploadedPart>,
}

#[derive(Clone, Debug)]
struct UploadedPart {
    bytes: Bytes,
    sha256: Option<String>,
    modified: SystemTime,
}

impl UploadedPart {
    fn etag(&self) -> String {
        hex(&Md5::digest(&self.bytes))
    }
}

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Upload>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `use_upload` on the upload with this id, if it is one of this key.
    fn with<T>(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
        use_upload: impl FnOnce(&mut Upload) -> S3Result<T>,
    ) -> S3Result<T> {
        let mut uploads = self.lock();
        let upload = uploads.get_mut(id);
        match upload.filter(|upload| upload.bucket == bucket && upload.key == key) {
            Some(upload) => use_upload(upload),
            None => Err(S3ErrorCode::NoSuchUpload.into()),
        }
    }

    pub(super) fn create(&self, input: CreateMultipartUploadInput) -> CreateMultipartUploadOutput {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let algorithm = input.checksum_algorithm;
        let with_sha256 = algorithm
            .as_ref()
            .is_some_and(|algorithm| algorithm.as_str() == ChecksumAlgorithm::SHA256);
        let upload = Upload {
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            with_sha256,
            metadata: user_metadata(input.metadata),
            initiated: SystemTime::now(),
            parts: BTreeMap::new(),
        };
        self.lock().insert(id.clone(), upload);
        CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            checksum_algorithm: algorithm,
            checksum_type: with_sha256.then(composite),
            ..CreateMultipartUploadOutput::default()
        }
    }

    pub(super) async fn put_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<UploadPartOutput> {
        let S3Request {
            input,
            trailing_headers,
            ..
        } = request;
        if !(1..=MAX_PARTS).contains(&input.part_number) {
            return Err(s3_error!(
                InvalidArgument,
                "Part number must be an integer between 1 and 10000, inclusive"
            ));
        }
        let sent = [
            input.checksum_crc64nvme.map(Checksum::Crc64Nvme),
            input.checksum_crc32.map(Checksum::Crc32),
            input.checksum_crc32c.map(Checksum::Crc32C),
            input.checksum_sha256.map(Checksum::Sha256),
        ];
        let (bytes, checksum) = received(input.body, sent, trailing_headers).await?;
        let sha256 = match checksum {
            Some(Checksum::Sha256(sha256)) => Some(sha256),
            _ => None,
        };
        self.with(&input.bucket, &input.key, &input.upload_id, |upload| {
            if upload.with_sha256 && sha256.is_none() {
                return Err(s3_error!(
                    InvalidRequest,
                    "Checksum Type mismatch occurred, expected checksum Type: sha256"
                ));
            }
            let part = UploadedPart {
                bytes,
                sha256: sha256.clone(),
                modified: SystemTime::now(),
            };
            let etag = part.etag();
            upload.parts.insert(input.part_number, part);
            Ok(UploadPartOutput {
                e_tag: Some(ETag::Strong(etag)),
                checksum_sha256: sha256,
                ..UploadPartOutput::default()
            })
        })
    }

    /// Stores the object, if its condition holds at this moment. A failure keeps the upload.
    pub(super) fn complete(
        &self,
        store: &Store,
        input: CompleteMultipartUploadInput,
    ) -> S3Result<CompleteMultipartUploadOutput> {
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            ..Conditions::default()
        };
        conditions.check_supported()?;
        let listed = input.multipart_upload.and_then(|upload| upload.parts);
        let new = self.with(&input.bucket, &input.key, &input.upload_id, |upload| {
            upload.assembled(&listed.unwrap_or_default())
        })?;
        let object = store.put_if(&input.bucket, &input.key, new, |current| {
            conditions.check_upload(current)
        })?;
        self.lock().remove(&input.upload_id);
        let sums = sums(&object, true);
        Ok(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            version_id: shown_version(&object),
            checksum_type: sums.checksum_type,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha256: sums.checksum_sha256,
            ..CompleteMultipartUploadOutput::default()
        })
    }

    pub(super) fn abort(&self, input: &AbortMultipartUploadInput) -> S3Result<()> {
        self.with(&input.bucket, &input.key, &input.upload_id, |_| Ok(()))?;
        self.lock().remove(&input.upload_id);
        Ok(())
    }

    pub(super) fn parts(&self, input: &ListPartsInput) -> S3Result<ListPartsOutput> {
        let after = input.part_number_marker.unwrap_or_default();
        let most = usize::try_from(input.max_parts.unwrap_or(super::MAX_KEYS)).unwrap_or_default();
        self.with(&input.bucket, &input.key, &input.upload_id, |upload| {
            let mut left = upload.parts.range(after + 1..);
            let listed = left.by_ref().take(most).map(|(number, part)| Part {
                part_number: Some(*number),
                e_tag: Some(ETag::Strong(part.etag())),
                checksum_sha256: part.sha256.clone(),
                size: Some(length(part.bytes.len())),
                last_modified: Some(Timestamp::from(part.modified)),
                ..Part::default()
            });
            let listed: Vec<Part> = listed.collect();
            let is_truncated = left.next().is_some();
            Ok(ListPartsOutput {
                next_part_number_marker: listed.last().and_then(|last| last.part_number),
                parts: Some(listed),
                is_truncated: Some(is_truncated),
                checksum_type: upload.with_sha256.then(composite),
                ..ListPartsOutput::default()
            })
        })
    }

    /// Lists all uploads below a prefix, in one page.
    pub(super) fn list(
        &self,
        input: ListMultipartUploadsInput,
    ) -> S3Result<ListMultipartUploadsOutput> {
        if input.delimiter.is_some() || input.key_marker.is_some() {
            return Err(s3_error!(NotImplemented));
        }
        let prefix = input.prefix.unwrap_or_default();
        let uploads = self.lock();
        let mut found: Vec<(&String, &Upload)> = uploads
            .iter()
            .filter(|(_, upload)| upload.bucket == input.bucket && upload.key.starts_with(&prefix))
            .collect();
        // As in S3: by key, then by the time of initiation.
        found.sort_by_key(|(_, upload)| (&upload.key, upload.initiated));
        let found = found.into_iter().map(|(id, upload)| MultipartUpload {
            key: Some(upload.key.clone()),
            upload_id: Some(id.clone()),
            initiated: Some(Timestamp::from(upload.initiated)),
            ..MultipartUpload::default()
        });
        Ok(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            is_truncated: Some(false),
            uploads: Some(found.collect()),
            ..ListMultipartUploadsOutput::default()
        })
    }
}

impl Upload {
    /// Joins the listed parts.
    fn assembled(&self, listed: &[CompletedPart]) -> S3Result<NewObject> {
        if listed.is_empty() {
            return Err(S3ErrorCode::MalformedXML.into());
        }
        let mut bytes = BytesMut::new();
        let (mut etags, mut sums) = (Vec::new(), Vec::new());
        let mut previous = 0;
        for (index, listed_part) in listed.iter().enumerate() {
            let number = listed_part.part_number.unwrap_or_default();
            if number <= previous {
                return Err(S3ErrorCode::InvalidPartOrder.into());
            }
            previous = number;
            let part = self.parts.get(&number).ok_or(S3ErrorCode::InvalidPart)?;
            let etag = listed_part.e_tag.as_ref().map(ETag::value);
            if etag != Some(part.etag().as_str()) {
                return Err(S3ErrorCode::InvalidPart.into());
            }
            match &listed_part.checksum_sha256 {
                None if self.with_sha256 => {
                    return Err(s3_error!(
                        InvalidRequest,
                        "The upload was created using a sha256 checksum. The complete request must include the \
                         checksum for each part. It was missing for part {number} in the request."
                    ));
                }
                Some(sum) if part.sha256.as_ref() != Some(sum) => {
                    return Err(S3ErrorCode::InvalidPart.into());
                }
                _ => {}
            }
            if part.bytes.len() < MIN_PART && index + 1 < listed.len() {
                return Err(S3ErrorCode::EntityTooSmall.into());
            }
            bytes.extend_from_slice(&part.bytes);
            etags.extend(Md5::digest(&part.bytes));
            sums.extend(Sha256::digest(&part.bytes));
        }
        let count = listed.len();
        let bytes = bytes.freeze();
        let checksum = if self.with_sha256 {
            let sum = STANDARD.encode(Sha256::digest(&sums));
            Checksum::Sha256(format!("{sum}-{count}"))
        } else {
            Checksum::crc64nvme(&bytes)
        };
        Ok(NewObject {
            etag: format!("{}-{count}", hex(&Md5::digest(&etags))),
            bytes,
            checksum,
            metadata: self.metadata.clone(),
        })
    }
}

fn composite() -> ChecksumType {
    ChecksumType::from_static(ChecksumType::COMPOSITE)
}
