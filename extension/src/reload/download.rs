//! Download of a version: from a candidate or fallback to files in the cache, ready to load.
//!
//! A model's file may refer to data files that hold its weights; they are known once the model's file is in the cache.
//!
//! - Without a manifest, nothing says that the files of one moment belong together. Each file is pinned to one identity
//!   while it is read. When all are in the cache, all are checked again, and a changed file is fetched again.
//! - [With a manifest](published), digests decide. A file whose digest is in the cache causes no request.
//! - [An earlier version](earlier) of an object must be a single file.

mod earlier;
mod published;

use std::collections::HashMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tracing::info;

use super::Shared;
use super::description::{data_files, describe, has_no_data_files};
use super::error::CheckError;
use super::resolver::{Candidate, Fallback};
use super::source_files::{Content, FileState, MAX_CONCURRENT_FILES, SourceFiles};
use super::validation::AcceptanceCriteria;
use crate::cache::{
    Cache, CachedFile, CachedModel, FileRecord, Journal, ManifestMetadata, ModelRecord,
};
use crate::engine::PreparedWeights;
use crate::fetch::{Compression, Fetched, PartLimits};
use crate::ids::{Digest, Expected, FilePath, Identity, VersionName};
use crate::onnx::Description;
use crate::source::Object;

/// Maximum number of times that a version is fetched again because a file changed during the download.
const MAX_CHANGES: u32 = 3;

/// Downloads the versions of one model.
pub(super) struct Downloader<'a> {
    pub(super) files: &'a SourceFiles,
    pub(super) journal: &'a Journal,
    /// Version whose load has to wait; its files are not fetched.
    pub(super) deferred: Option<Digest>,
}

/// Result of a download.
pub(super) struct Download {
    pub(super) record: ModelRecord,
    /// `None` if the version is known to be rejected, or its load has to wait.
    pub(super) model: Option<LoadableModel>,
    /// Entry of the manifest that names the version.
    pub(super) published: Option<ManifestMetadata>,
    /// Number of bytes transferred; `None` if no file had to be fetched.
    pub(super) transferred: Option<u64>,
}

/// Version whose files are in the cache.
pub(super) struct LoadableModel {
    pub(super) files: CachedModel,
    pub(super) criteria: AcceptanceCriteria,
    pub(super) prepared: PreparedWeights,
}

/// Files of a version in the cache, the model's first.
struct VersionFiles {
    files: Vec<CachedFile>,
    prepared: PreparedWeights,
}

/// File in the cache.
struct DownloadedFile {
    record: FileRecord,
    file: CachedFile,
    /// Number of bytes transferred; `None` if the file was in the cache.
    transferred: Option<u64>,
    /// Weights of the model's file.
    prepared: PreparedWeights,
}

impl Download {
    /// Returns the result for a version that is not loaded, or not now.
    fn not_loadable(record: ModelRecord, published: Option<ManifestMetadata>) -> Self {
        Self {
            record,
            model: None,
            published,
            transferred: None,
        }
    }
}

impl DownloadedFile {
    fn fetched(path: &FilePath, fetched: Fetched) -> Self {
        Self {
            record: FileRecord {
                path: path.clone(),
                identity: fetched.identity,
                size: fetched.size,
                digest: fetched.digest,
            },
            file: fetched.file,
            transferred: Some(fetched.transferred),
            prepared: PreparedWeights::default(),
        }
    }

    fn cached(record: FileRecord, file: CachedFile) -> Self {
        Self {
            record,
            file,
            transferred: None,
            prepared: PreparedWeights::default(),
        }
    }
}

impl Downloader<'_> {
    /// Downloads a candidate.
    pub(super) async fn candidate(&self, candidate: Candidate) -> Result<Download, CheckError> {
        match candidate {
            Candidate::Files {
                model,
                name,
                states,
            } => self.object(model, name, states).await,
            Candidate::Published(version) => published::download(self, &version).await,
        }
    }

    /// Downloads a fallback; `None` if the source no longer has it.
    pub(super) async fn fallback(
        &self,
        fallback: &Fallback,
    ) -> Result<Option<Download>, CheckError> {
        match fallback {
            Fallback::Published(version) => published::download(self, version).await.map(Some),
            Fallback::Earlier(path, version) => earlier::download(self, path, version).await,
            Fallback::Folder { model, name } => self.folder(model, name.clone()).await.map(Some),
        }
    }

    /// Downloads the model's file at `path` of a repository, and its data files.
    async fn folder(
        &self,
        path: &FilePath,
        name: Option<VersionName>,
    ) -> Result<Download, CheckError> {
        let rejected = self.journal.history().rejected_file(path);
        let known = rejected.map(|file| &file.identity);
        let source = self.files.source(path)?;
        let content = self
            .files
            .open_unless_known(&*source, path, known, None, self.journal)
            .await?;
        let state = match (content, rejected) {
            (Content::Opened(object), _) => FileState::Opened(object),
            (Content::Rejected(reason, _), _) => return Err(CheckError::RejectedContent(reason)),
            (Content::Known, Some(rejected)) => {
                let record = ModelRecord::new(rejected.clone(), Vec::new(), name);
                return Ok(Download::not_loadable(record, None));
            }
            (Content::Known, None) => return Err(CheckError::Unsteady),
        };
        let states = HashMap::from([(path.clone(), state)]);
        self.object(path.clone(), name, states).await
    }

    /// Downloads a model's file and its data files, until no file has changed during the download.
    async fn object(
        &self,
        model: FilePath,
        name: Option<VersionName>,
        mut states: HashMap<FilePath, FileState>,
    ) -> Result<Download, CheckError> {
        if let Some(FileState::Opened(object)) = states.get(&model)
            && let Some(record) = self.known_rejected(&model, &object.identity, name.clone())
        {
            return Ok(Download::not_loadable(record, None));
        }
        let mut transferred = None;
        for _ in 0..=MAX_CHANGES {
            let (files, description) = self.object_files(&model, states).await?;
            transferred = sum(transferred.into_iter().chain(transferred_bytes(&files)));
            let (record, files) = version_of(files, name.clone())?;
            let changed = match record.others.as_slice() {
                [] => None,
                _ => {
                    let known = record.files().cloned().collect();
                    self.files.check_files(known, self.journal).await?
                }
            };
            match changed {
                None => return self.finish(record, files, description, None, transferred),
                Some(changed) => {
                    info!(model = %self.files.model, "a file of the model changed during the download; fetching it again");
                    states = changed;
                }
            }
        }
        Err(CheckError::Unsteady)
    }

    /// Returns the version of the file that has this identity, if the version was rejected before.
    fn known_rejected(
        &self,
        model: &FilePath,
        identity: &Identity,
        name: Option<VersionName>,
    ) -> Option<ModelRecord> {
        let file = self.journal.find_file(model, identity)?;
        let record = ModelRecord::new(file, Vec::new(), name);
        let rejected = self
            .journal
            .history()
            .rejection_reason(&record.digest(), None);
        rejected.is_some().then_some(record)
    }

    /// Downloads a model's file, and then the data files that it refers to.
    async fn object_files(
        &self,
        model: &FilePath,
        mut states: HashMap<FilePath, FileState>,
    ) -> Result<(Vec<DownloadedFile>, Option<Description>), CheckError> {
        let journal = self.journal;
        let parts = self.files.shared.parts;
        let state = states.remove(model);
        let first = self.file(model, state, parts, true).await?;
        let described = describe(first.file.path()).await;
        let is_alone = matches!(&described, Ok(it) if data_files(it.as_ref()).next().is_none());
        if !is_alone {
            journal.add_downloaded_file(first.record.clone());
        }
        let description = described?;
        if self.files.pinned(model).is_some() {
            has_no_data_files(&self.files.source(model)?.uri(), description.as_ref())?;
        }
        let others = data_files(description.as_ref());
        let others: Vec<FilePath> = others.map(|path| model.sibling(path)).collect();
        let parts = shared_connections(parts, others.len());
        let download = |path| {
            let state = states.remove(&path);
            async move {
                let downloaded = self.file(&path, state, parts, false).await?;
                journal.add_downloaded_file(downloaded.record.clone());
                Ok::<_, CheckError>(downloaded)
            }
        };
        let others: Vec<_> = others.into_iter().map(download).collect();
        let others = stream::iter(others)
            .buffered(MAX_CONCURRENT_FILES)
            .try_collect::<Vec<_>>();
        let mut files = vec![first];
        files.extend(others.await?);
        Ok((files, description))
    }

    /// Downloads one file, unless the cache has its content.
    async fn file(
        &self,
        path: &FilePath,
        state: Option<FileState>,
        parts: PartLimits,
        is_model: bool,
    ) -> Result<DownloadedFile, CheckError> {
        let (files, journal) = (self.files, self.journal);
        let state = match state {
            Some(state) => state,
            None => match journal.latest_file(path) {
                Some(known) => files.check_file(known, journal).await?.1,
                None => files.current_state(path, journal).await?,
            },
        };
        let (known, object) = match state {
            FileState::Unchanged(known) => (Some(known), None),
            FileState::Opened(object) => (journal.find_file(path, &object.identity), Some(object)),
            FileState::Rejected(reason, _) => return Err(CheckError::RejectedContent(reason)),
        };
        if let Some(record) = known
            && let Some(file) = files.find_cached(&record.digest).await
        {
            return Ok(DownloadedFile::cached(record, file));
        }
        let object = match object {
            Some(object) => object,
            None => files.open(path, None, journal).await?,
        };
        self.fetch(path, object, None, parts, is_model).await
    }

    /// Fetches opened content, and prepares the weights of the model's file.
    async fn fetch(
        &self,
        path: &FilePath,
        object: Object,
        expected: Option<&Expected>,
        parts: PartLimits,
        is_model: bool,
    ) -> Result<DownloadedFile, CheckError> {
        let (files, journal) = (self.files, self.journal);
        let may_prepare = is_model && Compression::of(path) == Compression::None;
        let size = if may_prepare { object.size } else { 0 };
        let fetch = async |parts, growing| {
            let fetched = files.fetch(path, object, expected, parts, journal, growing);
            // Boxed, since the future is large and part of each check.
            Box::pin(fetched).await
        };
        let (fetched, prepared) = files.with_preparation(size, parts, fetch).await;
        Ok(DownloadedFile {
            prepared,
            ..DownloadedFile::fetched(path, fetched?)
        })
    }

    /// Lays out a version whose files are all in the cache.
    fn finish(
        &self,
        record: ModelRecord,
        VersionFiles { files, prepared }: VersionFiles,
        description: Option<Description>,
        published: Option<(ManifestMetadata, AcceptanceCriteria)>,
        transferred: Option<u64>,
    ) -> Result<Download, CheckError> {
        let (published, criteria) = published.unzip();
        let cache = &self.shared().cache;
        let files = cache.lay_out(&record, files, description)?;
        Ok(Download {
            record,
            model: Some(LoadableModel {
                files,
                criteria: criteria.unwrap_or_default(),
                prepared,
            }),
            published,
            transferred,
        })
    }

    fn shared(&self) -> &Shared {
        &self.files.shared
    }
}

/// Returns the files of a version, if the cache has them whole.
pub(super) async fn find_cached(cache: &Cache, record: ModelRecord) -> Option<CachedModel> {
    let cache = cache.clone();
    let find = move || cache.find_model(&record);
    tokio::task::spawn_blocking(find).await.ok().flatten()
}

/// Returns the version of these files, the model's first, under its publisher's name where there is one.
fn version_of(
    downloaded: Vec<DownloadedFile>,
    name: Option<VersionName>,
) -> Result<(ModelRecord, VersionFiles), CheckError> {
    let mut downloaded = downloaded.into_iter();
    let Some(model) = downloaded.next() else {
        return Err(CheckError::Unsteady);
    };
    let (others, mut files): (Vec<_>, Vec<_>) =
        downloaded.map(|other| (other.record, other.file)).unzip();
    files.insert(0, model.file);
    let prepared = model.prepared;
    let record = ModelRecord::new(model.record, others, name);
    Ok((record, VersionFiles { files, prepared }))
}

/// Divides the connections among files that are fetched concurrently.
fn shared_connections(parts: PartLimits, files: usize) -> PartLimits {
    let connections = parts.max_connections / files.clamp(1, MAX_CONCURRENT_FILES);
    PartLimits {
        max_connections: connections.max(1),
        ..parts
    }
}

/// Returns the number of bytes transferred for these files; `None` if no file had to be fetched.
fn transferred_bytes(files: &[DownloadedFile]) -> Option<u64> {
    sum(files.iter().filter_map(|file| file.transferred))
}

fn sum(bytes: impl Iterator<Item = u64>) -> Option<u64> {
    bytes.reduce(|one, other| one + other)
}
