//! Which version of each model answers, and the swap.
//!
//! A request takes the current version once, at its start, and finishes on it, whatever happens meanwhile. The
//! swap is one atomic exchange. A version is dropped when its last request is done, on a thread of its own,
//! since taking a session apart can take longer than an answer.
//!
//! Where memory cannot bear two versions, the one that answers is [taken out](Models::take_out) first. Until another
//! is swapped in there is none then, and requests that begin have to wait for it.

mod leaving;

use std::sync::{Arc, RwLock};

use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::engine::{Cancel, EngineError, Session};
use crate::ids::{ByName, Digest, ModelName, Version};
use crate::tensor::{Signature, Value};
pub use leaving::Leaving;

/// One loaded version of a model.
pub struct Loaded {
    /// The model.
    pub name: ModelName,
    /// Which version of it.
    pub version: Version,
    /// The digest of its files.
    pub digest: Digest,
    /// When it was loaded.
    pub loaded_at: Timestamp,
    /// Taken out only by `drop`.
    session: Option<Box<dyn Session>>,
    /// Goes with the session, and after it: whoever watches learns that its memory is free.
    gone: watch::Sender<()>,
}

impl Loaded {
    /// A version that is ready to answer.
    #[must_use]
    pub fn new(
        name: ModelName,
        version: Version,
        digest: Digest,
        loaded_at: Timestamp,
        session: Box<dyn Session>,
    ) -> Self {
        Self {
            name,
            version,
            digest,
            loaded_at,
            session: Some(session),
            gone: watch::Sender::default(),
        }
    }

    /// Its inputs and outputs.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        self.session().signature()
    }

    /// Whether what a run does follows from the shapes of its inputs; see [`Session::has_fixed_work`].
    #[must_use]
    pub fn has_fixed_work(&self) -> bool {
        self.session().has_fixed_work()
    }

    /// Runs it; see [`Session::run`].
    pub fn run(
        &self,
        inputs: &[(String, Value)],
        outputs: &[String],
        cancel: &Cancel,
    ) -> RunResult {
        self.session().run(inputs, outputs, cancel)
    }

    /// Has the next run give memory back; see [`Session::release_spare_memory`].
    pub fn release_spare_memory(&self) {
        self.session().release_spare_memory();
    }

    /// Gives memory back at once; see [`Session::shrink`].
    pub fn shrink(&self) {
        self.session().shrink();
    }

    #[expect(
        clippy::expect_used,
        reason = "the session leaves only in drop, after which nobody can call this"
    )]
    fn session(&self) -> &dyn Session {
        self.session
            .as_deref()
            .expect("a loaded model has its session until it is dropped")
    }
}

/// The outputs of a run by name, in the order in which they were asked for.
pub type RunResult = Result<Vec<(String, Value)>, EngineError>;

impl Drop for Loaded {
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

    /// From here on nothing answers for the model, until the next [`swap`](Self::swap) or
    /// [`put_back`](Self::put_back). `None` when nothing did before.
    #[must_use]
    pub fn take_out(&self, model: &ModelName) -> Option<Leaving> {
        let loaded = self.exchange(model, None)?;
        Some(Leaving::new(&loaded))
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
