//! Is there a new version, can it be had, does it load: then it answers, and otherwise nothing changes.
//!
//! One [`Reloader`] for each model. A check is one conditional request; what it finds is fetched, loaded beside
//! the version that answers, and swapped in. Any failure leaves the version that answers as it is, is counted,
//! logged with its reason, and shown in the status. Bytes that could not be loaded are not fetched again until
//! the source changes. At a start, a file in the cache that the source confirms is loaded without a transfer,
//! and one that the source cannot be asked about is loaded all the same.

mod engine_slot;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::cache::{Cache, CacheError, Journal, KeptFile, Record};
use crate::clock::{Clock, Thaws};
use crate::config::ModelSettings;
use crate::engine::EngineError;
use crate::fetch::{self, Compression, FetchError, Fetched, Parts};
use crate::ids::Version;
use crate::metrics::defs;
use crate::models::{Loaded, Models};
use crate::source::{Object, Opened, Source, SourceError};
use crate::status::{ModelStatus, Status};
pub use engine_slot::EngineSlot;
use engine_slot::on_thread;

/// What the reloaders of one execution environment share.
#[derive(Clone)]
pub struct Shared {
    /// Where files are kept.
    pub cache: Cache,
    /// How a fetch is divided.
    pub parts: Parts,
    /// What loads them.
    pub engine: Arc<EngineSlot>,
    /// Where what is loaded goes.
    pub models: Arc<Models>,
    /// Where all of it is shown.
    pub status: Arc<Status>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The thaws, after which a transfer is not trusted.
    pub thaws: Thaws,
}

/// Keeps one model current.
pub struct Reloader {
    settings: ModelSettings,
    source: Box<dyn Source>,
    shared: Shared,
    /// What is known of the versions; read when it is first needed.
    journal: Mutex<Option<Journal>>,
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
    #[error("the version in the source cannot be loaded: {0}")]
    Refused(String),
}

impl Reloader {
    /// A reloader for the model of `settings`, which `source` holds.
    #[must_use]
    pub fn new(settings: ModelSettings, source: Box<dyn Source>, shared: Shared) -> Self {
        Self {
            settings,
            source,
            shared,
            journal: Mutex::default(),
        }
    }

    /// Asks the source, and brings in what it has that is new. While one check is under way a second one only
    /// waits for it to end.
    pub async fn check(&self) -> Outcome {
        let Ok(mut journal) = self.journal.try_lock() else {
            drop(self.journal.lock().await);
            return Outcome::Current;
        };
        let (name, shared) = (&self.settings.name, &self.shared);
        shared.status.update(name, |status| status.busy = true);
        let journal = match &mut *journal {
            Some(journal) => journal,
            unread => {
                let location = self.settings.location.to_string();
                unread.insert(shared.cache.journal(name, &location))
            }
        };
        let (outcome, problem) = match self.attempt(journal).await {
            Ok(outcome) => {
                let refusal = journal.refusal().map(str::to_owned);
                let refused = refusal.map(CheckError::Refused);
                // Not at every check: the start that makes do with an older version says why.
                if let (Outcome::Loaded(_), Some(problem)) = (&outcome, &refused) {
                    self.report(problem);
                }
                (outcome, refused.map(|problem| problem.to_string()))
            }
            Err(problem) => {
                let fallback = self.fall_back(journal).await;
                self.report(&problem);
                (fallback, Some(problem.to_string()))
            }
        };
        let now = shared.clock.now();
        shared.status.update(name, |status| {
            status.busy = false;
            status.attempts += 1;
            status.attempted_at = Some(now);
            status.problem = problem;
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

    async fn attempt(&self, journal: &mut Journal) -> Result<Outcome, CheckError> {
        let loaded = self.shared.models.current(&self.settings.name);
        let mut steps = Steps::default();
        let asked = Instant::now();
        let known = journal.newest().map(|newest| newest.identity.clone());
        let question = async {
            let opened = fetch::open(&*self.source, &self.shared.cache, known.as_ref()).await;
            (opened, asked.elapsed())
        };
        // What would be loaded is read and checked beside the question whether it is the newest.
        let pending = journal.usable().filter(|usable| {
            loaded
                .as_ref()
                .is_none_or(|loaded| loaded.digest != usable.digest)
        });
        let pending = pending.cloned();
        let ((opened, ask), (cached, cache)) = tokio::join!(question, self.find(pending));
        (steps.ask, steps.cache) = (ask, cache);
        let opened = opened?;
        let now = self.shared.clock.now();
        let checked = |status: &mut ModelStatus| status.checked_at = Some(now);
        self.shared.status.update(&self.settings.name, checked);
        match (opened, cached) {
            (Opened::Object(object), _) if journal.is_good(&object.identity) => {
                journal.returned();
                self.take_known(journal, steps).await
            }
            (Opened::Object(object), _) => self.take_new(object, journal, steps).await,
            (Opened::Unchanged, Some((record, file))) => {
                self.count_cache_hit();
                self.load(record, file, journal, steps).await
            }
            (Opened::Unchanged, None) => self.take_known(journal, steps).await,
        }
    }

    /// Lets the newest version that may be loaded answer, if it does not yet: from the cache, or fetched again when
    /// the cache has lost it.
    async fn take_known(
        &self,
        journal: &mut Journal,
        mut steps: Steps,
    ) -> Result<Outcome, CheckError> {
        let loaded = self.shared.models.current(&self.settings.name);
        let Some(usable) = journal.usable().cloned() else {
            let reason = journal.refusal().unwrap_or_default().to_owned();
            return Err(CheckError::Refused(reason));
        };
        if loaded.is_some_and(|loaded| loaded.digest == usable.digest) {
            return Ok(Outcome::Current);
        }
        let (cached, cache) = self.find(Some(usable)).await;
        steps.cache += cache;
        if let Some((record, file)) = cached {
            self.count_cache_hit();
            return self.load(record, file, journal, steps).await;
        }
        match fetch::open(&*self.source, &self.shared.cache, None).await? {
            Opened::Object(object) => self.take_new(object, journal, steps).await,
            Opened::Unchanged => Ok(Outcome::Current),
        }
    }

    /// Fetches what the source holds, and lets it answer.
    async fn take_new(
        &self,
        object: Object,
        journal: &mut Journal,
        mut steps: Steps,
    ) -> Result<Outcome, CheckError> {
        let fetched = self.fetch(object).await?;
        steps.fetch = Some(fetched.elapsed);
        let record = Record {
            identity: fetched.identity,
            size: fetched.size,
            digest: fetched.digest,
        };
        journal.fetched(record.clone());
        if let Some(reason) = journal.refusal() {
            return Err(CheckError::Refused(reason.to_owned()));
        }
        self.load(record, fetched.file, journal, steps).await
    }

    /// When nothing answers and the newest version cannot be had: the last good one, if it is here.
    async fn fall_back(&self, journal: &mut Journal) -> Outcome {
        if self.shared.models.current(&self.settings.name).is_some() {
            return Outcome::Failed;
        }
        let (found, cache) = self.find(journal.usable().cloned()).await;
        let Some((record, file)) = found else {
            return Outcome::Failed;
        };
        let steps = Steps {
            cache,
            ..Steps::default()
        };
        let loaded = self.load(record, file, journal, steps).await;
        loaded.unwrap_or(Outcome::Failed)
    }

    fn count_cache_hit(&self) {
        let model = self.settings.name.to_string();
        metrics::counter!(defs::MODEL_CACHE_HITS, defs::MODEL_LABEL => model).increment(1);
    }

    /// The file of this version, if the cache has it whole, and how long it took to see that.
    async fn find(&self, record: Option<Record>) -> (Option<(Record, KeptFile)>, Duration) {
        let started = Instant::now();
        let Some(record) = record else {
            return (None, Duration::ZERO);
        };
        let cache = self.shared.cache.clone();
        let find = move || cache.find(&record).map(|file| (record, file));
        let found = tokio::task::spawn_blocking(find).await.ok().flatten();
        (found, started.elapsed())
    }

    async fn fetch(&self, object: Object) -> Result<Fetched, CheckError> {
        let model = self.settings.name.as_str();
        let shared = &self.shared;
        let request = fetch::Request {
            source: &*self.source,
            object,
            expected: None,
            compression: Compression::of(self.settings.location.file_name()),
        };
        let context = fetch::Context {
            cache: &shared.cache,
            parts: shared.parts,
            thaws: &shared.thaws,
            clock: &*shared.clock,
        };
        let fetched = fetch::fetch(request, context).await?;
        metrics::histogram!(defs::MODEL_FETCH_TIME, defs::MODEL_LABEL => model.to_owned())
            .record(milliseconds(fetched.elapsed));
        metrics::counter!(defs::MODEL_FETCH_BYTES, defs::MODEL_LABEL => model.to_owned())
            .increment(fetched.transferred);
        Ok(fetched)
    }

    /// Loads a version, and lets it answer.
    async fn load(
        &self,
        record: Record,
        file: KeptFile,
        journal: &mut Journal,
        mut steps: Steps,
    ) -> Result<Outcome, CheckError> {
        let name = &self.settings.name;
        let reload = self.shared.models.current(name).is_some();
        steps.bytes = record.size;
        let started = Instant::now();
        let (engine, _) = self.shared.engine.get().await?;
        let loading = Instant::now();
        let to_load = file.clone();
        journal.load_begins(&record.digest);
        let result = on_thread("load-model", move || {
            if reload {
                crate::sys::lower_thread_priority();
            }
            engine.load(to_load.path())
        })
        .await;
        journal.load_ended();
        let session = match result? {
            Ok(session) => session,
            Err(error) => {
                journal.refused(&record.digest, &error.to_string());
                drop(file);
                self.shared.cache.sweep();
                return Err(error.into());
            }
        };
        steps.load = started.elapsed();
        journal.loaded(&record);
        drop(file);
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
        Ok(Outcome::Loaded(steps))
    }
}

/// A duration in milliseconds, to the microsecond.
#[must_use]
pub fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests;
