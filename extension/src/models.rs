//! Which version of each model answers, and the swap.
//!
//! A request takes the current version once, at its start, and finishes on it, whatever happens meanwhile. The
//! swap is one atomic exchange. A version is dropped when its last request is done, on a thread of its own,
//! since taking a session apart can take longer than an answer.
//!
//! Where memory cannot bear two versions, the one that answers is [taken out](Models::take_out) first. Until another
//! is swapped in there is none then, and requests that begin have to wait for it.

mod drain;

use std::ops::Deref;
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::engine::{Cancel, EngineError, Session};
use crate::ids::{ByName, Digest, ModelName, VersionName};
use crate::manifest::VersionLabels;
use crate::tensor::{SharedDimensions, Signature, Value};
pub use drain::Drain;

/// Names and identity of one load of a version.
#[derive(Clone, Debug)]
pub struct LoadedVersion {
    /// The model.
    pub name: ModelName,
    /// Public name of the version, which is no identity.
    pub version: VersionName,
    /// What the last manifest calls its versions; empty without a manifest.
    pub labels: Arc<VersionLabels>,
    /// The digest of its files, which is the version's identity.
    pub digest: Digest,
    /// When it was loaded.
    pub loaded_at: Timestamp,
}

/// One loaded version of a model. It never changes: a version that is renamed is another `Loaded` of the same session.
pub struct Loaded {
    of: LoadedVersion,
    texts: Texts,
    session: Arc<LoadedSession>,
}

/// Texts that name a version in every response, in a form that is shared instead of copied.
#[derive(Clone, Debug)]
pub struct Texts {
    /// Name of the model.
    pub name: Bytes,
    /// Name of the version.
    pub version: Bytes,
    /// Digest of its files.
    pub digest: Bytes,
}

/// A session, until the last request on it is done.
struct LoadedSession {
    /// Taken out only by `drop`.
    session: Option<Box<dyn Session>>,
    /// Goes with the session, and after it: whoever watches learns that its memory is free.
    gone: watch::Sender<()>,
}

impl Deref for Loaded {
    type Target = LoadedVersion;

    fn deref(&self) -> &LoadedVersion {
        &self.of
    }
}

impl Loaded {
    /// A version that is ready to answer.
    #[must_use]
    pub fn new(
        name: ModelName,
        version: VersionName,
        digest: Digest,
        loaded_at: Timestamp,
        session: Box<dyn Session>,
    ) -> Self {
        let of = LoadedVersion {
            name,
            version,
            labels: Arc::default(),
            digest,
            loaded_at,
        };
        let session = LoadedSession {
            session: Some(session),
            gone: watch::Sender::default(),
        };
        Self::sharing(of, Arc::new(session))
    }

    /// As it is, with the labels that a manifest gives its versions.
    #[must_use]
    pub fn with_labels(mut self, labels: VersionLabels) -> Self {
        self.of.labels = Arc::new(labels);
        self
    }

    fn sharing(of: LoadedVersion, session: Arc<LoadedSession>) -> Self {
        let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let texts = Texts {
            name: text(of.name.as_str()),
            version: text(of.version.as_str()),
            digest: text(of.digest.as_str()),
        };
        Self { of, texts, session }
    }

    /// Texts that name it in a response.
    #[must_use]
    pub fn texts(&self) -> &Texts {
        &self.texts
    }

    /// Its inputs and outputs.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        self.session.get().signature()
    }

    /// The dimensions that several of its inputs share.
    #[must_use]
    pub fn shared_dimensions(&self) -> &SharedDimensions {
        self.session.get().shared_dimensions()
    }

    /// Whether what a run does follows from the shapes of its inputs; see [`Session::has_fixed_work`].
    #[must_use]
    pub fn has_fixed_work(&self) -> bool {
        self.session.get().has_fixed_work()
    }

    /// Runs it; see [`Session::run`].
    pub fn run(
        &self,
        inputs: &[(String, Value)],
        outputs: &[String],
        cancel: &Cancel,
    ) -> RunResult {
        self.session.get().run(inputs, outputs, cancel)
    }

    /// Has the next run give memory back; see [`Session::release_spare_memory`].
    pub fn release_spare_memory(&self) {
        self.session.get().release_spare_memory();
    }

    /// Gives memory back at once; see [`Session::shrink`].
    pub fn shrink(&self) {
        self.session.get().shrink();
    }

    /// The session itself, for the validation of a version that is active already.
    #[must_use]
    pub fn session(&self) -> &dyn Session {
        self.session.get()
    }
}

impl LoadedSession {
    #[expect(
        clippy::expect_used,
        reason = "the session leaves only in drop, after which nobody can call this"
    )]
    fn get(&self) -> &dyn Session {
        self.session
            .as_deref()
            .expect("a loaded model has its session until it is dropped")
    }
}

/// The outputs of a run by name, in the order in which they were asked for.
pub type RunResult = Result<Vec<(String, Value)>, EngineError>;

impl Drop for LoadedSession {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        let gone = std::mem::take(&mut self.gone);
        let release = move || {
            drop(session);
            crate::sys::release_freed_memory();
            drop(gone);
        };
        // Without a thread to be had, `spawn` drops the closure and with it the session, here.
        let _ = std::thread::Builder::new()
            .name("drop-session".to_owned())
            .spawn(release);
    }
}

/// The models of this execution environment. Which there are is fixed at the start.
pub struct Models {
    current: ByName<RwLock<Option<Arc<Loaded>>>>,
}

impl Models {
    /// Places for these models, nothing loaded yet.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = ModelName>) -> Self {
        Self {
            current: names
                .into_iter()
                .map(|name| (name, RwLock::default()))
                .collect(),
        }
    }

    /// Every model's name.
    pub fn names(&self) -> impl Iterator<Item = &ModelName> {
        self.current.names()
    }

    /// The model of this name, if it is served here.
    #[must_use]
    pub fn name(&self, name: &str) -> Option<&ModelName> {
        self.current.names().find(|known| known.as_str() == name)
    }

    /// The one model, where there is just one.
    #[must_use]
    pub fn only(&self) -> Option<&ModelName> {
        let mut names = self.current.names();
        names.next().filter(|_| names.next().is_none())
    }

    /// The version that answers now.
    #[must_use]
    pub fn current(&self, model: &ModelName) -> Option<Arc<Loaded>> {
        let slot = self.current.get(model)?;
        slot.read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// From here on `loaded` answers for its model.
    pub fn swap(&self, loaded: Loaded) {
        let name = loaded.name.clone();
        drop(self.exchange(&name, Some(Arc::new(loaded))));
    }

    /// Gives the active version of a model this name and these labels. Requests that run keep those with which they
    /// began.
    pub fn rename(&self, model: &ModelName, version: VersionName, labels: VersionLabels) {
        let Some(slot) = self.current.get(model) else {
            return;
        };
        let mut slot = slot
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(loaded) = slot.as_mut() {
            let of = LoadedVersion {
                version,
                labels: Arc::new(labels),
                ..loaded.of.clone()
            };
            *loaded = Arc::new(Loaded::sharing(of, Arc::clone(&loaded.session)));
        }
    }

    /// From here on nothing answers for the model, until the next [`swap`](Self::swap) or
    /// [`put_back`](Self::put_back). `None` when nothing did before.
    #[must_use]
    pub fn take_out(&self, model: &ModelName) -> Option<Drain> {
        let loaded = self.exchange(model, None)?;
        Some(Drain::new(&loaded))
    }

    /// What was taken out answers again.
    pub fn put_back(&self, loaded: Arc<Loaded>) {
        let name = loaded.name.clone();
        drop(self.exchange(&name, Some(loaded)));
    }

    fn exchange(&self, model: &ModelName, loaded: Option<Arc<Loaded>>) -> Option<Arc<Loaded>> {
        let slot = self.current.get(model)?;
        let mut slot = slot
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::replace(&mut *slot, loaded)
    }
}
