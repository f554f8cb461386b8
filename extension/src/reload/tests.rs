//! The reloader over a source and an engine that do what a test tells them, with a real cache on disk.

mod earlier;
mod files;
mod gate;
mod in_place;
mod outside_failures;
mod published;
mod rename;
mod repository;
mod rollout;
mod shelf;
mod silent_source;
mod withdraw;

use std::sync::Mutex as StdMutex;
use std::sync::atomic::Ordering;

use super::*;
use crate::cache;
use crate::clock::SystemClock;
use crate::config::Location;
use crate::engine::{Cancel, Engine, Session};
use crate::ids::ModelName;
use crate::manifest::Choice;
use crate::onnx::Description;
use crate::request_memory::Account;
use crate::tensor::{Data, Datatype, Kind, Port, Signature, Tensor, Value};
use shelf::{Held, Shelf};

/// An engine that loads everything but files that begin with `bad`, and that never ends with one that begins with
/// `hang`. The models have one input, `x`, of rows of two numbers, or of three where the file begins with `wide`, and one
/// output, `y`, which is 0, or 1 where the file begins with `other`.
struct Loader {
    seen: Arc<StdMutex<Seen>>,
    models: Arc<Models>,
}

/// What the engine was asked for.
#[derive(Default)]
struct Seen {
    /// Of each model that was loaded, its bytes and those of `weights.bin` beside it, if there was one.
    loaded: Vec<Loads>,
    runs: Vec<Run>,
    /// Models that have not been taken apart yet; and how many there were when each load began.
    alive: usize,
    alive_before: Vec<usize>,
    /// Makes loads fail, by the file and the bytes in it.
    fails: Option<LoadFault>,
}

type LoadFault = Box<dyn FnMut(&std::path::Path, &[u8]) -> Option<EngineError> + Send>;

type Loads = (Vec<u8>, Option<Vec<u8>>);

struct Run {
    inputs: Vec<(String, Value)>,
    /// The digest of the version that was active while it ran.
    answering: Option<String>,
}

/// A model that takes every run whose first number is not negative, but with a file that begins with `fail`; a run of
/// one that begins with `endless` ends only when it is cancelled.
struct Loadable {
    bytes: Vec<u8>,
    signature: Signature,
    seen: Arc<StdMutex<Seen>>,
    models: Arc<Models>,
}

fn is_negative(value: &Value) -> bool {
    let Value::Tensor(tensor) = value else {
        return false;
    };
    matches!(tensor.data(), Data::Fp32(data) if data.first().is_some_and(|first| *first < 0.0))
}

impl Drop for Loadable {
    fn drop(&mut self) {
        self.seen.lock().unwrap().alive -= 1;
    }
}

impl Engine for Loader {
    fn load(
        &self,
        file: &std::path::Path,
        _: Option<&Description>,
    ) -> Result<Box<dyn Session>, EngineError> {
        {
            let mut seen = self.seen.lock().unwrap();
            let alive = seen.alive;
            seen.alive_before.push(alive);
        }
        let bytes = std::fs::read(file).map_err(|error| EngineError::Load(error.to_string()))?;
        let fault = self
            .seen
            .lock()
            .unwrap()
            .fails
            .as_mut()
            .and_then(|fails| fails(file, &bytes));
        if let Some(fault) = fault {
            return Err(fault);
        }
        if bytes.starts_with(b"bad") {
            return Err(EngineError::Load("not a model".to_owned()));
        }
        while bytes.starts_with(b"hang") {
            std::thread::park();
        }
        let weights = std::fs::read(file.with_file_name("weights.bin")).ok();
        {
            let mut seen = self.seen.lock().unwrap();
            seen.loaded.push((bytes.clone(), weights));
            seen.alive += 1;
        }
        let port = |name: &str, shape| Port {
            name: name.to_owned(),
            kind: Kind::Tensor {
                datatype: Datatype::Fp32,
                shape,
            },
        };
        let width = if bytes.starts_with(b"wide") { 3 } else { 2 };
        Ok(Box::new(Loadable {
            bytes,
            signature: Signature {
                inputs: vec![port("x", vec![None, Some(width)])],
                outputs: vec![port("y", vec![Some(1)])],
            },
            seen: Arc::clone(&self.seen),
            models: Arc::clone(&self.models),
        }))
    }
}

impl Session for Loadable {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(
        &self,
        inputs: &[(String, Value)],
        _: &[String],
        cancel: &Cancel,
    ) -> crate::models::RunResult {
        let name = self.models.only().unwrap();
        let answering = self.models.current(name);
        let answering = answering.map(|loaded| loaded.digest.to_string());
        let run = Run {
            inputs: inputs.to_vec(),
            answering,
        };
        self.seen.lock().unwrap().runs.push(run);
        if self.bytes.starts_with(b"fail") || inputs.iter().any(|(_, value)| is_negative(value)) {
            return Err(EngineError::Run("not today".to_owned()));
        }
        while self.bytes.starts_with(b"endless") {
            if cancel.is_cancelled() {
                return Err(EngineError::Cancelled);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let y = f32::from(u8::from(self.bytes.starts_with(b"other")));
        let y = Tensor::new(vec![1], vec![y]).unwrap();
        Ok(vec![("y".to_owned(), Value::Tensor(y))])
    }
}

/// A reloader that has tidied up when a check has ended, so that another can follow it as in another process.
struct Process(Reloader);

impl Process {
    async fn check(&self) -> Outcome {
        let outcome = self.0.check().await;
        self.0.journal(&mut *self.known.lock().await).await;
        outcome
    }
}

impl std::ops::Deref for Process {
    type Target = Reloader;

    fn deref(&self) -> &Reloader {
        &self.0
    }
}

/// A shelf, a cache directory, and reloaders over them: a new one is a new start in the same environment.
struct Bench {
    shelf: Arc<Shelf>,
    directory: tempfile::TempDir,
    name: ModelName,
    key: &'static str,
    choice: Choice,
    seen: Arc<StdMutex<Seen>>,
    mode: Reload,
    /// Bytes of memory.
    free: Option<u64>,
    /// Bytes that the cache may take.
    most: Option<u64>,
    snap_start: bool,
    clock: Arc<dyn Clock>,
}

struct Free(Option<u64>);

impl crate::sys::MemoryProbe for Free {
    fn free(&self) -> Option<u64> {
        self.0
    }
}

impl Bench {
    /// A model's file, as most tests want it.
    fn new(held: Held) -> Self {
        let bench = Self::at("wine.onnx");
        bench.holds(held);
        bench
    }

    /// A place of which nothing is held yet, and what a location names there.
    fn at(key: &'static str) -> Self {
        Self {
            shelf: Arc::default(),
            directory: tempfile::tempdir().unwrap(),
            name: ModelName::parse("wine").unwrap(),
            key,
            choice: Choice::Newest,
            seen: Arc::default(),
            mode: Reload::Auto,
            free: None,
            most: None,
            snap_start: false,
            clock: Arc::new(SystemClock),
        }
    }

    fn start(&self) -> Process {
        let name = self.name.clone();
        let location = Location::S3 {
            bucket: "b".to_owned(),
            key: self.key.to_owned(),
        };
        let models = Arc::new(Models::new([name.clone()]));
        let shared = Shared {
            cache: Cache::open_with(
                self.directory.path(),
                &cache::CacheSettings {
                    max_bytes: self.most,
                    ..cache::CacheSettings::default()
                },
            )
            .unwrap(),
            parts: PartLimits::for_memory(None),
            engine: EngineSlot::new({
                let (seen, models) = (Arc::clone(&self.seen), Arc::clone(&models));
                move || {
                    let (seen, models) = (Arc::clone(&seen), Arc::clone(&models));
                    Ok(Arc::new(Loader { seen, models }))
                }
            }),
            models,
            memory: Arc::new(Memory {
                mode: self.mode,
                probe: Box::new(Free(self.free)),
                loads: memory::Loads::default(),
                account: Arc::new(Account::unlimited()),
            }),
            status: Arc::new(Status::new([name.clone()]).0),
            clock: Arc::clone(&self.clock),
            thaws: Thaws::default(),
            snap_start: self.snap_start,
        };
        Process(Reloader::new(
            ModelSettings {
                choice: self.choice.clone(),
                ..ModelSettings::new(name, location).unwrap()
            },
            Box::new(Arc::clone(&self.shelf)),
            shared,
        ))
    }

    fn holds(&self, held: Held) {
        self.shelf.holds("wine.onnx", held);
    }

    /// How many transfers there were since this was last asked.
    fn transfers(&self) -> usize {
        self.shelf.transfers().len()
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.directory.path().join("files"))
            .unwrap()
            .count()
    }

    /// Waits until a load has begun.
    async fn loading(&self) {
        let marks = self.directory.path().join("loading");
        while std::fs::read_dir(&marks).unwrap().count() == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// The identity of the active version.
    fn version(&self, reloader: &Reloader) -> Option<String> {
        let active = reloader.shared.models.current(&self.name);
        active.map(|loaded| loaded.digest.to_string())
    }

    /// The public name of the active version.
    fn named(&self, reloader: &Reloader) -> Option<String> {
        let active = reloader.shared.models.current(&self.name);
        active.map(|loaded| loaded.version.to_string())
    }

    fn problem(&self, reloader: &Reloader) -> Option<String> {
        reloader.shared.status.get(&self.name).unwrap().detail
    }
}

#[tokio::test]
async fn a_new_version_answers_and_the_old_file_stays_for_its_return() {
    let bench = Bench::new(Ok(("1", b"model one")));
    let reloader = bench.start();
    assert!(matches!(
        reloader.check().await,
        Outcome::Loaded(Steps {
            fetch: Some(_),
            bytes: 9,
            ..
        })
    ));
    let first = bench.version(&reloader).unwrap();
    assert_eq!(reloader.check().await, Outcome::Current);
    bench.holds(Ok(("2", b"model two")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_ne!(bench.version(&reloader).unwrap(), first);
    assert_eq!((bench.transfers(), bench.files()), (2, 2));
    bench.holds(Ok(("1", b"model one")));
    assert!(matches!(
        reloader.check().await,
        Outcome::Loaded(Steps { bytes: 9, .. })
    ));
    assert_eq!(bench.version(&reloader).unwrap(), first);
}

#[tokio::test]
async fn a_bad_version_changes_nothing_and_is_fetched_once() {
    let bench = Bench::new(Ok(("1", b"model one")));
    let reloader = bench.start();
    reloader.check().await;
    let first = bench.version(&reloader);
    bench.holds(Ok(("2", b"bad model")));
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(bench.version(&reloader), first);
    assert!(
        bench.problem(&reloader).unwrap().contains("not a model"),
        "the status still says why"
    );
    assert_eq!((bench.transfers(), bench.files()), (2, 1));
    // The same bytes uploaded again are no new model; other bytes are.
    bench.holds(Ok(("3", b"bad model")));
    assert_eq!(reloader.check().await, Outcome::Failed);
    bench.holds(Ok(("4", b"model four")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.problem(&reloader), None);
}

#[tokio::test]
async fn a_second_start_fetches_nothing() {
    let bench = Bench::new(Ok(("1", b"model one")));
    bench.start().check().await;
    let again = bench.start();
    assert!(matches!(
        again.check().await,
        Outcome::Loaded(Steps { fetch: None, .. })
    ));
    assert_eq!(bench.transfers(), 1);
}

#[tokio::test]
async fn a_start_without_the_source_takes_the_cache_and_one_without_both_says_why() {
    let bench = Bench::new(Ok(("1", b"model one")));
    bench.start().check().await;
    bench.holds(Err("no route to S3"));
    let again = bench.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert!(bench.version(&again).is_some());

    let bench = Bench::new(Err("no route to S3"));
    let reloader = bench.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert!(bench.problem(&reloader).unwrap().contains("no route to S3"));
    bench.holds(Ok(("1", b"model one")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.problem(&reloader), None);
}

#[tokio::test]
async fn a_start_after_a_bad_version_still_finds_the_good_one_in_the_cache_when_the_source_is_away()
{
    let bench = Bench::new(Ok(("1", b"model one")));
    let reloader = bench.start();
    reloader.check().await;
    let good = bench.version(&reloader);
    bench.holds(Ok(("2", b"bad model")));
    reloader.check().await;
    bench.holds(Err("no route to S3"));
    let again = bench.start();
    again.check().await;
    assert_eq!(bench.version(&again), good);
}

#[tokio::test]
async fn a_start_at_which_the_source_holds_a_bad_version_takes_the_last_good_one() {
    let bench = Bench::new(Ok(("1", b"model one")));
    let reloader = bench.start();
    reloader.check().await;
    let good = bench.version(&reloader);
    bench.holds(Ok(("2", b"bad model")));
    let again = bench.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.version(&again), good);
    assert!(bench.problem(&again).unwrap().contains("not a model"));
    // What is known to be bad is neither fetched nor tried by the starts that follow.
    let third = bench.start();
    assert!(matches!(third.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.version(&third), good);
    assert!(bench.problem(&third).unwrap().contains("not a model"));
    assert_eq!(bench.transfers(), 2);
    // The good one put back is no transfer either, and no problem any more.
    bench.holds(Ok(("1", b"model one")));
    assert_eq!(third.check().await, Outcome::Current);
    assert_eq!(bench.problem(&third), None);
    let again = bench.start();
    again.check().await;
    assert_eq!(bench.version(&again), good);
}

#[tokio::test]
async fn a_version_whose_load_killed_the_process_is_not_loaded_again() {
    let bench = Bench::new(Ok(("1", b"model one")));
    let reloader = bench.start();
    reloader.check().await;
    let good = bench.version(&reloader);
    bench.holds(Ok(("2", b"hang model")));
    let stuck = bench.start();
    let check = tokio::spawn(async move { stuck.check().await });
    bench.loading().await;
    // Dropped in the middle of the load, as the process is by a SIGKILL.
    check.abort();
    let _ = check.await;
    let again = bench.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.version(&again), good);
    assert!(
        bench
            .problem(&again)
            .unwrap()
            .contains("the process ended while it loaded")
    );
    assert_eq!(bench.transfers(), 2);
}

#[tokio::test]
async fn a_file_that_the_cache_has_lost_is_fetched_again() {
    let bench = Bench::new(Ok(("1", b"model one")));
    bench.start().check().await;
    for file in std::fs::read_dir(bench.directory.path().join("files")).unwrap() {
        std::fs::write(file.unwrap().path(), b"torn").unwrap();
    }
    let again = bench.start();
    assert!(matches!(
        again.check().await,
        Outcome::Loaded(Steps { fetch: Some(_), .. })
    ));
    assert_eq!((bench.transfers(), bench.files()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_breaks_goes_on_as_long_as_it_brings_something() {
    let bench = Bench::new(Ok(("1", b"model one")));
    bench.shelf.breaks.store(2, Ordering::Relaxed);
    assert!(matches!(bench.start().check().await, Outcome::Loaded(_)));
    assert_eq!(bench.transfers(), 3);

    let bench = Bench::new(Ok(("1", b"model one")));
    bench.shelf.breaks.store(usize::MAX, Ordering::Relaxed);
    let reloader = bench.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert!(
        bench
            .problem(&reloader)
            .unwrap()
            .contains("connection reset")
    );
    // Of 9 bytes 4, 2, 1, 1 and then nothing, as often as that is tried.
    assert_eq!((bench.transfers(), bench.files()), (4 + 4, 0));
}

#[tokio::test]
async fn checks_at_the_same_time_are_one() {
    let bench = Bench::new(Ok(("1", b"model one")));
    let reloader = Arc::new(bench.start());
    let checks: Vec<_> = (0..5)
        .map(|_| {
            let reloader = Arc::clone(&reloader);
            tokio::spawn(async move { reloader.check().await })
        })
        .collect();
    for check in checks {
        check.await.unwrap();
    }
    assert_eq!(bench.transfers(), 1);
    assert_eq!(
        reloader
            .shared
            .status
            .get(&bench.name)
            .unwrap()
            .checks_ended,
        1
    );
}
