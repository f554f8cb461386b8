//! Inline execution of short runs on the server's own thread.
//!
//! Handing a run to another thread and back wakes two threads, which takes longer than a small model. But a run on the
//! server's thread can neither be stopped nor overtaken, and delays all other requests. So the run must be known to be
//! short before it begins. The model's work [depends only on shapes](crate::models::LoadedModel::has_fixed_work), and
//! its last run with these shapes was short.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::models::LoadedModel;
use crate::tensor::{Data, Value};

/// Maximum duration of an inline run. A small model that takes 5 µs in a loop takes up to 150 µs after the CPU slept
/// for 20 ms. Waking two threads is slower then as well.
const MAX_INLINE_TIME: Duration = Duration::from_micros(500);
/// Maximum number of known combinations of shapes. Most callers send one.
const MAX_KNOWN_SHAPES: usize = 8;
/// Maximum length of strings in an inline run, in bytes. Work on strings depends on their length, which is not part of
/// the shape; below this length the difference is negligible.
const MAX_TEXT: usize = 1024;

type Shapes = Vec<(String, Vec<usize>)>;

/// Known short runs of a model's version.
#[derive(Default)]
pub(super) struct InlineExecution {
    of: Weak<LoadedModel>,
    /// Shapes whose last run was short, the latest last.
    short: Vec<Shapes>,
}

impl InlineExecution {
    /// Returns `true` if a run with these inputs is known to be short.
    pub(super) fn is_short(&self, model: &Arc<LoadedModel>, inputs: &[(String, Value)]) -> bool {
        let is_same = |shapes: &Shapes| {
            shapes.len() == inputs.len()
                && shapes.iter().zip(inputs).all(|((name, shape), input)| {
                    *name == input.0 && shape_of(&input.1) == Some(shape)
                })
        };
        self.is_of(model) && self.short.iter().any(is_same)
    }

    /// Records the duration of a run.
    pub(super) fn record(
        &mut self,
        model: &Arc<LoadedModel>,
        shapes: Option<Shapes>,
        time: Duration,
    ) {
        let Some(shapes) = shapes else {
            return;
        };
        if !self.is_of(model) {
            self.of = Arc::downgrade(model);
            self.short.clear();
        }
        self.short.retain(|known| *known != shapes);
        if time <= MAX_INLINE_TIME {
            if self.short.len() == MAX_KNOWN_SHAPES {
                self.short.remove(0);
            }
            self.short.push(shapes);
        }
    }

    /// Records the duration of an inline run. A long run clears all known shapes.
    pub(super) fn record_inline(&mut self, time: Duration) {
        if time > MAX_INLINE_TIME {
            self.short.clear();
        }
    }

    fn is_of(&self, model: &Arc<LoadedModel>) -> bool {
        // The weak reference keeps the address from being reused.
        std::ptr::eq(self.of.as_ptr(), Arc::as_ptr(model))
    }
}

/// Returns the shapes that determine the duration of a run; `None` if other properties do.
pub(super) fn shapes(model: &LoadedModel, inputs: &[(String, Value)]) -> Option<Shapes> {
    if !model.has_fixed_work() {
        return None;
    }
    let shape = |(name, value): &(String, Value)| Some((name.clone(), shape_of(value)?.to_vec()));
    inputs.iter().map(shape).collect()
}

fn shape_of(value: &Value) -> Option<&[usize]> {
    let Value::Tensor(tensor) = value else {
        return None;
    };
    let is_short = match tensor.data() {
        Data::Bytes(texts) => texts.text().len() <= MAX_TEXT,
        _ => true,
    };
    is_short.then_some(tensor.shape())
}
