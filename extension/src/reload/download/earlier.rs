//! Download of an earlier version of an object.

use tracing::info;

use super::{Download, DownloadedFile, Downloader, version_of};
use crate::fetch;
use crate::ids::FilePath;
use crate::reload::description::{describe, has_no_data_files};
use crate::reload::error::CheckError;
use crate::reload::source_files::note_rejection;
use crate::source::{EarlierVersion, Opened};

/// Downloads an earlier version of the object at `path`; `None` if the source no longer has it.
pub(super) async fn download(
    downloader: &Downloader<'_>,
    path: &FilePath,
    earlier: &EarlierVersion,
) -> Result<Option<Download>, CheckError> {
    let journal = downloader.journal;
    if let Some(record) = downloader.known_rejected(path, &earlier.identity, None) {
        return Ok(Some(Download::not_loadable(record, None)));
    }
    if let Some(reason) = journal.file_rejection_reason(path, &earlier.identity, None) {
        return Err(CheckError::RejectedContent(reason));
    }
    let uri = earlier.source.uri();
    let Some(file) = download_file(downloader, path, earlier).await? else {
        return Ok(None);
    };
    let transferred = file.transferred;
    let description = describe(file.file.path()).await?;
    has_no_data_files(&uri, description.as_ref())?;
    let (record, files) = version_of(vec![file], None)?;
    info!(model = %downloader.files.model, version = %record.version, digest = %record.digest(), "an earlier version is in the cache: {uri}");
    let download = downloader.finish(record, files, description, None, transferred)?;
    Ok(Some(download))
}

async fn download_file(
    downloader: &Downloader<'_>,
    path: &FilePath,
    EarlierVersion { identity, source }: &EarlierVersion,
) -> Result<Option<DownloadedFile>, CheckError> {
    let (files, journal) = (downloader.files, downloader.journal);
    if let Some(record) = journal.find_file(path, identity)
        && let Some(file) = files.find_cached(&record.digest).await
    {
        return Ok(Some(DownloadedFile::cached(record, file)));
    }
    let cache = &downloader.shared().cache;
    let Opened::Object(object) = fetch::open(&**source, cache, None).await? else {
        return Ok(None);
    };
    let parts = downloader.shared().parts;
    let fetched = files.fetch_from(&**source, path, object, None, parts, None);
    let fetched = note_rejection(path, None, false, journal, fetched.await)?;
    Ok(Some(DownloadedFile::fetched(path, fetched)))
}
