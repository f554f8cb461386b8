//! One file of a model: where it is read, and how it comes into the cache.
//!
//! A file that the configuration pins is read in that version alone. Where there is no room on the disk for a new file,
//! that of the version that answers can go, since it is in memory; unless memory does not bear two versions either, and
//! it is what there is to return to.

use tracing::warn;

use super::CheckError;
use super::gather::Gatherer;
use super::memory::{Need, Weights, may_give_up};
use crate::cache::{CachedFile, Journal, RejectedFile};
use crate::config::Form;
use crate::fetch::{self, Compression, FetchError, Fetched, PartLimits};
use crate::ids::{Digest, Expected, FilePath, Identity};
use crate::manifest::Choice;
use crate::source::{NamedBy, Object, Opened, Source};

/// What a source holds at a path.
pub(super) enum Content {
    /// What was asked about.
    Known,
    /// Something else.
    Object(Object),
    /// Content that is rejected, and why.
    Rejected(String, Identity),
}

impl Gatherer<'_> {
    /// Opens what the source holds at `path`, unless that is known to be of no use.
    pub(super) async fn open_anew(
        &self,
        path: &FilePath,
        expected: Option<&Expected>,
        journal: &Journal,
    ) -> Result<Object, CheckError> {
        let source = self.source(path)?;
        match self
            .ask_for(&*source, path, None, expected, journal)
            .await?
        {
            Content::Object(object) => Ok(object),
            Content::Rejected(reason, _) => Err(CheckError::Rejected(reason)),
            Content::Known => Err(CheckError::Unsteady),
        }
    }

    /// Asks whether the source still holds `known` at `path`. Where the last that was seen there is rejected, that is what
    /// the question names, so that rejected content is never transferred again.
    pub(super) async fn ask_for(
        &self,
        source: &dyn Source,
        path: &FilePath,
        known: Option<&Identity>,
        expected: Option<&Expected>,
        journal: &Journal,
    ) -> Result<Content, CheckError> {
        let rejected = journal.current_rejection(path, expected);
        let asked = rejected.as_ref().map(|file| &file.identity).or(known);
        let object = match fetch::open(source, &self.shared.cache, asked).await? {
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
            None => Content::Object(object),
        })
    }

    pub(super) async fn open_from(&self, source: &dyn Source) -> Result<Object, CheckError> {
        match fetch::open(source, &self.shared.cache, None).await? {
            Opened::Object(object) => Ok(object),
            Opened::Unchanged => Err(CheckError::Unsteady),
        }
    }

    /// Which version of the object at `path` is to run, where the configuration names one.
    pub(super) fn pinned(&self, path: &FilePath) -> Option<&str> {
        match (&self.settings.form, &self.settings.choice) {
            (Form::Model(configured), Choice::Version(id)) if configured == path => Some(id),
            _ => None,
        }
    }

    pub(super) fn source(&self, path: &FilePath) -> Result<Box<dyn Source>, CheckError> {
        if let Some(id) = self.pinned(path) {
            return Ok(self.place.version(path, id)?);
        }
        let named = match &self.settings.form {
            Form::Model(configured) | Form::Manifest(configured) if configured == path => {
                NamedBy::Configuration
            }
            _ => NamedBy::Model,
        };
        Ok(self.place.file(path, named))
    }

    pub(super) async fn fetch(
        &self,
        path: &FilePath,
        object: Object,
        expected: Option<&Expected>,
        parts: PartLimits,
        journal: &Journal,
    ) -> Result<Fetched, CheckError> {
        let source = self.source(path)?;
        let fetched = self.fetch_from(&*source, path, object, expected, parts);
        Self::remember(path, expected, true, journal, fetched.await)
    }

    /// Notes content that is rejected, so that it is not fetched again.
    pub(super) fn remember(
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

    /// As [`Self::fetch`], where the source of `path` is not that of its present version; nothing is noted.
    pub(super) async fn fetch_from(
        &self,
        source: &dyn Source,
        path: &FilePath,
        object: Object,
        expected: Option<&Expected>,
        parts: PartLimits,
    ) -> Result<Fetched, CheckError> {
        let request = |object| fetch::FetchRequest {
            source,
            object,
            expected,
            compression: Compression::of(path),
        };
        let context = fetch::FetchContext {
            cache: &self.shared.cache,
            parts,
            thaws: &self.shared.thaws,
            clock: &*self.shared.clock,
        };
        match fetch::fetch(request(object), context).await {
            Err(FetchError::InsufficientSpace(room)) if self.must_stay(room.required) => {
                Err(CheckError::InsufficientSpace(room))
            }
            Err(FetchError::InsufficientSpace(room)) if self.gives_up(room.required) => {
                let object = self.open_from(source).await?;
                Ok(fetch::fetch(request(object), context).await?)
            }
            fetched => Ok(fetched?),
        }
    }

    /// Whether the file of the version that answers is what there is to return to, because a new one of `needs` bytes
    /// would have to take its place in memory.
    fn must_stay(&self, needs: u64) -> bool {
        let memory = &self.shared.memory;
        let need = Need {
            new: Weights::of_bytes(needs),
            old: None,
        };
        let answers = self.shared.models.current(&self.settings.name).is_some();
        answers && !may_give_up(memory.mode, &need, memory.probe.free())
    }

    /// Where the disk cannot hold two versions, the file of the one that answers can go: it is in memory. One whose
    /// files are mapped stays, since that would free nothing.
    fn gives_up(&self, needs: u64) -> bool {
        let model = &self.settings.name;
        let Some(loaded) = self.shared.models.current(model) else {
            return false;
        };
        let files = [loaded.digest.clone()];
        let gone = self.shared.cache.free_space(needs, &files).is_ok();
        if gone {
            let (version, digest) = (&loaded.version, &loaded.digest);
            warn!(%model, %version, %digest, "there is no room for two versions: the file of the one that answers goes");
        }
        gone
    }

    pub(super) async fn find(&self, digest: &Digest) -> Option<CachedFile> {
        let (cache, digest) = (self.shared.cache.clone(), digest.clone());
        let find = move || cache.find(&digest);
        tokio::task::spawn_blocking(find).await.ok().flatten()
    }
}
