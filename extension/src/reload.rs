//! Is there a new version, can it be had, does it load: then it answers, and otherwise nothing changes.
//!
//! One [`Reloader`] for each model. A check is one conditional request for each file that is known; what it finds is
//! [gathered](gather), loaded beside the version that answers, [warmed up](warm_up), and swapped in. Any failure leaves the version that answers as it is, is counted,
//! logged with its reason, and shown in the status. Bytes that could not be loaded are not fetched again until
//! the source changes. At a start, a file in the cache that the source confirms is loaded without a transfer,
//! and one that the source cannot be asked about is loaded all the same.

mod engine_slot;
mod gather;
mod published;
mod repository;
mod warm_up;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::cache::{Cache, CacheError, Journal, KeptModel, Record};
use crate::clock::{Clock, Thaws};
use crate::config::ModelSettings;
use crate::engine::EngineError;
use crate::fetch::{FetchError, Parts};
use crate::metrics::defs;
use crate::models::{Loaded, Models};
use crate::onnx::OnnxError;
use crate::source::{Place, SourceError};
use crate::status::{ModelStatus, Status};
pub use engine_slot::EngineSlot;
use engine_slot::on_thread;
use gather::{Asked, Changed, Gatherer};
use warm_up::WarmUp;

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
    place: Box<dyn Place>,
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
    /// Gathering the files; `None` when the cache had them all.
    pub fetch: Option<Duration>,
    /// The files' length in bytes.
    pub bytes: u64,
    /// Waiting for the engine, and loading.
    pub load: Duration,
    /// The run with the manifest's first golden example, whether it succeeded or not; `None` when there is none.
    pub warm_up: Option<Duration>,
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
    #[error("{0}")]
    Onnx(#[from] OnnxError),
    #[error("{location}: {reason}")]
    Manifest { location: String, reason: String },
    #[error("{0}")]
    Repository(String),
    #[error("the model's files change faster than they can be fetched")]
    Unsteady,
    #[error("the version in the source cannot be loaded: {0}")]
    Refused(String),
}

impl Reloader {
    /// A reloader for the model of `settings`, whose files lie in `place`.
    #[must_use]
    pub fn new(settings: ModelSettings, place: Box<dyn Place>, shared: Shared) -> Self {
        Self {
            settings,
            place,
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

    fn gatherer(&self) -> Gatherer<'_> {
        Gatherer {
            place: &*self.place,
            settings: &self.settings,
            shared: &self.shared,
        }
    }

    async fn attempt(&self, journal: &mut Journal) -> Result<Outcome, CheckError> {
        let mut steps = Steps::default();
        let asked = Instant::now();
        let question = async {
            let answer = self.gatherer().ask(Some(journal)).await;
            (answer, asked.elapsed())
        };
        // What would be loaded is read and checked beside the question whether it is the newest.
        let pending = journal.usable().filter(|usable| !self.is_loaded(usable));
        let pending = pending.cloned();
        let ((answer, ask), (cached, cache)) = tokio::join!(question, self.find(pending));
        (steps.ask, steps.cache) = (ask, cache);
        let answer = answer?;
        let now = self.shared.clock.now();
        let checked = |status: &mut ModelStatus| status.checked_at = Some(now);
        self.shared.status.update(&self.settings.name, checked);
        match (answer, cached) {
            (Asked::Changed(changed), _) => self.take_new(changed, journal, steps).await,
            (Asked::Same, Some((record, files))) => {
                self.count_cache_hit();
                self.load(record, files, journal, steps).await
            }
            (Asked::Same, None) => self.take_known(journal, steps).await,
        }
    }

    fn is_loaded(&self, record: &Record) -> bool {
        let loaded = self.shared.models.current(&self.settings.name);
        loaded.is_some_and(|loaded| loaded.digest == record.digest())
    }

    /// The newest version that may be loaded answers already, or is fetched again, because the cache has lost it.
    async fn take_known(&self, journal: &mut Journal, steps: Steps) -> Result<Outcome, CheckError> {
        let Some(usable) = journal.usable() else {
            let reason = journal.refusal().unwrap_or_default().to_owned();
            return Err(CheckError::Refused(reason));
        };
        if self.is_loaded(usable) {
            return Ok(Outcome::Current);
        }
        match self.gatherer().ask(None).await? {
            Asked::Changed(changed) => self.take_new(changed, journal, steps).await,
            Asked::Same => Ok(Outcome::Current),
        }
    }

    /// Brings in what the source holds, and lets it answer.
    async fn take_new(
        &self,
        changed: Changed,
        journal: &mut Journal,
        mut steps: Steps,
    ) -> Result<Outcome, CheckError> {
        let started = Instant::now();
        let gathered = self.gatherer().gather(changed, journal).await?;
        match gathered.transferred {
            Some(bytes) => {
                steps.fetch = Some(started.elapsed());
                self.count_fetch(started.elapsed(), bytes);
            }
            None => self.count_cache_hit(),
        }
        let record = gathered.record;
        journal.fetched(record.clone(), gathered.published);
        if let Some(reason) = journal.refusal() {
            return Err(CheckError::Refused(reason.to_owned()));
        }
        if self.is_loaded(&record) && gathered.transferred.is_none() {
            return Ok(Outcome::Current);
        }
        self.load(record, gathered.files, journal, steps).await
    }

    /// When nothing answers and the newest version cannot be had: the last good one, if it is here, or the one that the
    /// manifest names for this.
    async fn fall_back(&self, journal: &mut Journal) -> Outcome {
        if self.shared.models.current(&self.settings.name).is_some() {
            return Outcome::Failed;
        }
        let (found, cache) = self.find(journal.usable().cloned()).await;
        let found = match found {
            Some(found) => Some(found),
            None => self.find_previous(journal).await,
        };
        let Some((record, files)) = found else {
            return Outcome::Failed;
        };
        let steps = Steps {
            cache,
            ..Steps::default()
        };
        let loaded = self.load(record, files, journal, steps).await;
        loaded.unwrap_or(Outcome::Failed)
    }

    async fn find_previous(&self, journal: &mut Journal) -> Option<(Record, KeptModel)> {
        let model = self.settings.name.as_str();
        let gathered = match self.gatherer().gather_previous(journal).await {
            Ok(gathered) => gathered?,
            Err(error) => {
                warn!(
                    model,
                    "the manifest's previous version cannot be had: {error}"
                );
                return None;
            }
        };
        let record = gathered.record;
        if journal.is_refused(&record) {
            return None;
        }
        info!(model, "the manifest's previous version stands in");
        journal.stands_in(record.clone(), gathered.published);
        Some((record, gathered.files))
    }

    fn count_cache_hit(&self) {
        let model = self.settings.name.to_string();
        metrics::counter!(defs::MODEL_CACHE_HITS, defs::MODEL_LABEL => model).increment(1);
    }

    fn count_fetch(&self, time: Duration, bytes: u64) {
        let model = self.settings.name.as_str();
        metrics::histogram!(defs::MODEL_FETCH_TIME, defs::MODEL_LABEL => model.to_owned())
            .record(milliseconds(time));
        metrics::counter!(defs::MODEL_FETCH_BYTES, defs::MODEL_LABEL => model.to_owned())
            .increment(bytes);
    }

    /// The files of this version, if the cache has them whole, and how long it took to see that.
    async fn find(&self, record: Option<Record>) -> (Option<(Record, KeptModel)>, Duration) {
        let started = Instant::now();
        let Some(record) = record else {
            return (None, Duration::ZERO);
        };
        let cache = self.shared.cache.clone();
        let find = move || cache.find_all(&record).map(|files| (record, files));
        let found = tokio::task::spawn_blocking(find).await.ok().flatten();
        (found, started.elapsed())
    }

    /// Loads a version, warms it up, and lets it answer.
    async fn load(
        &self,
        record: Record,
        files: KeptModel,
        journal: &mut Journal,
        mut steps: Steps,
    ) -> Result<Outcome, CheckError> {
        let digest = record.digest();
        let name = &self.settings.name;
        let reload = self.shared.models.current(name).is_some();
        steps.bytes = record.size();
        let started = Instant::now();
        let (engine, _) = self.shared.engine.get().await?;
        let loading = Instant::now();
        journal.load_begins(&digest);
        let warm_up = WarmUp::of(&digest, journal);
        let result = on_thread("load-model", move || {
            if reload {
                crate::sys::lower_thread_priority();
            }
            let session = engine.load(files.path(), files.description())?;
            let warmed_up = warm_up.map(|warm_up| warm_up.run(&*session));
            Ok::<_, EngineError>((session, warmed_up, files))
        })
        .await;
        journal.load_ended();
        let (session, warmed_up, files) = match result? {
            Ok(loaded) => loaded,
            Err(error) => {
                journal.refused(&digest, &error.to_string());
                self.shared.cache.sweep();
                return Err(error.into());
            }
        };
        let version = record.version();
        steps.warm_up = warmed_up.map(|warmed_up| warmed_up.report(name, &version));
        let warm_up = steps.warm_up.unwrap_or_default();
        steps.load = started.elapsed().saturating_sub(warm_up);
        journal.loaded(&record);
        drop(files);
        metrics::histogram!(defs::MODEL_LOAD_TIME, defs::MODEL_LABEL => name.to_string())
            .record(milliseconds(loading.elapsed().saturating_sub(warm_up)));
        let now = self.shared.clock.now();
        self.shared.models.swap(Loaded::new(
            name.clone(),
            version.clone(),
            digest,
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
            warm_up_ms = steps.warm_up.map(milliseconds),
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
