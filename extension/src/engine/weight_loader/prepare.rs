//! Expansion of stored weights while the model's file arrives.
//!
//! On a slow link, the CPU is mostly idle during a download, and the expansion would delay the load afterwards. One
//! thread expands each weight as soon as its bytes are written. The content of the file is not verified at that time.
//! The loader therefore uses a prepared weight only for the verified file, and only if the weight has the same place
//! and form there.

use std::collections::HashMap;

use ort::memory::Allocator;
use ort::value::DynTensor;

use super::allocate;
use super::fill::{PART, fill_arriving};
use crate::growing_file::GrowingFile;
use crate::onnx::{ArrivingWeights, Weight};

/// Weights of one model, expanded while its file arrived.
#[derive(Default)]
pub struct PreparedWeights(HashMap<String, (Weight, DynTensor)>);

impl PreparedWeights {
    /// Returns the size of the expanded weights in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let tensors = self.0.values();
        let elements: usize = tensors
            .map(|(_, tensor)| tensor.shape().num_elements())
            .sum();
        (elements * size_of::<f32>()) as u64
    }

    /// Removes a weight, if it was prepared from the same place and form.
    pub(super) fn take(&mut self, weight: &Weight) -> Option<DynTensor> {
        let (prepared, tensor) = self.0.remove(&weight.name)?;
        (prepared == *weight).then_some(tensor)
    }
}

/// Expands the stored weights of a file while it is written. Returns at its end; weights that are not expanded by then
/// are left to the load, which has more threads.
pub(in crate::engine) fn prepare(file: &GrowingFile) -> PreparedWeights {
    let allocator = Allocator::default();
    let mut prepared = PreparedWeights::default();
    let mut weights = ArrivingWeights::of(file);
    let mut buffer = vec![0; PART];
    while let Some(weight) = weights.next().filter(|_| !file.is_complete()) {
        let Some((tensor, piece)) = allocate(&weight, &allocator) else {
            break;
        };
        if fill_arriving(file, piece, &mut buffer).is_err() {
            break;
        }
        prepared.0.insert(weight.name.clone(), (weight, tensor));
    }
    prepared
}
