//! Ahead-of-time graph optimisation, as in `modelctl optimize`, so that a load can skip it.
//!
//! ONNX Runtime's second level (`extended`) folds constants and fuses operators in ways that are valid on every CPU.
//! The third level lays weights out for the CPU at hand, and remains for the load.

use std::path::Path;

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::Outlet;

use super::EngineError;
use super::bindings::{catch_panic, message};
use super::onnxruntime::OnnxRuntime;
use super::session;

/// Free dimensions of a model's inputs: for each input, the name of each dimension, empty if it has none.
pub type DimensionNames = Vec<(String, Vec<String>)>;

impl OnnxRuntime {
    /// Writes to `output` the graph that ONNX Runtime makes of `input` for any CPU. Weights of `min_bytes` bytes or
    /// more go to the file `data` in the same directory, large ones page-aligned so that they can be mapped. All other
    /// weights go into the model, wherever they were before.
    pub fn optimise(
        &self,
        input: &Path,
        output: &Path,
        data: &str,
        min_bytes: u64,
    ) -> Result<DimensionNames, EngineError> {
        let optimise = || {
            let mut builder = Session::builder(self.environment())?
                .with_optimization_level(GraphOptimizationLevel::Level2)?
                // Packed weights are not written, so packing would be wasted.
                .with_prepacking(false)?
                .with_optimized_model_path(output)?
                .with_config_entry(
                    "session.optimized_model_external_initializers_file_name",
                    data,
                )?
                .with_config_entry(
                    "session.optimized_model_external_initializers_min_size_in_bytes",
                    min_bytes.to_string(),
                )?;
            let session = builder.commit_from_file(input)?;
            Ok(session.inputs().iter().map(dimension_names).collect())
        };
        match catch_panic(optimise) {
            Ok(Ok(names)) => Ok(names),
            Ok(Err(error)) => {
                let error: ort::Error = error;
                Err(EngineError::Load(message(&error)))
            }
            Err(panic) => Err(EngineError::Panicked(panic)),
        }
    }
}

impl OnnxRuntime {
    /// Returns the names of the free dimensions of a model's inputs.
    pub fn dimension_names(&self, model: &Path) -> Result<DimensionNames, EngineError> {
        let load = || {
            let mut builder = Session::builder(self.environment())?
                .with_optimization_level(GraphOptimizationLevel::Disable)?
                .with_prepacking(false)?;
            let session = builder.commit_from_file(model)?;
            Ok(session.inputs().iter().map(dimension_names).collect())
        };
        match catch_panic(load) {
            Ok(Ok(names)) => Ok(names),
            Ok(Err(error)) => {
                let error: ort::Error = error;
                Err(EngineError::Load(message(&error)))
            }
            Err(panic) => Err(EngineError::Panicked(panic)),
        }
    }
}

fn dimension_names(input: &Outlet) -> (String, Vec<String>) {
    let names = session::dimension_names(input).map(|(_, names)| names.to_vec());
    (input.name().to_owned(), names.unwrap_or_default())
}
