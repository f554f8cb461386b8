//! ONNX Runtime through `ort`.
//!
//! One environment with one global thread pool for all sessions, without spinning, since on a fraction of a
//! CPU that burns the caller's money. Panics inside the bindings become errors. Input buffers are handed over
//! without a copy.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::error::ErrorCode;
use ort::logging::LogLevel;
use ort::session::RunOptions;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::DynValue;

use super::{Cancel, Engine, EngineError, Session, inline, values};
use crate::onnx::{AtLoad, Description, Format, Skeleton};
use crate::tensor::{Port, Signature, Value};

/// With fewer bytes of weights, a model loads as fast as a whole, and what is held twice is little.
const WORTH_IT: u64 = 4 * 1024 * 1024;

/// The one ONNX Runtime of this process.
pub struct OnnxRuntime {
    environment: Environment,
}

impl OnnxRuntime {
    /// Opens the library at `path`, and starts a pool in which a run uses up to `threads` threads. At most once
    /// in a process. Takes 15 to 40 ms: call it on a thread, beside the fetch.
    pub fn open(path: &Path, threads: usize) -> Result<Self, EngineError> {
        let failed = |reason: String| EngineError::Library {
            path: path.to_owned(),
            reason,
        };
        // Once a library is open, the bindings take any path for it.
        if !path.is_file() {
            return Err(failed("there is no such file".to_owned()));
        }
        let open = || {
            let library = ort::init_from(path).map_err(|error| failed(error.to_string()))?;
            inline::install(path);
            let pool = GlobalThreadPoolOptions::default()
                .with_intra_threads(threads)
                .and_then(|pool| pool.with_inter_threads(1))
                .and_then(|pool| pool.with_spin_control(false))
                .map_err(|error| failed(error.to_string()))?;
            let environment = library
                .with_telemetry(false)
                .with_global_thread_pool(pool)
                .with_logger(Arc::new(log))
                .build()
                .map_err(|error| failed(error.to_string()))?;
            environment.set_log_level(LogLevel::Warning);
            Ok(Self { environment })
        };
        guarded(open).unwrap_or_else(|panic| Err(failed(panic)))
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Sets what the file itself asks for.
    fn builder_for(&self, description: Option<&Description>) -> ort::Result<SessionBuilder> {
        let builder = ort::session::Session::builder(&self.environment)?;
        let Some(description) = description else {
            return Ok(builder);
        };
        let (format, at_load) = (description.format, description.at_load());
        // Told nothing, ONNX Runtime goes by the ending of the name, and in the cache a name is a digest.
        let format = match format {
            Format::Onnx => "ONNX",
            Format::Ort => "ORT",
        };
        let builder = builder.with_config_entry("session.load_model_format", format)?;
        Ok(match at_load {
            AtLoad::Optimise => builder,
            AtLoad::AsItIs => builder.with_optimization_level(GraphOptimizationLevel::Disable)?,
            AtLoad::Map => builder
                .with_optimization_level(GraphOptimizationLevel::Disable)?
                .with_prepacking(false)?,
        })
    }
}

impl Engine for OnnxRuntime {
    fn load(
        &self,
        file: &Path,
        description: Option<&Description>,
    ) -> Result<Box<dyn Session>, EngineError> {
        let load = || {
            let read = || Description::read(&File::open(file).ok()?).ok();
            // What cannot be read so is left to ONNX Runtime: it says why, or it can.
            let description = description.cloned().or_else(read);
            let mut builder = self.builder_for(description.as_ref())?;
            let beside = description
                .and_then(|description| beside_its_weights(&mut builder, file, &description));
            let session = match beside {
                Some(session) => session,
                None => builder.commit_from_file(file)?,
            };
            Ok(OnnxSession::new(session))
        };
        match guarded(load) {
            Ok(Ok(session)) => Ok(Box::new(session)),
            Ok(Err(error)) => Err(EngineError::Load(text(&error))),
            Err(panic) => Err(EngineError::Panicked(panic)),
        }
    }
}

/// Loads a model that holds its weights without reading it as one message. Where that is not possible, for whatever
/// reason, it is for the ordinary load to say what is the matter, if anything is.
fn beside_its_weights(
    builder: &mut SessionBuilder,
    file: &Path,
    description: &Description,
) -> Option<ort::session::Session> {
    let is_plain = description.format == Format::Onnx
        && description.external.is_empty()
        && description.at_load() == AtLoad::Optimise;
    let file = File::open(file).ok().filter(|_| is_plain)?;
    let session = inline::load(builder, Skeleton::of(&file, WORTH_IT)?, &file)?;
    if let Err(error) = &session {
        tracing::debug!("the model is loaded as a whole: {}", text(error));
    }
    session.ok()
}

pub(super) struct OnnxSession {
    signature: Signature,
    session: Mutex<ort::session::Session>,
}

impl Session for OnnxSession {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(
        &self,
        inputs: Vec<(String, Value)>,
        outputs: &[String],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Value)>, EngineError> {
        guarded(|| self.run_unguarded(inputs, outputs, cancel))
            .unwrap_or_else(|panic| Err(EngineError::Panicked(panic)))
    }
}

impl OnnxSession {
    pub(super) fn new(session: ort::session::Session) -> Self {
        let ports = |outlets: &[ort::value::Outlet]| {
            let port = |outlet: &ort::value::Outlet| Port {
                name: outlet.name().to_owned(),
                kind: values::kind(outlet.dtype()),
            };
            outlets.iter().map(port).collect()
        };
        let signature = Signature {
            inputs: ports(session.inputs()),
            outputs: ports(session.outputs()),
        };
        Self {
            signature,
            session: Mutex::new(session),
        }
    }

    fn run_unguarded(
        &self,
        inputs: Vec<(String, Value)>,
        outputs: &[String],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Value)>, EngineError> {
        let inputs = inputs
            .into_iter()
            .map(|(name, value)| match values::to_onnx(value) {
                Ok(value) => Ok((name, value)),
                Err(reason) => Err(EngineError::Input(format!("input {name:?}: {reason}"))),
            })
            .collect::<Result<Vec<(String, DynValue)>, EngineError>>()?;
        // The flag that stops a run sticks to its options, so each run has its own.
        let stop = Arc::new(RunOptions::new().map_err(|error| run_error(&error))?);
        let armed = cancel.arm(Box::new({
            let stop = Arc::clone(&stop);
            move || {
                let _ = stop.terminate();
            }
        }));
        if !armed {
            return Err(EngineError::Cancelled);
        }
        // A panic in an earlier run happened while its outputs were read, and leaves the session usable.
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        // Lent, since an output that is an input lies in the input's memory.
        let lent = inputs.iter().map(|(name, value)| (name.as_str(), value));
        let lent: Vec<(&str, &DynValue)> = lent.collect();
        let results = match session.run_with_options(lent, &stop) {
            Ok(results) => results,
            Err(_) if cancel.is_cancelled() => return Err(EngineError::Cancelled),
            Err(error) => return Err(run_error(&error)),
        };
        let asked = |name: &str| outputs.is_empty() || outputs.iter().any(|output| output == name);
        results
            .into_iter()
            .filter(|(name, _)| asked(name))
            .map(|(name, value)| match values::from_onnx(value) {
                Ok(value) => Ok((name.to_owned(), value)),
                Err(reason) => Err(EngineError::Output {
                    name: name.to_owned(),
                    reason,
                }),
            })
            .collect()
    }
}

/// How ONNX Runtime begins what it says of a node that failed, whatever the code is.
const IN_A_NODE: &str = "Non-zero status code returned while running";

/// ONNX Runtime says `InvalidArgument` where an input does not fit the graph, and where a node finds out that something
/// does not fit; all else is the model's failure.
fn run_error(error: &ort::Error) -> EngineError {
    match error.code() {
        ErrorCode::InvalidArgument if text(error).contains(IN_A_NODE) => {
            EngineError::Node(text(error))
        }
        ErrorCode::InvalidArgument => EngineError::Input(text(error)),
        _ => EngineError::Run(text(error)),
    }
}

pub(super) fn text<R>(error: &ort::Error<R>) -> String {
    error.message().trim().to_owned()
}

/// Runs `work`, and turns a panic into its message, which is logged.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text
            .or(panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a message");
        tracing::error!("ONNX Runtime's bindings panicked: {text}");
        text.to_owned()
    })
}

fn log(level: LogLevel, category: &str, _session: &str, location: &str, message: &str) {
    match level {
        LogLevel::Verbose => {
            tracing::trace!(target: "onnxruntime", category, location, "{message}");
        }
        LogLevel::Info => tracing::debug!(target: "onnxruntime", category, location, "{message}"),
        LogLevel::Warning => tracing::warn!(target: "onnxruntime", category, location, "{message}"),
        LogLevel::Error | LogLevel::Fatal => {
            tracing::error!(target: "onnxruntime", category, location, "{message}");
        }
    }
}
