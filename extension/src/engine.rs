//! Loading and running of models. Other modules use the [`Engine`] and [`Session`] traits; only this module uses ONNX
//! Runtime.

mod arena;
mod bindings;
mod failure;
mod graph_optimisation;
mod memory;
mod onnxruntime;
mod read_ahead;
mod session;
mod values;
mod weight_loader;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use graph_optimisation::DimensionNames;
pub use memory::OutOfMemory;
pub use onnxruntime::OnnxRuntime;
pub use read_ahead::read_ahead;
pub use weight_loader::PreparedWeights;

use crate::growing_file::GrowingFile;
use crate::onnx::Description;
use crate::tensor::{SharedDimensions, Signature, Value};

/// Loader of models.
pub trait Engine: Send + Sync {
    /// Loads a model from a file; the file's name does not matter. `description` is what was read from the file, if it
    /// was read before. Takes from milliseconds to seconds: call it on a thread that may block.
    fn load(
        &self,
        file: &Path,
        description: Option<&Description>,
    ) -> Result<Box<dyn Session>, EngineError> {
        self.load_prepared(file, description, PreparedWeights::default())
    }

    /// Prepares the weights of a model while its file arrives. Blocks until the file is complete, or its writer ends.
    fn prepare(&self, _file: &GrowingFile) -> PreparedWeights {
        PreparedWeights::default()
    }

    /// Loads a model as [`Self::load`] does. `prepared` must be from the same file.
    fn load_prepared(
        &self,
        file: &Path,
        description: Option<&Description>,
        prepared: PreparedWeights,
    ) -> Result<Box<dyn Session>, EngineError>;
}

/// A loaded model, which any number of threads may run concurrently.
pub trait Session: Send + Sync {
    /// Returns the model's inputs and outputs.
    fn signature(&self) -> &Signature;

    /// Returns the named dimensions that several inputs share.
    fn shared_dimensions(&self) -> &SharedDimensions {
        SharedDimensions::NONE
    }

    /// Runs the model and returns the named outputs in the given order, each once; without names, all outputs.
    ///
    /// The inputs must match the signature in datatype and rank. Inputs that the graph itself rejects are
    /// [`EngineError::Input`]. Concurrent runs do not wait for each other.
    fn run(
        &self,
        inputs: &[(String, Value)],
        outputs: &[String],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Value)>, EngineError>;

    /// Returns `true` if the work of a run is known to depend only on the shapes of its inputs, not on their values.
    fn has_fixed_work(&self) -> bool {
        false
    }

    /// Makes the next run release, at its end, the memory that earlier runs allocated and no run uses.
    fn release_spare_memory(&self) {}

    /// Releases immediately the memory that earlier runs allocated and no run uses, where the engine can do that
    /// without a run.
    fn shrink(&self) {}
}

/// Failure to load or run a model.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The ONNX Runtime library cannot be opened.
    #[error("cannot open ONNX Runtime at {path}: {reason}")]
    Library {
        /// Path of the library.
        path: PathBuf,
        /// Message of the dynamic loader.
        reason: String,
    },
    /// A library of custom operators cannot be used.
    #[error("cannot load the operators of {path} (MODEL_CUSTOM_OPS): {reason}")]
    CustomOps {
        /// Path of the library.
        path: PathBuf,
        /// Message of ONNX Runtime or of the dynamic loader.
        reason: String,
    },
    /// The file is not a model that ONNX Runtime can load.
    #[error("ONNX Runtime cannot load the model: {0}")]
    Load(String),
    /// A file of the model could not be read. The model is not at fault, unless its files are complete and a referenced
    /// file is missing again.
    #[error("ONNX Runtime cannot read the model's files: {reason}")]
    File {
        /// Message of ONNX Runtime.
        reason: String,
        /// `true` if a file does not exist; `false` if an existing file cannot be read.
        is_missing: bool,
    },
    /// The model rejected its inputs: an error of the caller.
    #[error("{0}")]
    Input(String),
    /// A node of the graph rejected a value. Either the request or the model caused it; only further runs can tell.
    #[error("{0}")]
    Node(String),
    /// The model failed during a run.
    #[error("the model failed: {0}")]
    Run(String),
    /// Memory for a run or a load could not be allocated.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The run was cancelled.
    #[error("the run was cancelled")]
    Cancelled,
    /// An output has a kind that is not supported.
    #[error("cannot read output {name:?}: {reason}")]
    Output {
        /// Name of the output.
        name: String,
        /// Reason.
        reason: String,
    },
    /// A panic in ONNX Runtime's bindings, caught. Its message goes to the log only, since it may contain addresses.
    #[error("ONNX Runtime's bindings failed on this model; the log has the details")]
    Panicked(String),
    /// A thread could not be created, or ended early.
    #[error("cannot run the model: no thread is available: {0}")]
    Thread(String),
}

impl EngineError {
    /// Returns `true` if memory could not be allocated, in a load or in a run.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, EngineError::Memory(_))
    }

    /// Returns `true` if the model or ONNX Runtime failed: not an invalid request, and not a cancelled run.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        matches!(
            self,
            EngineError::Run(_) | EngineError::Output { .. } | EngineError::Panicked(_)
        )
    }
}

/// Cancellation of a run from another thread, before the run begins or between two nodes of the graph.
#[derive(Default)]
pub struct Cancel {
    state: Mutex<CancelState>,
}

#[derive(Default)]
struct CancelState {
    cancelled: bool,
    stop: Option<Box<dyn Fn() + Send>>,
}

impl Cancel {
    /// Cancels the run: now, or as soon as it begins.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.cancelled = true;
        if let Some(stop) = &state.stop {
            stop();
        }
    }

    /// Returns `true` if the run was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    /// Sets the function that stops the run that is about to begin. Returns `false` if the run must not begin.
    fn arm(&self, stop: Box<dyn Fn() + Send>) -> bool {
        let mut state = self.lock();
        state.stop = Some(stop);
        !state.cancelled
    }

    fn lock(&self) -> MutexGuard<'_, CancelState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
