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
mod machine;
mod memory;
mod published;
mod repository;
mod tidy;

use std::fs::File;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tracing::{error, info, warn};

use crate::cache::{Cache, CacheError, Cause, Journal, KeptModel, NoRoom, Record};
use crate::clock::{Clock, Thaws};
use crate::config::{ModelSettings, Reload};
use crate::engine::EngineError;
use crate::fetch::{FetchError, Parts};
use crate::ids::{Digest, FilePath};
use crate::metrics::defs;
use crate::models::{Loaded, Models};
use crate::onnx::{Description, OnnxError};
use crate::source::{Place, SourceError};
use crate::status::{ModelStatus, Status};
pub use engine_slot::EngineSlot;
use engine_slot::on_thread;
use gate::{Gate, Refusal, Terms};
use gather::{Asked, Gathered, Gatherer, Offered};
use in_place::{InUse, make_way};
use machine::{Check, End, Event, Step, Target};
use memory::{How, Need, Seen, Weights, choose};
pub use memory::{Loads, Memory};
use tidy::Known;

/// What the load of a small model takes of its thread's heap, in bytes. Large blocks come from elsewhere.
const LOADING_HEAP: usize = 2 << 20;

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
    /// What bears them.
    pub memory: Arc<Memory>,
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
    /// What is known of the versions.
    known: Mutex<Known>,
    /// What is loaded, and what that took.
    loaded: StdMutex<Option<(Record, Seen)>>,
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
    NoRoom(NoRoom),
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
}

impl Reloader {
    /// A reloader for the model of `settings`, whose files lie in `place`.
    #[must_use]
    pub fn new(settings: ModelSettings, place: Box<dyn Place>, shared: Shared) -> Self {
        Self {
            settings,
            place,
            shared,
            known: Mutex::default(),
            loaded: StdMutex::default(),
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
        let (check, step) = Check::begin(journal.history(), self.answering());
        self.walk(check, step, &mut known).await
    }

    /// Lets the version before this one answer again, or what else there is in its place, and this one no more, until
    /// the source holds another one. With nothing to take its place it stays.
    pub async fn withdraw(&self, digest: &Digest, reason: &str) {
        let mut known = self.known.lock().await;
        let (name, shared) = (&self.settings.name, &self.shared);
        let Some(bad) = shared
            .models
            .current(name)
            .filter(|bad| bad.digest == *digest)
        else {
            info!(model = %name, "the version whose runs failed answers no more");
            return;
        };
        let journal = self.journal(&mut known).await;
        let answering = Some(bad.digest.clone());
        let (check, step) = Check::withdraw(journal.history(), answering, digest, reason);
        self.walk(check, step, &mut known).await;
        let answering = shared.models.current(name);
        let Some(answering) = answering.filter(|answering| answering.digest != *digest) else {
            warn!(model = %name, version = %bad.version, "{reason}; it stays, for want of another");
            return;
        };
        metrics::counter!(defs::MODEL_WITHDRAWALS, defs::MODEL_LABEL => name.to_string())
            .increment(1);
        warn!(
            model = %name,
            version = %answering.version,
            withdrawn = %bad.version,
            "a version is withdrawn, and another one answers until the source changes: {reason}"
        );
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
    async fn walk(&self, mut check: Check, mut step: Step, known: &mut Known) -> Outcome {
        let journal = self.journal(known).await;
        let (name, shared) = (&self.settings.name, &self.shared);
        let now = shared.clock.now();
        shared.status.update(name, |status| {
            status.busy = true;
            status.asked_at = Some(now);
        });
        let mut walk = Walk::default();
        let mut has_loaded = false;
        let end = loop {
            let event = match step {
                Step::End(end) => break end,
                Step::Ask { known, beside } => self.ask(known, beside, journal, &mut walk).await,
                Step::Gather(target) => self.gather(target, journal, &mut walk).await,
                Step::Find(record) => self.look_for(record, &mut walk).await,
                Step::Load(record) => {
                    has_loaded = true;
                    self.load(record, journal, &mut walk).await
                }
            };
            let answers = matches!(event, Event::Loaded { .. });
            let next = |history: &mut _| check.next(history, event);
            step = if answers {
                journal.note_for_later(next)
            } else {
                journal.note(next)
            };
        };
        drop(walk.way_back.take());
        if self.answering().is_none() {
            shared.status.replacement_failed(name);
        }
        let failed = walk.problem.is_some();
        let refusal = journal.history().refusal().map(str::to_owned);
        let refusal = refusal.map(CheckError::Refused);
        let problem = match (walk.problem, end) {
            (Some(problem), _) => {
                self.report(&problem);
                Some(problem)
            }
            // Not at every check: the start that makes do with an older version says why.
            (None, End::Loaded) => {
                refusal.iter().for_each(|problem| self.report(problem));
                refusal
            }
            (None, _) => refusal,
        };
        let now = shared.clock.now();
        shared.status.update(name, |status| {
            status.busy = false;
            status.attempts += 1;
            status.failures = if failed {
                status.failures.saturating_add(1)
            } else {
                0
            };
            status.attempted_at = Some(now);
            status.problem = problem.map(|problem| problem.to_string());
        });
        if end == End::Loaded {
            known.tidy_up(&shared.cache);
        } else {
            journal.keep();
            if has_loaded {
                shared.cache.sweep();
            }
        }
        match end {
            End::Current => Outcome::Current,
            End::Loaded => Outcome::Loaded(walk.steps),
            End::Failed => Outcome::Failed,
        }
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

    async fn ask(
        &self,
        known: bool,
        beside: Option<Record>,
        journal: &Journal,
        walk: &mut Walk,
    ) -> Event {
        let started = Instant::now();
        let question = async {
            let answer = self.gatherer().ask(known.then_some(journal)).await;
            (answer, started.elapsed())
        };
        // What would be loaded is read and checked beside the question whether it is the newest.
        let ((answer, ask), (files, cache)) = tokio::join!(question, self.find(beside));
        (walk.steps.ask, walk.steps.cache) = (ask, cache);
        walk.files = files;
        let found = walk.files.is_some();
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

    /// Brings in the files of a version.
    async fn gather(&self, target: Target, journal: &Journal, walk: &mut Walk) -> Event {
        let started = Instant::now();
        // Whoever does not answer now has no earlier version either.
        let is_transient = walk.problem.as_ref().is_some_and(CheckError::is_transient);
        if matches!(target, Target::StandIn(_)) && is_transient {
            return Event::NotGathered { more: false };
        }
        let gatherer = self.gatherer();
        let (gathered, more) = gatherer.gather(target, &mut walk.offered, journal).await;
        let Gathered {
            record,
            files,
            published,
            terms,
            transferred,
        } = match gathered {
            Ok(Some(gathered)) => gathered,
            Ok(None) => return Event::NotGathered { more },
            Err(problem) => {
                walk.failed(problem);
                return Event::NotGathered { more };
            }
        };
        journal.is_whole();
        match transferred {
            Some(bytes) => {
                walk.steps.fetch = Some(started.elapsed());
                self.count_fetch(started.elapsed(), bytes);
            }
            None if files.is_some() => self.count_cache_hit(),
            None => {}
        }
        if matches!(target, Target::StandIn(_)) && files.is_some() {
            info!(model = %self.settings.name, version = %record.version(), "an earlier version is to stand in");
        }
        (walk.files, walk.terms) = (files, terms);
        Event::Gathered {
            record,
            published,
            transferred: transferred.is_some(),
            more,
        }
    }

    async fn look_for(&self, record: Record, walk: &mut Walk) -> Event {
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
    async fn find(&self, record: Option<Record>) -> (Option<KeptModel>, Duration) {
        let started = Instant::now();
        let Some(record) = record else {
            return (None, Duration::ZERO);
        };
        let cache = self.shared.cache.clone();
        let find = move || cache.find_all(&record);
        let found = tokio::task::spawn_blocking(find).await.ok().flatten();
        (found, started.elapsed())
    }

    fn loaded(&self) -> std::sync::MutexGuard<'_, Option<(Record, Seen)>> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides how a new version comes in, and where it takes the place of the one that answers, makes that one go; its
    /// files are given then, if they are here.
    async fn make_room(
        &self,
        record: &Record,
        new: Weights,
    ) -> Result<(How, Option<KeptModel>), CheckError> {
        let (name, memory) = (&self.settings.name, &self.shared.memory);
        let (old, seen) = self.loaded().clone().unzip();
        let need = Need { new, old: seen };
        let (how, why) = choose(memory.mode, &need, memory.probe.free());
        let version = record.version();
        if how == How::Beside {
            info!(model = %name, %version, "the new version is loaded beside the one that answers: {why}");
            return Ok((how, None));
        }
        let (found, _) = self.find(old).await;
        if found.is_none() && memory.mode != Reload::Replace {
            return Err(CheckError::NoReturn);
        }
        info!(model = %name, %version, "the new version replaces the one that answers, and requests wait: {why}");
        make_way(name, &version, &self.shared).await?;
        Ok((how, found))
    }

    /// Loads a version, holds it against its terms, and lets it answer.
    async fn load(&self, record: Record, journal: &Journal, walk: &mut Walk) -> Event {
        let Some(files) = walk.files.take() else {
            return Event::NotLoaded { vacated: false };
        };
        let digest = record.digest();
        let name = &self.settings.name;
        let reload = self.shared.models.current(name).is_some();
        walk.steps.bytes = record.size();
        let started = Instant::now();
        let engine = match self.shared.engine.get().await {
            Ok((engine, _)) => engine,
            Err(problem) => {
                walk.failed(problem);
                return Event::NotLoaded { vacated: false };
            }
        };
        let memory = &self.shared.memory;
        let weights = weights_of(&record, &files).await;
        let (turn, how) = if reload {
            let turn = memory.loads.turn().await;
            match self.make_room(&record, weights).await {
                Ok((how, way_back)) => {
                    walk.way_back = way_back;
                    (Some(turn), how)
                }
                Err(problem) => {
                    walk.failed(problem);
                    return Event::NotLoaded { vacated: false };
                }
            }
        } else {
            (None, How::Beside)
        };
        let vacated = how == How::InPlace;
        let steps = &mut walk.steps;
        let measure = memory.loads.measure(crate::sys::own_bytes());
        let loading = Instant::now();
        journal.load_begins(&digest);
        let gate = self.gate(&record, std::mem::take(&mut walk.terms), journal);
        let result = on_thread("load-model", move || {
            if reload && !vacated {
                crate::sys::lower_thread_priority();
            }
            crate::sys::stretch_heap(LOADING_HEAP);
            let session = engine.load(files.path(), files.description())?;
            let passed = gate.check(&*session)?;
            Ok::<_, CheckError>((session, passed, files))
        })
        .await;
        journal.load_ended();
        let took = measure.took(crate::sys::own_bytes());
        drop((measure, turn));
        let (session, passed, files) = match result {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(problem)) => {
                let reason = problem.to_string();
                let cause = match problem {
                    CheckError::Gate(_) => Cause::Terms,
                    _ => Cause::Itself,
                };
                walk.failed(problem);
                return Event::Refused {
                    cause,
                    reason,
                    vacated,
                };
            }
            Err(problem) => {
                walk.failed(problem);
                return Event::NotLoaded { vacated };
            }
        };
        let version = record.version();
        passed.report(name, &version);
        steps.warm_up = passed.warm_up;
        let signature = session.signature().clone();
        let warm_up = steps.warm_up.unwrap_or_default();
        steps.load = started.elapsed().saturating_sub(warm_up);
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
        *self.loaded() = Some((record, Seen { weights, took }));
        self.shared.status.answers(name, &version, now);
        let no_problem = |status: &mut ModelStatus| status.problem = None;
        self.shared.status.update(name, no_problem);
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
        Event::Loaded { signature }
    }
}

impl Reloader {
    /// What the version is held against before it answers. One that was let in here before is only warmed up.
    fn gate(&self, record: &Record, terms: Terms, journal: &Journal) -> Gate {
        let (history, digest) = (journal.history(), record.digest());
        if history.good() == Some(record) || history.before() == Some(record) {
            let inputs = history.example(&digest);
            return match inputs {
                Some(inputs) => {
                    Gate::warm_up_only(inputs.to_vec(), journal.warm_up_begins(&digest))
                }
                None => Gate::new(Terms::default()),
            };
        }
        let current = self.shared.models.current(&self.settings.name);
        let before = current.map(|loaded| loaded.signature().clone());
        Gate::new(Terms {
            before: before.or_else(|| history.signature().cloned()),
            ..terms
        })
    }
}

/// What one check has in hand.
#[derive(Default)]
struct Walk {
    steps: Steps,
    offered: Offered,
    /// The files of the version that is loaded next.
    files: Option<KeptModel>,
    /// What its manifest says that it must do.
    terms: Terms,
    /// The files of the version that had to go for it.
    way_back: Option<KeptModel>,
    /// What went wrong first.
    problem: Option<CheckError>,
}

impl Walk {
    fn failed(&mut self, problem: impl Into<CheckError>) {
        self.problem.get_or_insert(problem.into());
    }
}

/// What the files of a version are to its load. What comes from the cache has not been read yet.
async fn weights_of(record: &Record, files: &KeptModel) -> Weights {
    let description = files.description().cloned();
    if description.is_some() || record.others.is_empty() {
        return Weights::of(record, description.as_ref());
    }
    let path = files.path().to_owned();
    let read = move || Description::read(&File::open(path).ok()?).ok();
    let read = tokio::task::spawn_blocking(read).await;
    Weights::of(record, read.ok().flatten().as_ref())
}

/// A duration in milliseconds, to the microsecond.
#[must_use]
pub fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests;
