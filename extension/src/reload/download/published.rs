//! Download of a version that a manifest names.
//!
//! The manifest's digests name the files. A file whose digest is in the cache is used whatever version it came with,
//! and a fetched file is verified by length and digest. The version is therefore consistent without another check of
//! the source.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::{
    Download, DownloadedFile, Downloader, shared_connections, transferred_bytes, version_of,
};
use crate::cache::{CachedFile, FileRecord, ManifestMetadata, ModelRecord};
use crate::fetch::PartLimits;
use crate::ids::{Digest, ETag, Expected, Identity, VersionName};
use crate::manifest::{PublishedFile, PublishedVersion};
use crate::onnx::Description;
use crate::reload::description::{data_files, describe};
use crate::reload::error::CheckError;
use crate::reload::resolver::PublishedCandidate;
use crate::reload::source_files::MAX_CONCURRENT_FILES;
use crate::reload::validation::AcceptanceCriteria;

/// Downloads a version of a manifest, unless it is rejected under the manifest's criteria or its load has to wait.
pub(super) async fn download(
    downloader: &Downloader<'_>,
    candidate: &PublishedCandidate,
) -> Result<Download, CheckError> {
    let PublishedCandidate {
        name,
        version,
        manifest,
    } = candidate;
    let published = ManifestMetadata {
        manifest: manifest.clone(),
        example: version.golden.first().map(|golden| golden.inputs.clone()),
        baseline: version.baseline.clone(),
        criteria: criteria_digest(version),
    };
    let record = promised(name, version);
    let (digest, criteria) = (record.digest(), Some(&published.criteria));
    // The digests are known before anything is fetched.
    let history = downloader.journal.history();
    let is_rejected = history.rejection_reason(&digest, criteria).is_some();
    if is_rejected || downloader.deferred.as_ref() == Some(&digest) {
        return Ok(Download::not_loadable(record, Some(published)));
    }
    let files = download_files(downloader, &record).await?;
    let transferred = transferred_bytes(&files);
    let (record, files) = version_of(files, Some(name.clone()))?;
    let description = check_complete(downloader, name.as_str(), &record, &files.files).await?;
    let criteria = AcceptanceCriteria {
        declared: version.signature.clone(),
        previous: None,
        golden: version.golden.clone(),
    };
    let published = Some((published, criteria));
    downloader.finish(record, files, description, published, transferred)
}

/// Downloads the files of a version, the model's first.
async fn download_files(
    downloader: &Downloader<'_>,
    version: &ModelRecord,
) -> Result<Vec<DownloadedFile>, CheckError> {
    let files: Vec<FileRecord> = version.files().cloned().collect();
    let parts = shared_connections(downloader.shared().parts, files.len());
    let several = files.len() > 1;
    let download = |promised: FileRecord| async move {
        let is_model = promised == version.model;
        let file = download_file(downloader, promised, parts, is_model).await?;
        if several {
            downloader.journal.add_downloaded_file(file.record.clone());
        }
        Ok::<_, CheckError>(file)
    };
    let downloads = stream::iter(files.into_iter().map(download));
    downloads.buffered(MAX_CONCURRENT_FILES).try_collect().await
}

async fn download_file(
    downloader: &Downloader<'_>,
    record: FileRecord,
    parts: PartLimits,
    is_model: bool,
) -> Result<DownloadedFile, CheckError> {
    let (files, journal) = (downloader.files, downloader.journal);
    let expected = Expected {
        size: record.size,
        digest: record.digest.clone(),
    };
    if let Some(file) = files.find_cached(&expected.digest).await {
        return Ok(DownloadedFile::cached(record, file));
    }
    let path = &record.path;
    let object = files.open(path, Some(&expected), journal).await?;
    let fetched = downloader.fetch(path, object, Some(&expected), parts, is_model);
    let fetched = fetched.await?;
    Ok(DownloadedFile { record, ..fetched })
}

/// Returns the description of the model's file, after a check that the version has every file that it refers to.
async fn check_complete(
    downloader: &Downloader<'_>,
    name: &str,
    record: &ModelRecord,
    files: &[CachedFile],
) -> Result<Option<Description>, CheckError> {
    let Some(model) = files.first() else {
        return Ok(None);
    };
    let description = describe(model.path()).await?;
    for path in data_files(description.as_ref()) {
        let referred = record.model.path.sibling(path);
        if record.files().all(|file| file.path.laid_out() != referred) {
            return Err(downloader.files.manifest_error(format!(
                "versions.{name}.files lacks {path}, to which the model's file refers"
            )));
        }
    }
    Ok(description)
}

/// Returns a version as the manifest promises it, before anything is fetched.
fn promised(name: &VersionName, version: &PublishedVersion) -> ModelRecord {
    let others = version.files.iter().filter(|file| **file != version.model);
    let mut others: Vec<&PublishedFile> = others.collect();
    others.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    let record = |file: &PublishedFile| FileRecord {
        path: version.path_of(file),
        // The manifest's digest identifies the content; the source is not asked if the file is in the cache.
        identity: Identity {
            etag: ETag(file.digest.to_string()),
            version_id: None,
        },
        size: file.size,
        digest: file.digest.clone(),
    };
    let others = others.into_iter().map(record).collect();
    ModelRecord::new(record(&version.model), others, Some(name.clone()))
}

/// Returns a digest of the version's acceptance criteria. It is stable within one build of the sidecar; with another
/// build it may differ, and a rejected version is then tried again.
fn criteria_digest(version: &PublishedVersion) -> Digest {
    let criteria = (&version.signature, &version.golden);
    Digest::of(Sha256::new().chain_update(format!("{criteria:?}")))
}
