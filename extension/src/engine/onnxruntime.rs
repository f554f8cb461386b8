//! ONNX Runtime through `ort`.
//!
//! One environment with one global thread pool for all sessions, without spinning, since on a fraction of a
//! CPU that burns the caller's money. Panics inside the bindings become errors. Input buffers are handed over
//! without a copy.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::logging::LogLevel;
use ort::session::SessionInputValue;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::DynValue;

use super::session::OnnxSession;
use super::{Engine, EngineError, Session, arena, failure, weight_loader};
use crate::onnx::{
    self, AtLoad, Description, Format, Skeleton, Unzipped, ZipMapOutput, empty_sequence,
};
use crate::tensor::Datatype;

/// With fewer bytes of weights, a model loads as fast as a whole, and what is held twice is little.
const WORTH_IT: u64 = 4 * 1024 * 1024;

/// The one ONNX Runtime of this process.
pub struct OnnxRuntime {
    environment: Environment,
    /// The limit of the arena that sessions share, where they do.
    arena: Option<u64>,
    custom_ops: OnceLock<Vec<PathBuf>>,
}

impl OnnxRuntime {
    /// Opens the library at `path`, and starts a pool in which a run uses up to `threads` threads. At most once
    /// in a process. Runs and weights take up to `memory` bytes together, where that is given. Takes 15 to 40 ms: call it on
    /// a thread, in parallel with the fetch.
    pub fn open(path: &Path, threads: usize, memory: Option<u64>) -> Result<Self, EngineError> {
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
            weight_loader::install(path);
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
            let arena = memory.filter(|limit| match arena::register(&environment, *limit) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!("cannot limit ONNX Runtime's memory: {error}");
                    false
                }
            });
            Ok(Self {
                environment,
                arena,
                custom_ops: OnceLock::new(),
            })
        };
        guarded(open).unwrap_or_else(|panic| Err(failed(panic)))
    }

    /// Has models find the operators of these libraries, too. Each is loaded once here, so that one that cannot be is an
    /// error now and not at the first model. Once they are taken, another call changes nothing.
    pub fn use_custom_ops(&self, libraries: &[PathBuf]) -> Result<(), EngineError> {
        for path in libraries {
            let failed = |reason: String| EngineError::CustomOps {
                path: path.clone(),
                reason,
            };
            let register = || {
                let builder = ort::session::Session::builder(&self.environment)?;
                builder.with_operator_library(path)?;
                Ok(())
            };
            match guarded(register) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(failed(text::<()>(&error))),
                Err(panic) => return Err(failed(panic)),
            }
        }
        self.custom_ops.get_or_init(|| libraries.to_vec());
        Ok(())
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    pub(super) fn session(
        &self,
        session: ort::session::Session,
        has_fixed_work: bool,
        stand_ins: BTreeMap<String, ZipMapOutput>,
    ) -> OnnxSession {
        let empty_sequence = |datatype| self.empty_sequence(datatype).ok();
        OnnxSession::new(
            session,
            has_fixed_work,
            stand_ins,
            self.arena,
            empty_sequence,
        )
    }

    /// An empty sequence of tensors of this type.
    fn empty_sequence(&self, datatype: Datatype) -> ort::Result<DynValue> {
        let mut builder = ort::session::Session::builder(&self.environment)?;
        let mut session = builder.commit_from_memory(&empty_sequence(datatype))?;
        let inputs: [SessionInputValue<'_>; 0] = [];
        let mut outputs = session.run(inputs)?.into_iter();
        let sequence = outputs.next().map(|(_, sequence)| sequence);
        sequence.ok_or_else(|| ort::Error::new("there is no sequence"))
    }

    /// Sets what the file itself asks for.
    fn builder_for(&self, description: Option<&Description>) -> ort::Result<SessionBuilder> {
        let mut builder = ort::session::Session::builder(&self.environment)?;
        if self.arena.is_some() {
            builder = builder.with_env_allocators()?;
        }
        for library in self.custom_ops.get().into_iter().flatten() {
            builder = builder.with_operator_library(library)?;
        }
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
            let has_fixed_work = description.as_ref().is_some_and(|it| it.has_fixed_work);
            let plain = description
                .filter(is_plain)
                .and_then(|_| File::open(file).ok());
            if let Some((session, zipped)) = plain
                .as_ref()
                .and_then(|file| without_zip_maps(&mut builder, file))
            {
                return Ok::<_, ort::Error>(self.session(session, has_fixed_work, zipped));
            }
            let beside = plain.and_then(|file| beside_its_weights(&mut builder, &file));
            let session = match beside {
                Some(session) => session,
                None => builder.commit_from_file(file)?,
            };
            Ok(self.session(session, has_fixed_work, BTreeMap::new()))
        };
        match guarded(load) {
            Ok(Ok(session)) => Ok(Box::new(session)),
            Ok(Err(error)) => Err(
                match failure::of_load(error.code(), text(&error), self.arena) {
                    EngineError::Load(reason) => EngineError::Load(explained(file, &reason)),
                    other => other,
                },
            ),
            Err(panic) => Err(EngineError::Panicked(panic)),
        }
    }
}

/// Why a file could not be loaded: what it is instead of a model, where that is known, or else ONNX Runtime's words, in
/// which no path is named.
fn explained(file: &Path, said: &str) -> String {
    let mut beginning = [0; 32];
    let read = File::open(file).and_then(|mut file| file.read(&mut beginning));
    let beginning = &beginning[..read.unwrap_or_default()];
    if let Some(foreign) = onnx::foreign(beginning) {
        return foreign.to_owned();
    }
    let said = said.replace(&*file.to_string_lossy(), "the model's file");
    match file.parent() {
        Some(folder) => said.replace(&format!("{}/", folder.display()), ""),
        None => said,
    }
}

/// Whether a model is all in one file of ONNX's format, and is to be optimised.
fn is_plain(description: &Description) -> bool {
    description.format == Format::Onnx
        && description.external.is_empty()
        && description.at_load() == AtLoad::Optimise
}

/// Loads a model that holds its weights without reading it as one message. Where that is not possible, for whatever
/// reason, it is for the ordinary load to say what is the matter, if anything is.
fn beside_its_weights(builder: &mut SessionBuilder, file: &File) -> Option<ort::session::Session> {
    loaded(weight_loader::load(
        builder,
        Skeleton::of(file, WORTH_IT)?,
        file,
    )?)
}

/// Loads a model that ends in sequences of maps without them, and says what its outputs are. Where that is not possible,
/// as above.
fn without_zip_maps(
    builder: &mut SessionBuilder,
    file: &File,
) -> Option<(ort::session::Session, BTreeMap<String, ZipMapOutput>)> {
    let Unzipped { model, outputs } = Unzipped::of(file)?;
    let session = loaded(builder.commit_from_memory(&model))?;
    Some((session, outputs))
}

fn loaded(session: ort::Result<ort::session::Session>) -> Option<ort::session::Session> {
    if let Err(error) = &session {
        tracing::debug!("the model is loaded as it is: {}", text(error));
    }
    session.ok()
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
