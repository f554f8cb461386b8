//! Is there a new version, can it be had, does it load: then it answers, and otherwise nothing changes.
//!
//! One [`Reloader`] for each model. What is done, and in which order, is decided by a pure [machine]; here it is done.
//! A check is one conditional request for each file that is known; what it finds is [gathered](gather), loaded beside
//! the version that answers, held against what its callers rely on at the [gate], and swapped in. Any failure leaves the
//! version that answers as it is, is counted, logged with its reason, and shown in the status. What was refused is not
//! fetched again until the source changes. At a start, a file in the cache that the source confirms is loaded without a
//! transfer, and one that the source cannot be asked about is loaded all the same.

mod earlier;
mod engine_slot;
mod gate;
mod gather;
mod in_place;
mod load_backoff;
mod loading;
mod machine;
mod memory;
mod published;
mod reach;
mod rename;
mod replay;
mod repository;
mod rollback;
mod tidy;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, oneshot};
use tracing::{error, info, warn};

use crate::cache::{
    Cache, CacheError, CachedModel, InsufficientSpace, Journal, ModelRecord, ShuttingDown,
};
use crate::clock::{Clock, Thaws, timed_awake};
use crate::config::{ModelSettings, Reload};
use crate::engine::EngineError;
use crate::fetch::{FetchError, PartLimits};
use crate::ids::{Digest, FilePath};
use crate::metrics::defs;
use crate::models::Models;
use crate::onnx::OnnxError;
use crate::source::{ModelFolder, SourceError};
use crate::status::{ModelStatus, Status};
use earlier::Listed;
pub use engine_slot::EngineSlot;
use gate::{Refusal, Terms};
use gather::{Asked, Gathered, Gatherer, Offered};
use in_place::InUse;
use load_backoff::LoadBackoff;
use machine::{Check, End, Event, Step, Target};
use memory::Seen;
pub use memory::{Loads, Memory};
use rollback::Rollback;
use tidy::Known;

/// Longest wait for the source's answer while nothing answers and the cache has a version that can. S3 takes 10 to 200 ms;
/// where packets to it are dropped, the client gives up after 5 to 15 s.
const MAX_WAIT_FOR_SOURCE: Duration = Duration::from_secs(1);

/// What the reloaders of one execution environment share.
#[derive(Clone)]
pub struct Shared {
    /// Where files are kept.
    pub cache: Cache,
    /// How a fetch is divided.
    pub parts: PartLimits,
    /// What loads them.
    pub engine: Arc<EngineSlot>,
    /// Where what is loaded goes.
    pub models: Arc<Models>,
    /// What bears them.
    pub memory: Arc<Memory>,
    /// Where all of it is shown.
    pub status: Arc<Status>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The thaws, after which a transfer is not trusted.
    pub thaws: Thaws,
    /// Whether this process is to be stored in a snapshot. Until the first invocation it draws nothing for a canary:
    /// every environment that is restored from the snapshot would have drawn the same.
    pub snap_start: bool,
}

/// Keeps one model current.
pub struct Reloader {
    settings: ModelSettings,
    place: Box<dyn ModelFolder>,
    shared: Shared,
    /// What is known of the versions.
    known: Mutex<Known>,
    /// What is loaded, and what that took.
    loaded: StdMutex<Option<(ModelRecord, Seen)>>,
    /// What may stand in, as it was last listed.
    listed: Listed,
    /// Whether a canary was left to others until the first invocation, so that the manifest is to be read again.
    canary_held: AtomicBool,
    /// The version whose last load failed for a reason outside of it.
    backoff: StdMutex<Option<LoadBackoff>>,
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
    /// The runs of the manifest's golden examples; `None` when there is none.
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
    #[error("{0}")]
    InUse(#[from] InUse),
    #[error(
        "memory does not bear the new version beside the one that answers, and that one's file is gone, so there would \
         be nothing to return to (MODEL_RELOAD=replace does it all the same)"
    )]
    NoReturn,
    #[error(
        "{0}; the file of the version that answers stays, since memory does not bear two versions either and there would \
         be nothing to return to (MODEL_RELOAD=replace gives it up)"
    )]
    InsufficientSpace(InsufficientSpace),
    #[error(
        "{uri} refers to {file}, and nothing says which version of that belongs to it: publish with a manifest, which does"
    )]
    NotAlone { uri: String, file: FilePath },
    #[error("the model's files change faster than they can be fetched")]
    Unsteady,
    #[error("{0}")]
    Gate(#[from] Refusal),
    #[error("the version in the source is refused: {0}")]
    Refused(String),
    /// Content that an earlier check has rejected; its reason is the public one.
    #[error("the version in the source is rejected: {0}")]
    Rejected(String),
    #[error("{0}")]
    Deferred(String),
    #[error("{0}; its files in the cache are damaged or gone, and are fetched again")]
    FilesLost(Box<CheckError>),
    #[error(transparent)]
    ShuttingDown(#[from] ShuttingDown),
}

impl CheckError {
    /// Whether another check may succeed although nobody does anything.
    fn is_transient(&self) -> bool {
        match self {
            CheckError::Source(error) => error.is_transient(),
            CheckError::Fetch(error) => error.is_transient(),
            _ => false,
        }
    }

    /// The problem in words that name no bucket, key, account or path: for callers from outside.
    fn public(&self) -> String {
        const MORE: &str = "; the log has the details";
        match self {
            CheckError::Source(error) => format!("{}{MORE}", error.public()),
            CheckError::Fetch(error) => format!("{}{MORE}", error.public()),
            CheckError::Cache(error) => format!("{}{MORE}", error.public()),
            CheckError::Engine(EngineError::Library { .. }) => {
                format!("ONNX Runtime cannot be opened{MORE}")
            }
            CheckError::Engine(EngineError::CustomOps { .. }) => {
                format!("the custom operators cannot be loaded{MORE}")
            }
            CheckError::Engine(EngineError::File { .. }) => {
                format!("a file of the model cannot be read{MORE}")
            }
            CheckError::FilesLost(_) => {
                format!(
                    "the model's files in the cache are damaged or gone, and are fetched again{MORE}"
                )
            }
            CheckError::Onnx(OnnxError::Location { .. }) => {
                format!("the model keeps data at a place that is not allowed{MORE}")
            }
            CheckError::Manifest { .. } => format!("the manifest cannot be followed{MORE}"),
            CheckError::Repository(_) => {
                format!("the repository has no version to serve{MORE}")
            }
            CheckError::NotAlone { .. } => {
                format!(
                    "the model refers to other files, and no manifest says which versions of them belong to it{MORE}"
                )
            }
            CheckError::Engine(_)
            | CheckError::Onnx(_)
            | CheckError::InUse(_)
            | CheckError::NoReturn
            | CheckError::InsufficientSpace(_)
            | CheckError::Unsteady
            | CheckError::Gate(_)
            | CheckError::Refused(_)
            | CheckError::Rejected(_)
            | CheckError::Deferred(_)
            | CheckError::ShuttingDown(_) => self.to_string(),
        }
    }
}

impl Reloader {
    /// A reloader for the model of `settings`, whose files lie in `place`.
    #[must_use]
    pub fn new(settings: ModelSettings, place: Box<dyn ModelFolder>, shared: Shared) -> Self {
        Self {
            settings,
            place,
            shared,
            known: Mutex::default(),
            loaded: StdMutex::default(),
            listed: Listed::default(),
            canary_held: AtomicBool::new(false),
            backoff: StdMutex::default(),
        }
    }

    /// Asks the source, and brings in what it has that is new. While one check is under way a second one only
    /// waits for it to end.
    pub async fn check(&self) -> Outcome {
        let Ok(mut known) = self.known.try_lock() else {
            drop(self.known.lock().await);
            return Outcome::Current;
        };
        // Whoever has switched reloads off wants one version for as long as the process lives.
        if self.shared.memory.mode == Reload::Off && self.answering().is_some() {
            return Outcome::Current;
        }
        let journal = self.journal(&mut known).await;
        let now = self.shared.clock.now();
        let deferred = self
            .backoff()
            .as_ref()
            .and_then(|it| it.deferred(now).cloned());
        let (check, step) = Check::begin(journal.history(), self.answering(), deferred);
        self.walk(check, step, &mut known, &mut Walk::default())
            .await
    }

    fn backoff(&self) -> MutexGuard<'_, Option<LoadBackoff>> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the reason for which the newest version is not loaded now, where its load has to wait.
    fn deferral(&self, journal: &Journal) -> Option<CheckError> {
        let backoff = self.backoff();
        let backoff = backoff.as_ref()?;
        let deferred = backoff.deferred(self.shared.clock.now())?;
        let is_newest = journal.history().newest()?.digest() == *deferred;
        is_newest.then(|| CheckError::Deferred(backoff.reason()))
    }

    async fn journal<'a>(&self, known: &'a mut Known) -> &'a mut Journal {
        let (name, origin) = (&self.settings.name, self.settings.origin());
        known
            .journal(|| self.shared.cache.journal(name, &origin))
            .await
    }

    fn answering(&self) -> Option<Digest> {
        let current = self.shared.models.current(&self.settings.name);
        current.map(|loaded| loaded.digest.clone())
    }

    /// Does what the machine says until it says that this is all.
    async fn walk(
        &self,
        mut check: Check,
        mut step: Step,
        known: &mut Known,
        walk: &mut Walk,
    ) -> Outcome {
        let journal = self.journal(known).await;
        let (name, shared) = (&self.settings.name, &self.shared);
        let now = shared.clock.now();
        shared.status.update(name, |status| {
            status.is_busy = true;
            status.check_started_at = Some(now);
        });
        let mut has_loaded = false;
        let end = loop {
            let event = match step {
                Step::End(end) => break end,
                Step::Ask { known, beside } => self.ask(known, beside, journal, walk).await,
                Step::Gather(target) => self.gather(target, journal, walk).await,
                Step::Find(record) => self.look_for(record, walk).await,
                Step::Load { record, replay } => {
                    has_loaded = true;
                    self.load(record, replay, journal, walk).await
                }
                Step::Rename(record) => self.rename(record, journal, walk).await,
            };
            if let Some(labels) = walk.offered.labels.take() {
                journal.update_unsaved(|history| history.set_labels(labels));
            }
            let answers = matches!(event, Event::Loaded { .. });
            let next = |history: &mut _| check.next(history, event);
            step = if answers {
                journal.update_unsaved(next)
            } else {
                journal.update(next)
            };
        };
        drop(walk.way_back.take());
        self.label(journal.history());
        if self.answering().is_none() {
            shared.status.replacement_failed(name);
        }
        let failed = walk.problem.is_some();
        let refusal = journal.history().rejection().map(str::to_owned);
        let refusal = walk.rejected.take().or(refusal.map(CheckError::Refused));
        self.listed.keep(walk.offered.stand_ins.take());
        let deferral = self.deferral(journal);
        walk.has_failed = failed;
        let problem = match (walk.problem.take(), end) {
            (Some(problem), _) => {
                self.report(&problem);
                Some(problem)
            }
            // Not at every check: the start that makes do with an older version says why.
            (None, End::Loaded) => {
                if let Some(refusal) = &refusal {
                    self.report(refusal);
                }
                refusal
            }
            (None, _) => {
                // Of what an earlier process in this environment met, this one's log has no word yet.
                let is_first = self
                    .shared
                    .status
                    .get(name)
                    .is_none_or(|it| it.checks_ended == 0);
                if let Some(refusal) = refusal.as_ref().filter(|_| is_first) {
                    warn!(model = %name, "{refusal}");
                }
                refusal
            }
        };
        let problem = problem.or(deferral);
        let detail = problem.as_ref().map(ToString::to_string);
        let problem = problem.map(|problem| problem.public());
        let now = shared.clock.now();
        shared.status.update(name, |status| {
            status.is_busy = false;
            status.checks_ended += 1;
            status.failures = if failed {
                status.failures.saturating_add(1)
            } else {
                0
            };
            status.check_ended_at = Some(now);
            (status.problem, status.detail) = (problem, detail);
        });
        if walk.is_to_be_repeated {
            shared.status.request_check(name);
        }
        if end == End::Loaded {
            known.tidy_up(&shared.cache);
        } else {
            journal.save();
            if has_loaded {
                shared.cache.sweep();
            }
        }
        match end {
            End::Current => Outcome::Current,
            End::Loaded => Outcome::Loaded(std::mem::take(&mut walk.steps)),
            End::Failed => Outcome::Failed,
        }
    }

    fn report(&self, problem: &CheckError) {
        if matches!(problem, CheckError::ShuttingDown(_)) {
            return;
        }
        let model = self.settings.name.as_str();
        let metric = match problem {
            CheckError::Source(_) => defs::MODEL_CHECK_FAILURES,
            _ => defs::MODEL_RELOAD_FAILURES,
        };
        metrics::counter!(metric, defs::MODEL_LABEL => model.to_owned()).increment(1);
        match self.shared.models.current(&self.settings.name) {
            Some(current) => {
                warn!(
                    model,
                    version = %current.version,
                    digest = %current.digest,
                    "the version that answers stays: {problem}"
                );
            }
            None => error!(model, "nothing is loaded: {problem}"),
        }
    }

    fn gatherer(&self) -> Gatherer<'_> {
        Gatherer {
            place: &*self.place,
            settings: &self.settings,
            shared: &self.shared,
            listed: &self.listed,
            canary_held: &self.canary_held,
            deferred: self
                .backoff()
                .as_ref()
                .and_then(|it| it.deferred(self.shared.clock.now()).cloned()),
        }
    }

    async fn ask(
        &self,
        known: bool,
        beside: Option<ModelRecord>,
        journal: &Journal,
        walk: &mut Walk,
    ) -> Event {
        let started = Instant::now();
        // What would be loaded is read and checked in parallel with the question whether it is the newest.
        let (has_found, is_found) = oneshot::channel();
        let find = async {
            let found = self.find(beside).await;
            let _ = has_found.send(found.0.is_some());
            found
        };
        let offered = &mut walk.offered;
        let gatherer = self.gatherer();
        let question = async {
            let question = gatherer.ask(journal, known, offered);
            let answer = tokio::select! {
                biased;
                answer = question => Some(answer),
                () = self.is_long_enough(is_found) => None,
            };
            (answer, started.elapsed())
        };
        let ((answer, ask), (files, cache)) = tokio::join!(question, find);
        (walk.steps.ask, walk.steps.cache) = (ask, cache);
        walk.files = files;
        let found = walk.files.is_some();
        let Some(answer) = answer else {
            warn!(
                model = %self.settings.name,
                "{} has not answered within {} ms: the version in the cache is loaded, and the source asked again",
                self.settings.location,
                MAX_WAIT_FOR_SOURCE.as_millis()
            );
            walk.is_to_be_repeated = true;
            return Event::Unreachable { found };
        };
        if answer.is_ok() {
            let now = self.shared.clock.now();
            let checked = |status: &mut ModelStatus| status.checked_at = Some(now);
            self.shared.status.update(&self.settings.name, checked);
        }
        match answer {
            Ok(Asked::Changed(changed)) => {
                walk.offered.changed = Some(changed);
                Event::Changed
            }
            Ok(Asked::Same) => {
                if found {
                    self.count_cache_hit();
                }
                Event::Same { found }
            }
            Err(problem) => {
                walk.failed(problem);
                Event::Unreachable { found }
            }
        }
    }

    /// Waits until the source has been waited for long enough, with nothing that answers and a version in the cache that
    /// can; for ever, where there is none.
    async fn is_long_enough(&self, is_found: oneshot::Receiver<bool>) {
        tokio::time::sleep(MAX_WAIT_FOR_SOURCE).await;
        let is_usable = is_found.await.unwrap_or(false);
        if !is_usable || self.answering().is_some() {
            std::future::pending::<()>().await;
        }
    }

    /// Brings in the files of a version.
    async fn gather(&self, target: Target, journal: &Journal, walk: &mut Walk) -> Event {
        // Whoever does not answer now has no earlier version either.
        let is_transient = walk.problem.as_ref().is_some_and(CheckError::is_transient);
        if matches!(target, Target::StandIn(_)) && is_transient {
            return Event::NotGathered { more: false };
        }
        let source = self.gatherer();
        let gather = source.gather(target, &mut walk.offered, journal);
        let ((gathered, more), time) = timed_awake(gather).await;
        let Gathered {
            record,
            files,
            published,
            terms,
            transferred,
        } = match gathered {
            Ok(Some(gathered)) => gathered,
            Ok(None) => return Event::NotGathered { more },
            Err(CheckError::Rejected(reason)) => {
                walk.rejected.get_or_insert(CheckError::Rejected(reason));
                return Event::NotGathered { more };
            }
            Err(problem) => {
                if matches!(target, Target::StandIn(_)) {
                    warn!(model = %self.settings.name, "no earlier version can stand in: {problem}");
                }
                walk.failed(problem);
                return Event::NotGathered { more };
            }
        };
        journal.complete_download();
        match transferred {
            Some(bytes) => {
                walk.steps.fetch = Some(time);
                self.count_fetch(time, bytes);
            }
            None if files.is_some() => self.count_cache_hit(),
            None => {}
        }
        if matches!(target, Target::StandIn(_)) && files.is_some() {
            info!(model = %self.settings.name, version = %record.version, digest = %record.digest(), "an earlier version is to stand in");
        }
        (walk.files, walk.terms) = (files, terms);
        Event::Gathered {
            record,
            published,
            more,
        }
    }

    async fn look_for(&self, record: ModelRecord, walk: &mut Walk) -> Event {
        let (files, cache) = self.find(Some(record)).await;
        walk.steps.cache = cache;
        walk.files = files;
        if walk.files.is_some() {
            Event::Found
        } else {
            Event::Lost
        }
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
    async fn find(&self, record: Option<ModelRecord>) -> (Option<CachedModel>, Duration) {
        let started = Instant::now();
        let Some(record) = record else {
            return (None, Duration::ZERO);
        };
        let cache = self.shared.cache.clone();
        let find = move || cache.find_model(&record);
        let found = tokio::task::spawn_blocking(find).await.ok().flatten();
        (found, started.elapsed())
    }
}

/// What one check has in hand.
#[derive(Default)]
struct Walk {
    steps: Steps,
    offered: Offered,
    /// The files of the version that is loaded next.
    files: Option<CachedModel>,
    /// What its manifest says that it must do.
    terms: Terms,
    /// The files of the version that had to go for it.
    way_back: Option<CachedModel>,
    /// What went wrong first, until it is reported.
    problem: Option<CheckError>,
    /// Content that an earlier check has rejected, the first that was met.
    rejected: Option<CheckError>,
    /// Set where the source is asked again at once, since its answer was not waited for.
    is_to_be_repeated: bool,
    /// Set where something went wrong, also once that is reported.
    has_failed: bool,
    /// The rollback that this is for.
    rollback: Option<Rollback>,
}

impl Walk {
    fn failed(&mut self, problem: impl Into<CheckError>) {
        self.problem.get_or_insert(problem.into());
    }
}

/// A duration in milliseconds, to the microsecond.
#[must_use]
pub fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests;
