//! Running models. A seam: all other rooms see sessions and values, only this one sees ONNX Runtime.

mod arena;
mod failure;
mod memory;
mod onnxruntime;
mod optimise;
mod session;
mod values;
mod weight_loader;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use memory::OutOfMemory;
pub use onnxruntime::OnnxRuntime;
pub use optimise::DimensionNames;

use crate::onnx::Description;
use crate::tensor::{SharedDimensions, Signature, Value};

/// Something that loads models.
pub trait Engine: Send + Sync {
    /// Loads a model from a file, whose name does not matter; `description` is what it says of itself, where that was
    /// read before. Takes from milliseconds to seconds: call it on a thread that may block.
    fn load(
        &self,
        file: &Path,
        description: Option<&Description>,
    ) -> Result<Box<dyn Session>, EngineError>;
}

/// A loaded model. Any number of threads may use it at once.
pub trait Session: Send + Sync {
    /// Its inputs and outputs.
    fn signature(&self) -> &Signature;

    /// The dimensions that several of its inputs share.
    fn shared_dimensions(&self) -> &SharedDimensions {
        SharedDimensions::NONE
    }

    /// Runs it, and gives the outputs of these names in this order, each once, or all when none is named. The inputs must
    /// be those of the signature, in datatype and rank; what the graph itself refuses is [`EngineError::Input`]. Runs at
    /// the same time do not wait for each other.
    fn run(
        &self,
        inputs: &[(String, Value)],
        outputs: &[String],
        cancel: &Cancel,
    ) -> Result<Vec<(String, Value)>, EngineError>;

    /// Whether it is known that what a run does follows from the shapes of its inputs, whatever their values are.
    fn has_fixed_work(&self) -> bool {
        false
    }

    /// Has the next run give back, at its end, the memory that earlier runs took and none has then.
    fn release_spare_memory(&self) {}

    /// Gives back at once the memory that earlier runs took and none has now, as far as the engine can do that without a
    /// run.
    fn shrink(&self) {}
}

/// Why a model could not be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// ONNX Runtime itself cannot be used.
    #[error("cannot open ONNX Runtime at {path}: {reason}")]
    Library {
        /// Where it was looked for.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
    /// A library of custom operators cannot be used.
    #[error("cannot load the operators of {path} (MODEL_CUSTOM_OPS): {reason}")]
    CustomOps {
        /// The library.
        path: PathBuf,
        /// What ONNX Runtime or the loader said.
        reason: String,
    },
    /// The file is no model that ONNX Runtime can load.
    #[error("ONNX Runtime cannot load the model: {0}")]
    Load(String),
    /// A file of the model could not be read. That says nothing about the model, unless the file is seen to be whole and
    /// one that it refers to is missing again.
    #[error("ONNX Runtime cannot read the model's files: {reason}")]
    File {
        /// The message of ONNX Runtime.
        reason: String,
        /// Set where a file was not there, rather than not readable.
        is_missing: bool,
    },
    /// The model refused its inputs: the caller's mistake.
    #[error("{0}")]
    Input(String),
    /// A node of the graph refused what came to it: what the caller sent led to it, or the model leads to it by itself,
    /// which only more runs can tell.
    #[error("{0}")]
    Node(String),
    /// The model failed while it ran.
    #[error("the model failed: {0}")]
    Run(String),
    /// There was no memory, for a run or for a load.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The run was cancelled.
    #[error("the run was cancelled")]
    Cancelled,
    /// An output has a kind that has no form here.
    #[error("output {name:?} cannot be read: {reason}")]
    Output {
        /// The output.
        name: String,
        /// What is the matter with it.
        reason: String,
    },
    /// A panic in ONNX Runtime's bindings, caught. Its message is for the log: it may hold addresses.
    #[error("ONNX Runtime's bindings failed on this model; the log has the details")]
    Panicked(String),
    /// No thread could be had, or one ended early.
    #[error("no thread for ONNX Runtime: {0}")]
    Thread(String),
}

impl EngineError {
    /// Returns whether memory could not be allocated, in a load or in a run.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, EngineError::Memory(_))
    }

    /// Whether a run failed inside: by the model or by ONNX Runtime, and neither by what the caller sent nor because
    /// it was stopped.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        matches!(
            self,
            EngineError::Run(_) | EngineError::Output { .. } | EngineError::Panicked(_)
        )
    }
}

/// Stops a run from outside, before it begins or between two nodes of the graph.
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
    /// Stops the run, now or as soon as it begins.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.cancelled = true;
        if let Some(stop) = &state.stop {
            stop();
        }
    }

    /// Whether the run has been cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.lock().cancelled
    }

    /// Tells how a run that begins can be stopped; `false` when it must not begin at all.
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
