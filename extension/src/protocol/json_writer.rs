//! JSON encoding of values.
//!
//! A float is written with the fewest digits that read back as the same value of its type. JSON has no NaN and no
//! infinities: NaN is `null`, and the infinities are the strings `"Infinity"` and `"-Infinity"`. Requests accept the
//! same forms.

use std::ops::Range;

use half::{bf16, f16};
use serde::Serialize;

use crate::tensor::{Data, Maps, Tensor, Value};

/// Appends a serializable value. Writing into memory cannot fail.
pub(super) fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok(), "writing to memory");
}

/// Appends a string. Most strings are names without a character to escape, and are copied whole.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    let is_escaped = |byte: &u8| matches!(byte, 0..=0x1f | b'"' | b'\\');
    if text.as_bytes().iter().any(is_escaped) {
        return json(out, text);
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Appends all elements as a flat array.
pub(super) fn flat(out: &mut Vec<u8>, data: &Data) {
    nested(out, &[data.len()], data);
}

/// Appends the elements with the nesting of `shape`; without dimensions, the single element.
pub(super) fn nested(out: &mut Vec<u8>, shape: &[usize], data: &Data) {
    part(out, shape, data, 0..data.len());
}

/// Appends the elements in `range` with the nesting of `shape`.
fn part(out: &mut Vec<u8>, shape: &[usize], data: &Data, range: Range<usize>) {
    macro_rules! table {
        ($($variant:ident, $element:expr;)*) => {
            match data {
                $(Data::$variant(elements) => {
                    level(out, shape, range, |out, index| $element(out, &elements[index]));
                })*
            }
        };
    }
    table! {
        Bool, json;
        Uint8, json;
        Uint16, json;
        Uint32, json;
        Uint64, json;
        Int8, json;
        Int16, json;
        Int32, json;
        Int64, json;
        Fp16, |out, value: &f16| float(out, value.to_f32());
        Bf16, |out, value: &bf16| float(out, value.to_f32());
        Fp32, |out, value: &f32| float(out, *value);
        Fp64, |out, value: &f64| float(out, *value);
        Bytes, json;
    }
}

fn float<T: Serialize + Copy + Into<f64>>(out: &mut Vec<u8>, value: T) {
    let wide: f64 = value.into();
    if wide.is_infinite() {
        json(out, if wide > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        json(out, &value);
    }
}

/// Appends the elements in `range`, each written by `element`.
fn level(
    out: &mut Vec<u8>,
    shape: &[usize],
    range: Range<usize>,
    element: impl Fn(&mut Vec<u8>, usize) + Copy,
) {
    let Some((&length, inner)) = shape.split_first() else {
        if let Some(index) = range.into_iter().next() {
            element(out, index);
        }
        return;
    };
    let step = range.len().checked_div(length).unwrap_or(0);
    list(out, 0..length, |out, index| {
        let start = range.start + index * step;
        level(out, inner, start..start + step, element);
    });
}

/// Appends an array whose items `each` writes.
pub(super) fn list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    each: impl Fn(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        each(out, item);
    }
    out.push(b']');
}

/// Appends an object whose fields `write` adds.
pub(super) fn object(out: &mut Vec<u8>, write: impl FnOnce(&mut ObjectWriter<'_>)) {
    out.push(b'{');
    write(&mut ObjectWriter { out, first: true });
    out.push(b'}');
}

/// Writer of the fields of an object.
pub(super) struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl ObjectWriter<'_> {
    /// Appends a field whose value `write` writes.
    pub(super) fn field(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        text(self.out, name);
        self.out.push(b':');
        write(self.out);
    }

    /// Appends a field with a string.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.field(name, |out| text(out, value));
    }

    /// Appends a field with a serializable value.
    pub(super) fn value<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.field(name, |out| json(out, value));
    }
}

/// Appends any value: a tensor as nested arrays, a sequence as an array, and a map as an array of
/// `{"key":…,"value":…}`.
pub(super) fn value(out: &mut Vec<u8>, given: &Value) {
    match given {
        Value::Tensor(tensor) => nested(out, tensor.shape(), tensor.data()),
        Value::Sequence(values) => list(out, values, value),
        Value::Map { keys, values } => map(out, keys, values, 0),
        Value::Maps(maps) => list(out, 0..maps.count(), |out, index| map_of(out, maps, index)),
    }
}

/// Appends the map at `index`.
pub(super) fn map_of(out: &mut Vec<u8>, maps: &Maps, index: usize) {
    let keys = maps.keys();
    map(out, keys, maps.values().data(), index * keys.len());
}

/// Appends a map whose values begin at `first`.
fn map(out: &mut Vec<u8>, keys: &Data, values: &Data, first: usize) {
    list(out, 0..keys.len(), |out, index| {
        object(out, |fields| {
            let value = first + index;
            fields.field("key", |out| part(out, &[], keys, index..index + 1));
            fields.field("value", |out| part(out, &[], values, value..value + 1));
        });
    });
}

/// Appends row `index` of a tensor.
pub(super) fn row(out: &mut Vec<u8>, tensor: &Tensor, index: usize) {
    let data = tensor.data();
    let Some((&rows, inner)) = tensor.shape().split_first() else {
        return nested(out, &[], data);
    };
    let step = data.len().checked_div(rows).unwrap_or(0);
    part(out, inner, data, index * step..(index + 1) * step);
}

/// Appends an object with row `index` of each value, by name.
pub(super) fn named_row<'a>(
    out: &mut Vec<u8>,
    outputs: impl IntoIterator<Item = (&'a str, &'a Value)>,
    index: usize,
) {
    object(out, |fields| {
        for (name, value) in outputs {
            fields.field(name, |out| match value {
                Value::Tensor(tensor) => row(out, tensor, index),
                Value::Sequence(values) => {
                    if let Some(item) = values.get(index) {
                        self::value(out, item);
                    }
                }
                Value::Map { .. } => self::value(out, value),
                Value::Maps(maps) => map_of(out, maps, index),
            });
        }
    });
}
