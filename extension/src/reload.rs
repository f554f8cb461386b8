//! Is there a new version, can it be had, does it load: then it answers, and otherwise nothing changes.
//!
//! One [`Reloader`] for each model. A check is one conditional request; what it finds is fetched, loaded beside
//! the version that answers, and swapped in. Any failure leaves the version that answers as it is, is counted,
//! logged with its reason, and shown in the status. Bytes that could not be loaded are not fetched again until
//! the source changes. At a start, a file in the cache that the source confirms is loaded without a transfer,
//! and one that the source cannot be asked about is loaded all the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, OnceCell, oneshot};
use tracing::{error, info, warn};

use crate::cache::{Cache, CacheError, KeptFile, Record};
use crate::clock::Clock;
use crate::config::ModelSettings;
use crate::engine::{Engine, EngineError, Session};
use crate::fetch::{FetchError, Fetched, fetch};
use crate::ids::{Digest, Identity, Version};
use crate::metrics::defs;
use crate::models::{Loaded, Models};
use crate::source::{Object, Opened, Source, SourceError};
use crate::status::Status;

/// How often a transfer that breaks is begun anew within one check.
const FETCH_ATTEMPTS: u32 = 3;
/// The pause before the second attempt; it doubles.
const FETCH_PAUSE: Duration = Duration::from_millis(100);

/// Opens the engine on a thread, once, when it is first asked for.
pub struct EngineSlot {
    open: Box<dyn Fn() -> Result<Arc<dyn Engine>, EngineError> + Send + Sync>,
    cell: OnceCell<(Arc<dyn Engine>, Duration)>,
}

impl EngineSlot {
    /// A slot whose engine `open` opens.
    #[must_use]
    pub fn new(
        open: impl Fn() -> Result<Arc<dyn Engine>, EngineError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            open: Box::new(open),
            cell: OnceCell::new(),
        })
    }

    /// The engine, and how long it took to open. Whoever asks while it opens waits for the same.
    pub async fn get(self: &Arc<Self>) -> Result<(Arc<dyn Engine>, Duration), EngineError> {
        let open = || async {
            let slot = Arc::clone(self);
            let started = Instant::now();
            let engine = on_thread("open-engine", move || (slot.open)()).await??;
            Ok((engine, started.elapsed()))
        };
        self.cell.get_or_try_init(open).await.cloned()
    }
}

/// Runs `work` on a thread of its own.
async fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, EngineError> {
    let (done, result) = oneshot::channel();
    let failed = |reason: String| EngineError::Thread(reason);
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _ = done.send(work());
        })
        .map_err(|error| failed(error.to_string()))?;
    result
        .await
        .map_err(|_| failed("the thread ended without a result".to_owned()))
}

/// What the reloaders of one execution environment share.
#[derive(Clone)]
pub struct Shared {
    /// Where files are kept.
    pub cache: Cache,
    /// What loads them.
    pub engine: Arc<EngineSlot>,
    /// Where what is loaded goes.
    pub models: Arc<Models>,
    /// Where all of it is shown.
    pub status: Arc<Status>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Keeps one model current.
pub struct Reloader {
    settings: ModelSettings,
    source: Box<dyn Source>,
    shared: Shared,
    state: Mutex<State>,
}

/// What is known of the source.
#[derive(Default)]
struct State {
    /// What it held when it last answered, whether that could be loaded or not.
    seen: Option<Identity>,
    /// Bytes that could not be loaded.
    refused: Option<Digest>,
}

/// What a check did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The version that answers is the newest.
    Current,
    /// Another version answers now.
    Loaded(Steps),
    /// The check failed; what answered before still does.
    Failed,
}

/// How long each step of a load took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Looking into the cache.
    pub cache: Duration,
    /// From the question to the source until its answer.
    pub ask: Duration,
    /// The transfer; `None` when the cache had the file.
    pub fetch: Option<Duration>,
    /// The file's length in bytes.
    pub bytes: u64,
    /// Waiting for the engine, and loading.
    pub load: Duration,
}

#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("{0}")]
    Source(#[from] SourceError),
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("{0}")]
    Cache(#[from] CacheError),
    #[error("{0}")]
    Engine(#[from] EngineError),
    #[error("the new content has the same bytes as a version that could not be loaded")]
    Refused,
}

/// A file that is here and may be loaded, and what will be recorded of it when it was.
type Candidate = (Record, KeptFile);

impl Reloader {
    /// A reloader for the model of `settings`, which `source` holds.
    #[must_use]
    pub fn new(settings: ModelSettings, source: Box<dyn Source>, shared: Shared) -> Self {
        Self {
            settings,
            source,
            shared,
            state: Mutex::default(),
        }
    }

    /// Asks the source, and brings in what it has that is new. While one check is under way a second one only
    /// waits for it to end.
    pub async fn check(&self) -> Outcome {
        let Ok(mut state) = self.state.try_lock() else {
            drop(self.state.lock().await);
            return Outcome::Current;
        };
        let (name, shared) = (&self.settings.name, &self.shared);
        shared.status.update(name, |status| status.busy = true);
        let result = self.attempt(&mut state).await;
        drop(state);
        let now = shared.clock.now();
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(problem) => {
                self.report(&problem);
                shared
                    .status
                    .update(name, |status| status.problem = Some(problem.to_string()));
                Outcome::Failed
            }
        };
        shared.status.update(name, |status| {
            status.busy = false;
            status.attempts += 1;
            status.attempted_at = Some(now);
        });
        outcome
    }

    fn report(&self, problem: &CheckError) {
        let model = self.settings.name.as_str();
        let metric = match problem {
            CheckError::Source(_) => defs::MODEL_CHECK_FAILURES,
            _ => defs::MODEL_RELOAD_FAILURES,
        };
        metrics::counter!(metric, defs::MODEL_LABEL => model.to_owned()).increment(1);
        match self.shared.models.current(&self.settings.name) {
            Some(current) => {
                warn!(model, version = %current.version, "the version that answers stays: {problem}");
            }
            None => error!(model, "nothing is loaded: {problem}"),
        }
    }

    async fn attempt(&self, state: &mut State) -> Result<Outcome, CheckError> {
        let name = &self.settings.name;
        let loaded = self.shared.models.current(name).is_some();
        let started = Instant::now();
        let mut cached = if loaded || state.seen.is_some() {
            None
        } else {
            self.find_in_cache().await
        };
        let mut steps = Steps {
            cache: started.elapsed(),
            ..Steps::default()
        };
        let known = state
            .seen
            .clone()
            .or_else(|| cached.as_ref().map(|(record, _)| record.identity.clone()));
        let asked = Instant::now();
        let opened = self.source.open(known.as_ref()).await;
        steps.ask = asked.elapsed();
        let candidate = match opened {
            Ok(Opened::Object(object)) => {
                let fetched = self.fetch(object, known.as_ref()).await?;
                steps.fetch = Some(fetched.elapsed);
                if state.refused.as_ref() == Some(&fetched.digest) {
                    state.seen = Some(fetched.identity);
                    return Err(CheckError::Refused);
                }
                let Fetched {
                    identity,
                    digest,
                    size,
                    file,
                    ..
                } = fetched;
                (
                    Record {
                        location: self.settings.location.to_string(),
                        identity,
                        size,
                        digest,
                    },
                    file,
                )
            }
            Ok(Opened::Unchanged) => {
                self.confirmed(state);
                let Some(cached) = cached.take() else {
                    return Ok(Outcome::Current);
                };
                metrics::counter!(defs::MODEL_CACHE_HITS, defs::MODEL_LABEL => name.to_string())
                    .increment(1);
                cached
            }
            Err(error) => {
                let Some(cached) = cached.take() else {
                    return Err(error.into());
                };
                warn!(model = %name, "the last version from the cache answers, since its source does not: {error}");
                cached
            }
        };
        steps.bytes = candidate.0.size;
        self.load(candidate, state, loaded, steps)
            .await
            .map(Outcome::Loaded)
    }

    /// The source confirmed what is known. A version that was refused stays a problem.
    fn confirmed(&self, state: &State) {
        let now = self.shared.clock.now();
        self.shared.status.update(&self.settings.name, |status| {
            status.checked_at = Some(now);
            if state.refused.is_none() {
                status.problem = None;
            }
        });
    }

    async fn find_in_cache(&self) -> Option<Candidate> {
        let (cache, settings) = (self.shared.cache.clone(), self.settings.clone());
        let find = move || cache.find(&settings.name, &settings.location.to_string());
        tokio::task::spawn_blocking(find).await.ok().flatten()
    }

    async fn fetch(&self, object: Object, known: Option<&Identity>) -> Result<Fetched, CheckError> {
        let model = self.settings.name.as_str();
        let mut object = object;
        let mut pause = FETCH_PAUSE;
        let mut attempt = 1;
        let fetched = loop {
            match fetch(object, &self.shared.cache).await {
                Ok(fetched) => break fetched,
                Err(error) if error.is_transient() && attempt < FETCH_ATTEMPTS => {
                    warn!(model, attempt, "the transfer begins anew: {error}");
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
            attempt += 1;
            object = match self.source.open(known).await? {
                Opened::Object(object) => object,
                // Put back meanwhile to what is known: the next check settles it.
                Opened::Unchanged => {
                    return Err(
                        SourceError::transient("the object changed twice".to_owned()).into(),
                    );
                }
            };
        };
        metrics::histogram!(defs::MODEL_FETCH_TIME, defs::MODEL_LABEL => model.to_owned())
            .record(milliseconds(fetched.elapsed));
        metrics::counter!(defs::MODEL_FETCH_BYTES, defs::MODEL_LABEL => model.to_owned())
            .increment(fetched.size);
        Ok(fetched)
    }

    /// Loads a candidate, and lets it answer. `reload` says that another version answers meanwhile.
    async fn load(
        &self,
        (record, file): Candidate,
        state: &mut State,
        reload: bool,
        mut steps: Steps,
    ) -> Result<Steps, CheckError> {
        let name = &self.settings.name;
        let started = Instant::now();
        let (engine, _) = self.shared.engine.get().await?;
        let loading = Instant::now();
        let to_load = file.clone();
        let result: Result<Box<dyn Session>, EngineError> = on_thread("load-model", move || {
            if reload {
                crate::sys::lower_thread_priority();
            }
            engine.load(to_load.path())
        })
        .await?;
        // From here on the source is asked only for what differs from this.
        state.seen = Some(record.identity.clone());
        let session = match result {
            Ok(session) => session,
            Err(error) => {
                state.refused = Some(record.digest);
                drop(file);
                self.shared.cache.sweep();
                return Err(error.into());
            }
        };
        state.refused = None;
        if let Err(error) = self.shared.cache.record(name, &record) {
            warn!(model = %name, "a second start here will fetch the model again: {error}");
        }
        drop(file);
        steps.load = started.elapsed();
        metrics::histogram!(defs::MODEL_LOAD_TIME, defs::MODEL_LABEL => name.to_string())
            .record(milliseconds(loading.elapsed()));
        let file = self.settings.location.file_name().to_owned();
        let version = Version::of([(file.as_str(), &record.identity)]);
        let now = self.shared.clock.now();
        self.shared.models.swap(Loaded::new(
            name.clone(),
            version.clone(),
            record.digest,
            now,
            session,
        ));
        self.shared.status.update(name, |status| {
            status.version = Some(version.clone());
            status.loaded_at = Some(now);
            status.checked_at = Some(now);
            status.problem = None;
        });
        if reload {
            metrics::counter!(defs::MODEL_RELOADS, defs::MODEL_LABEL => name.to_string())
                .increment(1);
        }
        info!(
            model = %name,
            version = %version,
            bytes = steps.bytes,
            fetch_ms = steps.fetch.map(milliseconds),
            load_ms = milliseconds(steps.load),
            "{}",
            if reload { "another version answers from now on" } else { "the model is loaded" }
        );
        self.shared.cache.sweep();
        Ok(steps)
    }
}

/// A duration in milliseconds, to the microsecond.
#[must_use]
pub fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests;
