//! Optimising a graph ahead of time, as `modelctl optimize` does, so that no start has to.
//!
//! ONNX Runtime's second level (`extended`) folds constants and fuses operators in ways that hold on every CPU. The
//! third lays weights out for the CPU at hand, and is left to the load.

use std::path::Path;

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::Outlet;

use super::EngineError;
use super::onnxruntime::{OnnxRuntime, guarded, text};
use super::session;

/// The free dimensions of a model's inputs: for each input, the name of each dimension, empty where it has none.
pub type DimensionNames = Vec<(String, Vec<String>)>;

impl OnnxRuntime {
    /// Writes to `output` the graph that ONNX Runtime makes of `input` for any CPU. Weights of at least `least` bytes go
    /// to the file of the name `data` beside it, the large ones at whole pages so that they can be mapped; all others
    /// go into the model, wherever they lay before.
    pub fn optimise(
        &self,
        input: &Path,
        output: &Path,
        data: &str,
        least: u64,
    ) -> Result<DimensionNames, EngineError> {
        let optimise = || {
            let mut builder = Session::builder(self.environment())?
                .with_optimization_level(GraphOptimizationLevel::Level2)?
                // Packed weights are not written, so packing them would be in vain.
                .with_prepacking(false)?
                .with_optimized_model_path(output)?
                .with_config_entry(
                    "session.optimized_model_external_initializers_file_name",
                    data,
                )?
                .with_config_entry(
                    "session.optimized_model_external_initializers_min_size_in_bytes",
                    least.to_string(),
                )?;
            let session = builder.commit_from_file(input)?;
            Ok(session.inputs().iter().map(dimension_names).collect())
        };
        match guarded(optimise) {
            Ok(Ok(names)) => Ok(names),
            Ok(Err(error)) => {
                let error: ort::Error = error;
                Err(EngineError::Load(text(&error)))
            }
            Err(panic) => Err(EngineError::Panicked(panic)),
        }
    }
}

fn dimension_names(input: &Outlet) -> (String, Vec<String>) {
    let names = session::dimension_names(input).map(|(_, names)| names.to_vec());
    (input.name().to_owned(), names.unwrap_or_default())
}
