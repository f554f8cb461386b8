//! Which runs are so short that the server makes them itself.
//!
//! To hand a run to another thread and to take its outputs back, the operating system has to wake a thread twice, which
//! takes longer than a small model. But what the server runs itself can neither be stopped nor overtaken, and all other
//! requests wait meanwhile. So it must be known to be short before it begins: the model does
//! [the same work for the same shapes](crate::models::Loaded::has_fixed_work), and with these shapes it was short before.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::models::Loaded;
use crate::tensor::{Data, Value};

/// What the server does at most in place of all else. A small model, which takes some 5 µs when it runs again and again,
/// takes up to 150 after 20 ms in which the CPU slept, and would then be woken for twice as slowly, too.
const SHORT: Duration = Duration::from_micros(500);
/// How many combinations of shapes are kept: most callers send one.
const MOST: usize = 8;
/// Work on texts grows with their length, which no shape tells. Fewer bytes than this make no difference.
const MAX_TEXT: usize = 1024;

type Shapes = Vec<(String, Vec<usize>)>;

/// What is known of one model's version.
#[derive(Default)]
pub(super) struct InlineExecution {
    of: Weak<Loaded>,
    /// Those with which it ran no longer than [`SHORT`] the last time, the latest last.
    short: Vec<Shapes>,
}

impl InlineExecution {
    /// Whether a run with these inputs is known to be short.
    pub(super) fn knows(&self, model: &Arc<Loaded>, inputs: &[(String, Value)]) -> bool {
        let is_same = |shapes: &Shapes| {
            shapes.len() == inputs.len()
                && shapes.iter().zip(inputs).all(|((name, shape), input)| {
                    *name == input.0 && shape_of(&input.1) == Some(shape)
                })
        };
        self.is_of(model) && self.short.iter().any(is_same)
    }

    /// Takes note of how long a run took.
    pub(super) fn ran(&mut self, model: &Arc<Loaded>, shapes: Option<Shapes>, time: Duration) {
        let Some(shapes) = shapes else {
            return;
        };
        if !self.is_of(model) {
            self.of = Arc::downgrade(model);
            self.short.clear();
        }
        self.short.retain(|known| *known != shapes);
        if time <= SHORT {
            if self.short.len() == MOST {
                self.short.remove(0);
            }
            self.short.push(shapes);
        }
    }

    /// Takes note of how long a run took that was known to be short. One that was not has all of them shown anew.
    pub(super) fn ran_here(&mut self, time: Duration) {
        if time > SHORT {
            self.short.clear();
        }
    }

    fn is_of(&self, model: &Arc<Loaded>) -> bool {
        // The weak one keeps the address from being given to another.
        std::ptr::eq(self.of.as_ptr(), Arc::as_ptr(model))
    }
}

/// What the time of a run depends on; `None` where it depends on more.
pub(super) fn shapes(model: &Loaded, inputs: &[(String, Value)]) -> Option<Shapes> {
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
