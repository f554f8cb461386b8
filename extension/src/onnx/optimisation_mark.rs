//! The mark of a model whose graph was optimised ahead of time.
//!
//! The mark is in the metadata, where any tool can read it. A protobuf file is a list of fields, so the mark is
//! appended, and the rest of the file stays unchanged, byte for byte.

use super::Description;
use super::encode::entry;

/// Metadata key for the tool and the level of the optimisation, such as `onnxruntime 1.28.0, extended`.
const OPTIMISED: &str = "model_sidecar.optimized";
/// Metadata key for the work that remains for the load, if any.
const AT_LOAD: &str = "model_sidecar.at_load";
const LAYOUT: &str = "layout";
/// Value of [`AT_LOAD`] for a load that does not even pack weights.
const MAP: &str = "map";

/// Work of ONNX Runtime when it loads a graph.
///
/// A graph that was optimised is loaded as it is, so that it starts fast. Convolutions have one further step, which
/// depends on the CPU: weights in blocks of the width of its registers. ResNet-50 then runs an eighth faster, and takes
/// a quarter of a second and 60 MB more to load. So the step is skipped unless the mark asks for it.
///
/// Every load packs the weights of matrix products into copies that runs read faster. On 250 MB of such weights,
/// packing is nearly all of the load and half of its memory; a mark can ask to skip it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtLoad {
    /// Full optimisation.
    Optimise,
    /// Packing of weights only.
    AsItIs,
    /// No work: weights are used where they are mapped.
    Map,
}

/// Content of a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptimisationMark {
    /// Tool and level of the optimisation.
    pub by: String,
    /// Work that remains for the load.
    pub at_load: AtLoad,
}

impl OptimisationMark {
    /// Returns the bytes that mark a model when appended to its file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = entry(OPTIMISED, &self.by);
        let at_load = match self.at_load {
            AtLoad::Optimise => Some(LAYOUT),
            AtLoad::AsItIs => None,
            AtLoad::Map => Some(MAP),
        };
        bytes.extend(at_load.map(|word| entry(AT_LOAD, word)).unwrap_or_default());
        bytes
    }
}

impl Description {
    /// Returns the mark, if the graph was optimised ahead of time.
    #[must_use]
    pub fn mark(&self) -> Option<OptimisationMark> {
        let by = self.metadata.get(OPTIMISED)?.clone();
        // An unknown value asks for work that this version cannot skip.
        let at_load = match self.metadata.get(AT_LOAD).map(String::as_str) {
            None => AtLoad::AsItIs,
            Some(MAP) => AtLoad::Map,
            Some(_) => AtLoad::Optimise,
        };
        Some(OptimisationMark { by, at_load })
    }

    /// Returns the work that a load must do.
    #[must_use]
    pub fn at_load(&self) -> AtLoad {
        self.mark().map_or(AtLoad::Optimise, |mark| mark.at_load)
    }
}
