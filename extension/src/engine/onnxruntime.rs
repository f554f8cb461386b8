//! ONNX Runtime through `ort`.
//!
//! One environment with one global thread pool serves all sessions. The pool does not spin, since spinning wastes
//! billed time on a fraction of a CPU. Panics inside the bindings become errors. Input buffers are passed without a
//! copy.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ort::LoadDynamicError;
use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::logging::LogLevel;
use ort::session::SessionInputValue;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::DynValue;

use super::bindings::{catch_panic, log, message};
use super::session::OnnxSession;
use super::{Engine, EngineError, PreparedWeights, Session, arena, failure, weight_loader};
use crate::growing_file::GrowingFile;
use crate::onnx::{
    self, AtLoad, Description, Format, ModelWithoutZipMap, OnnxError, Skeleton, WeightStorage,
    ZipMapOutput, empty_sequence,
};
use crate::sys::with_huge_pages;
use crate::tensor::Datatype;

/// Minimum size of a model's weights, in bytes, for the weight loader. Below it the ordinary load is as fast, and
/// little memory is held twice.
const MIN_WEIGHT_BYTES: u64 = 4 * 1024 * 1024;

/// The ONNX Runtime of this process.
pub struct OnnxRuntime {
    environment: Environment,
    /// Limit of the shared arena in bytes, if there is one.
    arena: Option<u64>,
    custom_ops: OnceLock<Vec<PathBuf>>,
    /// Threads of a run, and of a load.
    threads: usize,
}

impl OnnxRuntime {
    /// Opens the library at `path` and starts a pool in which a run uses up to `threads` threads. Must be called at
    /// most once in a process. `memory` limits the bytes of all runs and weights together. Takes 15 to 40 ms: call it
    /// on a separate thread, in parallel with the fetch.
    pub fn open(path: &Path, threads: usize, memory: Option<u64>) -> Result<Self, EngineError> {
        let failed = |reason: String| EngineError::Library {
            path: path.to_owned(),
            reason: with_glibc_hint(reason),
        };
        // Once a library is open, the bindings ignore the path.
        if !path.is_file() {
            return Err(failed("no such file".to_owned()));
        }
        let open = || {
            let library = ort::init_from(path).map_err(|error| failed(dlopen_reason(&error)))?;
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
                threads,
            })
        };
        catch_panic(open).unwrap_or_else(|panic| Err(failed(panic)))
    }

    /// Registers libraries of custom operators for all models. Each is loaded once here, so that a broken library is an
    /// error at startup and not at the first load. Further calls change nothing.
    pub fn use_custom_ops(&self, libraries: &[PathBuf]) -> Result<(), EngineError> {
        for path in libraries {
            let failed = |reason: String| EngineError::CustomOps {
                path: path.clone(),
                reason: with_glibc_hint(reason),
            };
            let register = || {
                let builder = ort::session::Session::builder(&self.environment)?;
                builder.with_operator_library(path)?;
                Ok(())
            };
            match catch_panic(register) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(failed(message::<()>(&error))),
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
        zipmap_outputs: BTreeMap<String, ZipMapOutput>,
    ) -> OnnxSession {
        let empty_sequence = |datatype| self.empty_sequence(datatype).ok();
        OnnxSession::new(
            session,
            has_fixed_work,
            zipmap_outputs,
            self.arena,
            empty_sequence,
        )
    }

    /// Returns an empty sequence of tensors of this type.
    fn empty_sequence(&self, datatype: Datatype) -> ort::Result<DynValue> {
        let mut builder = ort::session::Session::builder(&self.environment)?;
        let mut session = builder.commit_from_memory(&empty_sequence(datatype))?;
        let inputs: [SessionInputValue<'_>; 0] = [];
        let mut outputs = session.run(inputs)?.into_iter();
        let sequence = outputs.next().map(|(_, sequence)| sequence);
        sequence.ok_or_else(|| ort::Error::new("ONNX Runtime returned no sequence"))
    }

    /// Returns a session builder with the settings that the file asks for.
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
        if description.weight_storage() == Some(WeightStorage::Int8) {
            // For the ordinary load: by default `DequantizeLinear` is not folded, but executed in every run.
            builder = builder.with_config_entry("session.disable_quant_qdq", "1")?;
        }
        // Without this entry ONNX Runtime goes by the file extension, and a cached file is named by its digest.
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
    fn prepare(&self, file: &GrowingFile) -> PreparedWeights {
        let prepared = catch_panic(|| with_huge_pages(|| weight_loader::prepare(file)));
        prepared.unwrap_or_default()
    }

    fn load_prepared(
        &self,
        file: &Path,
        description: Option<&Description>,
        prepared: PreparedWeights,
    ) -> Result<Box<dyn Session>, EngineError> {
        let read = || Description::read(&File::open(file).ok()?).ok();
        // ONNX Runtime loads or reports files that cannot be parsed here.
        let description = description.cloned().or_else(read);
        let expanded = description
            .as_ref()
            .map_or(Ok(None), |it| with_expanded_weights(file, it))?;
        let load = || {
            let mut builder = self.builder_for(description.as_ref())?;
            let has_fixed_work = description.as_ref().is_some_and(|it| it.has_fixed_work);
            let expanded_session = expanded.and_then(|(skeleton, file)| {
                session_or_log(weight_loader::load(
                    &mut builder,
                    skeleton,
                    &file,
                    self.threads,
                    prepared,
                )?)
            });
            if let Some(session) = expanded_session {
                return Ok(self.session(session, has_fixed_work, BTreeMap::new()));
            }
            let single_file = description
                .filter(is_single_onnx_file)
                .and_then(|_| File::open(file).ok());
            if let Some((session, zipmap_outputs)) = single_file
                .as_ref()
                .and_then(|file| load_without_zipmap(&mut builder, file))
            {
                return Ok::<_, ort::Error>(self.session(session, has_fixed_work, zipmap_outputs));
            }
            let session_with_weights = single_file
                .and_then(|file| load_with_weight_loader(&mut builder, &file, self.threads));
            let session = match session_with_weights {
                Some(session) => session,
                None => builder.commit_from_file(file)?,
            };
            Ok(self.session(session, has_fixed_work, BTreeMap::new()))
        };
        match catch_panic(|| with_huge_pages(load)) {
            Ok(Ok(session)) => Ok(Box::new(session)),
            Ok(Err(error)) => Err(
                match failure::of_load(error.code(), message(&error), self.arena) {
                    EngineError::Load(reason) => {
                        EngineError::Load(load_error_reason(file, &reason))
                    }
                    other => other,
                },
            ),
            Err(panic) => Err(EngineError::Panicked(panic)),
        }
    }
}

/// Returns the reason why the library cannot be opened: the message of the dynamic loader if there is one, which the
/// bindings leave out.
fn dlopen_reason(error: &LoadDynamicError) -> String {
    match error {
        LoadDynamicError::Dlopen { error, .. } => error.source().map(ToString::to_string),
        _ => None,
    }
    .unwrap_or_else(|| error.to_string())
}

/// Returns the reason why a library cannot be opened, with a remedy if the system's glibc is too old for it.
fn with_glibc_hint(mut reason: String) -> String {
    if reason.contains("GLIBC_") {
        reason.push_str(
            "; the runtime's glibc is too old, as on Amazon Linux 2: use a runtime on Amazon Linux 2023",
        );
    }
    reason
}

/// Returns the reason of a failed load: the actual format of the file if it is recognized, or else ONNX Runtime's
/// message without the path.
fn load_error_reason(file: &Path, message_text: &str) -> String {
    let mut beginning = [0; 32];
    let read = File::open(file).and_then(|mut file| file.read(&mut beginning));
    let beginning = &beginning[..read.unwrap_or_default()];
    if let Some(format) = onnx::other_format(beginning) {
        return format.to_owned();
    }
    let message_text = message_text.replace(&*file.to_string_lossy(), "the model's file");
    match file.parent() {
        Some(folder) => message_text.replace(&format!("{}/", folder.display()), ""),
        None => message_text,
    }
}

/// Returns the skeleton of a model whose weights are stored in a smaller type, with its file. A malformed weight is an
/// error, since it would never be what its publisher measured.
fn with_expanded_weights(
    path: &Path,
    description: &Description,
) -> Result<Option<(Skeleton, File)>, EngineError> {
    let is_single_file = description.format == Format::Onnx && description.external.is_empty();
    if description.weight_storage().is_none() || !is_single_file {
        return Ok(None);
    }
    let failed = |error: OnnxError| match error {
        OnnxError::Read(error) => EngineError::File {
            is_missing: error.kind() == std::io::ErrorKind::NotFound,
            reason: error.to_string(),
        },
        error => EngineError::Load(error.to_string()),
    };
    let file = File::open(path).map_err(|error| failed(error.into()))?;
    let skeleton = Skeleton::of_marked(&file).map_err(failed)?;
    Ok(skeleton.map(|skeleton| (skeleton, file)))
}

/// Returns `true` if the model is a single file in ONNX format that is optimised at load.
fn is_single_onnx_file(description: &Description) -> bool {
    description.format == Format::Onnx
        && description.external.is_empty()
        && description.at_load() == AtLoad::Optimise
}

/// Loads a model with the weight loader. On failure returns `None`, and the ordinary load reports the error if there is
/// one.
fn load_with_weight_loader(
    builder: &mut SessionBuilder,
    file: &File,
    threads: usize,
) -> Option<ort::session::Session> {
    session_or_log(weight_loader::load(
        builder,
        Skeleton::of(file, MIN_WEIGHT_BYTES)?,
        file,
        threads,
        PreparedWeights::default(),
    )?)
}

/// Loads a model without its `ZipMap` nodes and returns the maps that its outputs represent. On failure returns `None`,
/// as above.
fn load_without_zipmap(
    builder: &mut SessionBuilder,
    file: &File,
) -> Option<(ort::session::Session, BTreeMap<String, ZipMapOutput>)> {
    let ModelWithoutZipMap { model, outputs } = ModelWithoutZipMap::of(file)?;
    let session = session_or_log(builder.commit_from_memory(&model))?;
    Some((session, outputs))
}

fn session_or_log(session: ort::Result<ort::session::Session>) -> Option<ort::session::Session> {
    if let Err(error) = &session {
        tracing::debug!("falling back to the ordinary load: {}", message(error));
    }
    session.ok()
}
