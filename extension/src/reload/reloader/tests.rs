//! The reloader with a scripted source and engine, and a real cache on disk.

mod checks;
mod fake_source;
mod fallbacks;
mod files;
mod manifest;
mod outside_failures;
mod preparation;
mod rename;
mod replace;
mod repository;
mod rollback;
mod rollout;
mod silent_source;
mod validation;

use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;

use super::*;
use crate::cache::{self, Cache};
use crate::clock::{Clock, SystemClock, Thaws, Timestamp};
use crate::config::Location;
use crate::engine::{Cancel, Engine, EngineError, Session};
use crate::fetch::PartLimits;
use crate::growing_file::GrowingFile;
use crate::ids::ModelName;
use crate::models::Models;
use crate::onnx::Description;
use crate::reload::{EngineSlot, Loads, Memory};
use crate::request_memory::Account;
use crate::status::Status;
use crate::tensor::{Data, Datatype, Kind, Port, Signature, Tensor, Value};
use fake_source::{FakeSource, Held};

/// An engine that rejects files that begin with `bad`, and never returns for one that begins with `hang`. The models
/// have one input, `x`, of rows of two numbers, or of three if the file begins with `wide`. Their output, `y`, is 0,
/// or 1 if the file begins with `other`.
struct FakeEngine {
    seen: Arc<StdMutex<EngineLog>>,
    models: Arc<Models>,
}

/// Calls of the engine.
#[derive(Default)]
struct EngineLog {
    /// Bytes of each loaded model, and of its `weights.bin` if there was one.
    loaded: Vec<LoadedFiles>,
    runs: Vec<Run>,
    /// Number of sessions now, and at the beginning of each load.
    alive: usize,
    alive_before: Vec<usize>,
    /// Files that arrived during their preparation.
    prepared: Vec<Vec<u8>>,
    /// Makes loads fail, by the file and the bytes in it.
    fails: Option<LoadFault>,
}

type LoadFault = Box<dyn FnMut(&std::path::Path, &[u8]) -> Option<EngineError> + Send>;

type LoadedFiles = (Vec<u8>, Option<Vec<u8>>);

struct Run {
    inputs: Vec<(String, Value)>,
    /// Digest of the version that was active during the run.
    answering: Option<String>,
}

/// A session that fails if the file begins with `fail` or the first number is negative. With a file that begins with
/// `endless`, a run ends only when it is cancelled.
struct FakeSession {
    bytes: Vec<u8>,
    signature: Signature,
    seen: Arc<StdMutex<EngineLog>>,
    models: Arc<Models>,
}

fn is_negative(value: &Value) -> bool {
    let Value::Tensor(tensor) = value else {
        return false;
    };
    matches!(tensor.data(), Data::Fp32(data) if data.first().is_some_and(|first| *first < 0.0))
}

impl Drop for FakeSession {
    fn drop(&mut self) {
        self.seen.lock().unwrap().alive -= 1;
    }
}

impl Engine for FakeEngine {
    fn prepare(&self, file: &GrowingFile) -> PreparedWeights {
        if file.wait_for(file.length()).is_err() {
            return PreparedWeights::default();
        }
        let mut bytes = vec![0; usize::try_from(file.length()).unwrap()];
        file.file().read_exact_at(&mut bytes, 0).unwrap();
        self.seen.lock().unwrap().prepared.push(bytes);
        PreparedWeights::default()
    }

    fn load_prepared(
        &self,
        file: &std::path::Path,
        _: Option<&Description>,
        _: PreparedWeights,
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
        Ok(Box::new(FakeSession {
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

impl Session for FakeSession {
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

/// A reloader whose check includes the cleanup, so that another one can follow as in another process.
struct Process(Reloader);

impl Process {
    async fn check(&self) -> Outcome {
        let outcome = self.0.check().await;
        self.0.read_journal(&mut *self.journal.lock().await).await;
        outcome
    }
}

impl std::ops::Deref for Process {
    type Target = Reloader;

    fn deref(&self) -> &Reloader {
        &self.0
    }
}

/// A source and a cache directory. Each reloader over them is a new start in the same environment.
struct Fixture {
    source: Arc<FakeSource>,
    directory: tempfile::TempDir,
    name: ModelName,
    key: &'static str,
    choice: Choice,
    seen: Arc<StdMutex<EngineLog>>,
    mode: Reload,
    /// Free memory in bytes.
    free: Option<u64>,
    /// Maximum size of the cache in bytes.
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

impl Fixture {
    /// A source that holds a model's file.
    fn new(held: Held) -> Self {
        let fixture = Self::at("wine.onnx");
        fixture.holds(held);
        fixture
    }

    /// An empty source, and the key of the location.
    fn at(key: &'static str) -> Self {
        Self {
            source: Arc::default(),
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
                    Ok(Arc::new(FakeEngine { seen, models }))
                }
            }),
            models,
            memory: Arc::new(Memory {
                mode: self.mode,
                probe: Box::new(Free(self.free)),
                loads: Loads::default(),
                account: Arc::new(Account::unlimited()),
            }),
            status: Arc::new(Status::new([name.clone()]).0.for_snapshot(self.snap_start)),
            clock: Arc::clone(&self.clock),
            thaws: Thaws::default(),
            drift_rows: 1,
        };
        Process(Reloader::new(
            ModelSettings {
                choice: self.choice.clone(),
                ..ModelSettings::new(name, location).unwrap()
            },
            Box::new(Arc::clone(&self.source)),
            shared,
        ))
    }

    fn holds(&self, held: Held) {
        self.source.holds("wine.onnx", held);
    }

    /// Takes the number of transfers.
    fn transfers(&self) -> usize {
        self.source.transfers().len()
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.directory.path().join("files"))
            .unwrap()
            .count()
    }

    /// Waits for the begin of a load.
    async fn loading(&self) {
        let marks = self.directory.path().join("loading");
        while std::fs::read_dir(&marks).unwrap().count() == 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Digest of the active version.
    fn version(&self, reloader: &Reloader) -> Option<String> {
        let active = reloader.shared.models.current(&self.name);
        active.map(|loaded| loaded.digest.to_string())
    }

    /// Public name of the active version.
    fn named(&self, reloader: &Reloader) -> Option<String> {
        let active = reloader.shared.models.current(&self.name);
        active.map(|loaded| loaded.version.to_string())
    }

    fn problem(&self, reloader: &Reloader) -> Option<String> {
        reloader.shared.status.get(&self.name).unwrap().detail
    }

    /// Time since which a wanted version is not active.
    fn wanted_since(&self, reloader: &Reloader) -> Option<Timestamp> {
        let status = reloader.shared.status.get(&self.name);
        status.unwrap().wanted_since
    }
}
