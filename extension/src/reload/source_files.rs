//! Files of one model in its source: opening, version checks, and transfer into the cache.
//!
//! A file whose version the configuration pins is read in that version alone. If the disk has no space for a new file,
//! the active version's file can be evicted, since that version is in memory. The exception is an environment whose
//! memory does not hold two versions. There, the file is needed to restore the active version after a failed load.

use std::collections::HashMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

use super::Shared;
use super::error::CheckError;
use super::memory::{MemoryNeed, ModelBytes, may_evict_active};
use crate::cache::{CachedFile, FileRecord, Journal, RejectedFile};
use crate::fetch::{self, Compression, FetchError, Fetched, PartLimits};
use crate::growing_file::GrowingFile;
use crate::ids::{Digest, Expected, FilePath, Identity, ModelName};
use crate::source::{ModelFolder, NamedBy, Object, Opened, Source};

/// Maximum number of files of one model that are checked or fetched concurrently.
pub(super) const MAX_CONCURRENT_FILES: usize = 4;

/// Access to the files of one model.
pub(super) struct SourceFiles {
    pub(super) model: ModelName,
    /// Location as configured, for messages.
    pub(super) location: String,
    pub(super) folder: Box<dyn ModelFolder>,
    pub(super) shared: Shared,
    /// File that the configuration names; `None` for a repository.
    pub(super) configured: Option<FilePath>,
    /// Version of the configured file, where the configuration pins one.
    pub(super) pinned: Option<String>,
}

/// State of a file in the source.
pub(super) enum FileState {
    /// The content is the known one.
    Unchanged(FileRecord),
    /// The content differs from the known one, or none is known.
    Opened(Object),
    /// An earlier check has rejected the content, for this reason.
    Rejected(String, Identity),
}

impl FileState {
    /// Identity of the content.
    pub(super) fn identity(&self) -> &Identity {
        match self {
            FileState::Unchanged(record) => &record.identity,
            FileState::Opened(object) => &object.identity,
            FileState::Rejected(_, identity) => identity,
        }
    }
}

/// Content of a file, as compared with a known identity.
pub(super) enum Content {
    Known,
    Opened(Object),
    Rejected(String, Identity),
}

impl SourceFiles {
    /// Returns an error about the manifest at the configured location.
    pub(super) fn manifest_error(&self, reason: String) -> CheckError {
        CheckError::Manifest {
            location: self.location.clone(),
            reason,
        }
    }

    /// Returns the source of the file at `path`, in the pinned version where there is one.
    pub(super) fn source(&self, path: &FilePath) -> Result<Box<dyn Source>, CheckError> {
        let is_configured = self.configured.as_ref() == Some(path);
        if let Some(id) = self.pinned(path) {
            return Ok(self.folder.version(path, id)?);
        }
        let named = if is_configured {
            NamedBy::Configuration
        } else {
            NamedBy::Model
        };
        Ok(self.folder.file(path, named))
    }

    /// Returns the version in which the file at `path` is pinned.
    pub(super) fn pinned(&self, path: &FilePath) -> Option<&str> {
        let is_configured = self.configured.as_ref() == Some(path);
        self.pinned.as_deref().filter(|_| is_configured)
    }

    /// Checks whether the source still holds this file.
    pub(super) async fn check_file(
        &self,
        known: FileRecord,
        journal: &Journal,
    ) -> Result<(FilePath, FileState), CheckError> {
        let path = known.path.clone();
        let source = self.source(&path)?;
        let identity = Some(&known.identity);
        let content = self
            .open_unless_known(&*source, &path, identity, None, journal)
            .await?;
        let state = match content {
            Content::Known => FileState::Unchanged(known),
            Content::Opened(object) => FileState::Opened(object),
            Content::Rejected(reason, identity) => FileState::Rejected(reason, identity),
        };
        Ok((path, state))
    }

    /// Checks whether the source still holds these files. Returns their states if the content of at least one has
    /// changed.
    pub(super) async fn check_files(
        &self,
        known: Vec<FileRecord>,
        journal: &Journal,
    ) -> Result<Option<HashMap<FilePath, FileState>>, CheckError> {
        let checks = stream::iter(known.into_iter().map(|file| self.check_file(file, journal)));
        let states: Vec<_> = checks.buffered(MAX_CONCURRENT_FILES).try_collect().await?;
        let is_unchanged =
            |(_, state): &(FilePath, FileState)| matches!(state, FileState::Unchanged(_));
        if states.iter().all(is_unchanged) {
            return Ok(None);
        }
        Ok(Some(states.into_iter().collect()))
    }

    /// Opens the file at `path` without a condition.
    pub(super) async fn current_state(
        &self,
        path: &FilePath,
        journal: &Journal,
    ) -> Result<FileState, CheckError> {
        let source = self.source(path)?;
        let content = self.open_unless_known(&*source, path, None, None, journal);
        match content.await? {
            Content::Opened(object) => Ok(FileState::Opened(object)),
            Content::Rejected(reason, identity) => Ok(FileState::Rejected(reason, identity)),
            Content::Known => Err(CheckError::Unsteady),
        }
    }

    /// Opens the content that the source holds at `path`, unless an earlier check has rejected that content.
    pub(super) async fn open(
        &self,
        path: &FilePath,
        expected: Option<&Expected>,
        journal: &Journal,
    ) -> Result<Object, CheckError> {
        let source = self.source(path)?;
        let content = self.open_unless_known(&*source, path, None, expected, journal);
        match content.await? {
            Content::Opened(object) => Ok(object),
            Content::Rejected(reason, _) => Err(CheckError::RejectedContent(reason)),
            Content::Known => Err(CheckError::Unsteady),
        }
    }

    /// Opens the content at `path` unless the source still holds `known`. If the last content seen there was
    /// rejected, the request is conditional on that content, so that rejected content is never transferred again.
    pub(super) async fn open_unless_known(
        &self,
        source: &dyn Source,
        path: &FilePath,
        known: Option<&Identity>,
        expected: Option<&Expected>,
        journal: &Journal,
    ) -> Result<Content, CheckError> {
        let rejected = journal.current_rejection(path, expected);
        let condition = rejected.as_ref().map(|file| &file.identity).or(known);
        let object = match fetch::open(source, &self.shared.cache, condition).await? {
            Opened::Object(object) => object,
            Opened::Unchanged => {
                return Ok(match rejected {
                    Some(file) => Content::Rejected(file.reason, file.identity),
                    None => Content::Known,
                });
            }
        };
        journal.set_source_identity(path, &object.identity);
        let reason = journal.file_rejection_reason(path, &object.identity, expected);
        Ok(match reason {
            Some(reason) => Content::Rejected(reason, object.identity),
            None if known == Some(&object.identity) => Content::Known,
            None => Content::Opened(object),
        })
    }

    /// Opens the present content of `source`, whether it was rejected before or not.
    pub(super) async fn open_from(&self, source: &dyn Source) -> Result<Object, CheckError> {
        match fetch::open(source, &self.shared.cache, None).await? {
            Opened::Object(object) => Ok(object),
            Opened::Unchanged => Err(CheckError::Unsteady),
        }
    }

    /// Fetches the opened content of the file at `path` into the cache. Content that fails verification is noted as
    /// rejected.
    pub(super) async fn fetch(
        &self,
        path: &FilePath,
        object: Object,
        expected: Option<&Expected>,
        parts: PartLimits,
        journal: &Journal,
        growing: Option<UnboundedSender<GrowingFile>>,
    ) -> Result<Fetched, CheckError> {
        let source = self.source(path)?;
        let fetched = self.fetch_from(&*source, path, object, expected, parts, growing);
        note_rejection(path, expected, true, journal, fetched.await)
    }

    /// Fetches opened content of `source`, which may be an earlier version of the file at `path`. Notes nothing.
    pub(super) async fn fetch_from(
        &self,
        source: &dyn Source,
        path: &FilePath,
        object: Object,
        expected: Option<&Expected>,
        parts: PartLimits,
        growing: Option<UnboundedSender<GrowingFile>>,
    ) -> Result<Fetched, CheckError> {
        let request = |object| fetch::FetchRequest {
            source,
            object,
            expected,
            compression: Compression::of(path),
            growing: growing.clone(),
        };
        let context = fetch::FetchContext {
            cache: &self.shared.cache,
            parts,
            thaws: &self.shared.thaws,
            clock: &*self.shared.clock,
        };
        match fetch::fetch(request(object), context).await {
            Err(FetchError::InsufficientSpace(space)) if self.needs_active_file(space.required) => {
                Err(CheckError::InsufficientSpace(space))
            }
            Err(FetchError::InsufficientSpace(space)) if self.evict_active_file(space.required) => {
                let object = self.open_from(source).await?;
                Ok(fetch::fetch(request(object), context).await?)
            }
            fetched => Ok(fetched?),
        }
    }

    /// Returns `true` if the active version's file must stay to restore that version: a new version of `needs` bytes
    /// would be loaded in its place.
    fn needs_active_file(&self, needs: u64) -> bool {
        let memory = &self.shared.memory;
        let need = MemoryNeed {
            new: ModelBytes::of_bytes(needs),
            active: None,
        };
        let is_active = self.shared.models.current(&self.model).is_some();
        is_active && !may_evict_active(memory.mode, &need, memory.probe.free())
    }

    /// Evicts the active version's file, if that frees `needs` bytes. Mapped files stay, since their removal would free
    /// nothing.
    fn evict_active_file(&self, needs: u64) -> bool {
        let model = &self.model;
        let Some(active) = self.shared.models.current(model) else {
            return false;
        };
        let files = [active.digest.clone()];
        let is_evicted = self.shared.cache.free_space(needs, &files).is_ok();
        if is_evicted {
            let (version, digest) = (&active.version, &active.digest);
            warn!(%model, %version, %digest, "the disk has no space for two versions; evicted the active version's file");
        }
        is_evicted
    }

    /// Returns the file of this digest, if it is in the cache.
    pub(super) async fn find_cached(&self, digest: &Digest) -> Option<CachedFile> {
        let (cache, digest) = (self.shared.cache.clone(), digest.clone());
        let find = move || cache.find(&digest);
        tokio::task::spawn_blocking(find).await.ok().flatten()
    }
}

/// Notes content that failed verification as rejected, so that it is not fetched again. `is_current`: the source holds
/// the content now.
pub(super) fn note_rejection(
    path: &FilePath,
    expected: Option<&Expected>,
    is_current: bool,
    journal: &Journal,
    fetched: Result<Fetched, CheckError>,
) -> Result<Fetched, CheckError> {
    if let Err(CheckError::Fetch(FetchError::Rejected { identity, fault })) = &fetched {
        journal.reject_file(RejectedFile {
            path: path.clone(),
            identity: identity.clone(),
            expected: expected.cloned(),
            reason: fault.public(),
            is_current,
        });
    }
    fetched
}
