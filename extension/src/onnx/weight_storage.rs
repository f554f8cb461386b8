//! The mark of a model whose weights are stored in a smaller type than they are used in.
//!
//! `modelctl optimize --quantize` stores large FP32 weights as 8-bit integers or FP16, with nodes that compute the
//! FP32 weights. Any ONNX Runtime runs such a model, but it would convert the integers in every run. So the model is
//! marked in its metadata, and each of the added nodes by its name. The weight loader then computes the weights once,
//! while it reads them.

use super::Description;
use super::encode::entry;

/// Metadata key for the type in which weights are stored.
const STORAGE: &str = "model_sidecar.weights";

/// Prefix of the name of each node that computes a weight. A node of the original model cannot have it, because
/// `modelctl` rejects such a model.
pub(super) const NODE_PREFIX: &str = "model_sidecar.expand/";

/// Type in which weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightStorage {
    /// 8-bit integers with a scale for each channel.
    Int8,
    /// FP16 numbers.
    Fp16,
}

impl WeightStorage {
    /// Both types.
    const ALL: [Self; 2] = [Self::Int8, Self::Fp16];

    /// Name of the type in the mark.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Fp16 => "fp16",
        }
    }

    /// Size of an FP32 weight relative to the stored weight.
    #[must_use]
    pub fn expansion(self) -> u64 {
        match self {
            Self::Int8 => 4,
            Self::Fp16 => 2,
        }
    }

    /// Returns the bytes that mark a model when appended to its file.
    #[must_use]
    pub fn mark(self) -> Vec<u8> {
        entry(STORAGE, self.name())
    }
}

impl Description {
    /// Returns the type in which the model's weights are stored, if it is marked. A type of a later version counts as
    /// unmarked: its nodes are standard operators, which ONNX Runtime executes.
    #[must_use]
    pub fn weight_storage(&self) -> Option<WeightStorage> {
        let name = self.metadata.get(STORAGE)?;
        WeightStorage::ALL
            .into_iter()
            .find(|storage| storage.name() == name)
    }
}
