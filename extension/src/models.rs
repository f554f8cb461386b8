//! Active version of each model, and the swap.
//!
//! A request takes the active version once, at its start, and finishes on it, even if another version is activated in
//! between. The swap is one atomic exchange. A version is dropped on a dedicated thread when its last request is done,
//! since dropping a session can take longer than a response.
//!
//! Where memory does not hold two versions, the active one is [drained](Models::begin_drain) first. The model then
//! has no active version until the next swap, and new requests wait for it.

mod drain;
#[cfg(test)]
pub(crate) mod stub;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::drift::DriftWindow;
use crate::engine::{Cancel, EngineError, Session};
use crate::ids::{Digest, ModelName, VersionName};
use crate::manifest::VersionLabels;
use crate::tensor::{SharedDimensions, Signature, Value};
pub use drain::Drain;

/// Names and identity of one load of a version.
#[derive(Clone, Debug)]
pub struct LoadedVersion {
    /// The model.
    pub name: ModelName,
    /// Public name of the version, which does not identify it.
    pub version: VersionName,
    /// Version labels of the last manifest; empty without a manifest.
    pub labels: Arc<VersionLabels>,
    /// Digest of its files: the identity of the version.
    pub digest: Digest,
    /// Time of the load.
    pub loaded_at: Timestamp,
    /// Drift of the served rows; `None` if it is not measured.
    pub drift: Option<Arc<DriftWindow>>,
}

/// Loaded version of a model. Immutable: renaming a version creates another `LoadedModel` of the same session.
pub struct LoadedModel {
    of: LoadedVersion,
    headers: VersionHeaders,
    session: Arc<LoadedSession>,
}

/// Durations of the steps of a load, which followed each other until the version was active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadSteps {
    /// Download of the files; `None` if the cache had all of them.
    pub fetch: Option<Duration>,
    /// Wait for the engine, and load.
    pub load: Duration,
    /// Runs of the manifest's golden examples; `None` without any.
    pub warm_up: Option<Duration>,
}

/// Header values that name a version in every response, shared instead of copied.
#[derive(Clone, Debug)]
pub struct VersionHeaders {
    /// Name of the model.
    pub name: Option<HeaderValue>,
    /// Name of the version.
    pub version: Option<HeaderValue>,
    /// Digest of its files.
    pub digest: Option<HeaderValue>,
}

/// Session that is dropped when its last request is done.
struct LoadedSession {
    /// `None` only in `drop`.
    session: Option<Box<dyn Session>>,
    /// Steps of the load, if requests had to wait for it.
    steps: Option<LoadSteps>,
    /// `true` until a response has reported the steps.
    is_unreported: AtomicBool,
    /// Closed after the session is dropped: signals that its memory is free.
    gone: watch::Sender<()>,
}

impl Deref for LoadedModel {
    type Target = LoadedVersion;

    fn deref(&self) -> &LoadedVersion {
        &self.of
    }
}

impl LoadedModel {
    /// Returns a version that is ready to be activated.
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
            drift: None,
        };
        let session = LoadedSession {
            session: Some(session),
            steps: None,
            is_unreported: AtomicBool::new(false),
            gone: watch::Sender::default(),
        };
        Self::sharing(of, Arc::new(session))
    }

    /// Returns the version with the labels of a manifest.
    #[must_use]
    pub fn with_labels(mut self, labels: VersionLabels) -> Self {
        self.of.labels = Arc::new(labels);
        self
    }

    /// Returns the version with the window in which its drift is measured.
    #[must_use]
    pub fn with_drift(mut self, drift: Option<DriftWindow>) -> Self {
        self.of.drift = drift.map(Arc::new);
        self
    }

    /// Returns the version with the steps of its load, which its first response reports.
    #[must_use]
    pub fn with_steps(mut self, steps: Option<LoadSteps>) -> Self {
        if let Some(session) = Arc::get_mut(&mut self.session) {
            session.steps = steps;
            session.is_unreported = AtomicBool::new(steps.is_some());
        }
        self
    }

    /// Returns the steps of the load once; `None` from then on, and if no request had to wait for the load.
    #[must_use]
    pub fn take_steps(&self) -> Option<LoadSteps> {
        let unreported = &self.session.is_unreported;
        // Most requests only read the flag.
        let is_first =
            unreported.load(Ordering::Relaxed) && unreported.swap(false, Ordering::Relaxed);
        self.session.steps.filter(|_| is_first)
    }

    fn sharing(of: LoadedVersion, session: Arc<LoadedSession>) -> Self {
        let value = |text: &str| {
            let text = Bytes::copy_from_slice(text.as_bytes());
            HeaderValue::from_maybe_shared(text).ok()
        };
        let headers = VersionHeaders {
            name: value(of.name.as_str()),
            version: value(of.version.as_str()),
            digest: value(of.digest.as_str()),
        };
        Self {
            of,
            headers,
            session,
        }
    }

    /// Returns the header values that name the version in a response.
    #[must_use]
    pub fn headers(&self) -> &VersionHeaders {
        &self.headers
    }

    /// Returns the model's inputs and outputs.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        self.session.get().signature()
    }

    /// Returns the dimensions that several inputs share.
    #[must_use]
    pub fn shared_dimensions(&self) -> &SharedDimensions {
        self.session.get().shared_dimensions()
    }

    /// Returns whether the shapes of the inputs determine the work of a run; see [`Session::has_fixed_work`].
    #[must_use]
    pub fn has_fixed_work(&self) -> bool {
        self.session.get().has_fixed_work()
    }

    /// Runs the model; see [`Session::run`].
    pub fn run(
        &self,
        inputs: &[(String, Value)],
        outputs: &[String],
        cancel: &Cancel,
    ) -> RunResult {
        self.session.get().run(inputs, outputs, cancel)
    }

    /// Makes the next run release spare memory; see [`Session::release_spare_memory`].
    pub fn release_spare_memory(&self) {
        self.session.get().release_spare_memory();
    }

    /// Releases spare memory immediately; see [`Session::shrink`].
    pub fn shrink(&self) {
        self.session.get().shrink();
    }

    /// Returns the session, for the validation of a version that is already active.
    #[must_use]
    pub fn session(&self) -> &dyn Session {
        self.session.get()
    }
}

impl LoadedSession {
    #[expect(
        clippy::expect_used,
        reason = "only drop takes the session, after which this cannot be called"
    )]
    fn get(&self) -> &dyn Session {
        self.session
            .as_deref()
            .expect("a loaded model has its session until it is dropped")
    }
}

/// Outputs of a run by name, in the requested order.
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
        // If no thread can be started, `spawn` drops the closure, and with it the session, on this thread.
        let _ = std::thread::Builder::new()
            .name("drop-session".to_owned())
            .spawn(release);
    }
}

/// Models of this execution environment; the set is fixed at the start.
pub struct Models {
    current: BTreeMap<ModelName, RwLock<Option<Arc<LoadedModel>>>>,
}

impl Models {
    /// Returns the set of these models, without an active version yet.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = ModelName>) -> Self {
        Self {
            current: names
                .into_iter()
                .map(|name| (name, RwLock::default()))
                .collect(),
        }
    }

    /// Returns the names of all models.
    pub fn names(&self) -> impl Iterator<Item = &ModelName> {
        self.current.keys()
    }

    /// Returns the model of this name, if this environment serves it.
    #[must_use]
    pub fn name(&self, name: &str) -> Option<&ModelName> {
        self.current.keys().find(|known| known.as_str() == name)
    }

    /// Returns the only model; `None` if there are several.
    #[must_use]
    pub fn only(&self) -> Option<&ModelName> {
        let mut names = self.current.keys();
        names.next().filter(|_| names.next().is_none())
    }

    /// Returns the active version.
    #[must_use]
    pub fn current(&self, model: &ModelName) -> Option<Arc<LoadedModel>> {
        let slot = self.current.get(model)?;
        slot.read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Makes `loaded` the active version of its model.
    pub fn swap(&self, loaded: LoadedModel) {
        let name = loaded.name.clone();
        drop(self.exchange(&name, Some(Arc::new(loaded))));
    }

    /// Gives the active version of a model this name and these labels. Running requests keep the former ones.
    pub fn rename(&self, model: &ModelName, version: VersionName, labels: VersionLabels) {
        self.describe(model, |of| {
            (of.version, of.labels) = (version, Arc::new(labels));
        });
    }

    /// Measures the drift of the active version in this window from now on. Running requests keep the former one.
    pub fn measure_drift(&self, model: &ModelName, drift: Option<DriftWindow>) {
        self.describe(model, |of| of.drift = drift.map(Arc::new));
    }

    /// Changes the description of the active version, with the same session.
    fn describe(&self, model: &ModelName, change: impl FnOnce(&mut LoadedVersion)) {
        let Some(slot) = self.current.get(model) else {
            return;
        };
        let mut slot = slot
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(loaded) = slot.as_mut() {
            let mut of = loaded.of.clone();
            change(&mut of);
            *loaded = Arc::new(LoadedModel::sharing(of, Arc::clone(&loaded.session)));
        }
    }

    /// Removes the active version of a model; the model has none until the next [`swap`](Self::swap) or
    /// [`restore`](Self::restore). Returns `None` if no version was active.
    #[must_use]
    pub fn begin_drain(&self, model: &ModelName) -> Option<Drain> {
        let loaded = self.exchange(model, None)?;
        Some(Drain::new(&loaded))
    }

    /// Makes a version whose drain was given up active again.
    pub fn restore(&self, loaded: Arc<LoadedModel>) {
        let name = loaded.name.clone();
        drop(self.exchange(&name, Some(loaded)));
    }

    fn exchange(
        &self,
        model: &ModelName,
        loaded: Option<Arc<LoadedModel>>,
    ) -> Option<Arc<LoadedModel>> {
        let slot = self.current.get(model)?;
        let mut slot = slot
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::replace(&mut *slot, loaded)
    }
}
