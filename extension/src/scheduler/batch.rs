//! Several requests as one run: their inputs joined along the first dimension, and its outputs split again.
//!
//! What a model says of itself has to allow it: each input that is not left out is a tensor whose first dimension is free, and each output
//! is one, or a list of one map for each row. That a row's outputs do not depend on the rows beside it, nothing says but
//! the setting that asks for this.

use std::sync::Arc;

use crate::protocol::Decoded;
use crate::tensor::{Kind, Maps, Port, Signature, Tensor, Value, common_rows};

/// How many rows `request` has; `None` where it cannot be joined with others.
pub(super) fn rows(signature: &Signature, request: &Decoded) -> Option<usize> {
    let is_free =
        |kind: &Kind| matches!(kind, Kind::Tensor { shape, .. } if shape.first() == Some(&None));
    // What may be left out, and is, has no rows.
    let is_left_out = |port: &Port| {
        matches!(port.kind, Kind::Optional(_))
            && request.inputs.iter().all(|(name, _)| *name != port.name)
    };
    let mut inputs = signature.inputs.iter();
    let mut outputs = signature.outputs.iter();
    let allows = inputs.all(|port| is_free(&port.kind) || is_left_out(port))
        && outputs.all(|port| is_free(&port.kind) || port.kind.is_sequence_of_maps());
    let rows = common_rows(request.inputs.iter().map(|(_, value)| value));
    // A request of no rows is left as it is: with others it would not be one.
    rows.filter(|rows| allows && *rows > 0)
}

/// Whether two requests that have rows can be joined: the same inputs, but for the number of rows, and the same outputs.
pub(super) fn joins(one: &Decoded, other: &Decoded) -> bool {
    let same = |(one, other): (&(String, Value), &(String, Value))| {
        let ((name, Value::Tensor(one)), (other_name, Value::Tensor(other))) = (one, other) else {
            return false;
        };
        name == other_name
            && one.datatype() == other.datatype()
            && one.shape().get(1..) == other.shape().get(1..)
    };
    one.outputs == other.outputs
        && one.inputs.len() == other.inputs.len()
        && one.inputs.iter().zip(&other.inputs).all(same)
}

/// The inputs of requests that can be joined, in their order; `None` when they cannot.
pub(super) fn join(requests: &[&Decoded]) -> Option<Vec<(String, Value)>> {
    let (first, others) = requests.split_first()?;
    if !others.iter().all(|other| joins(first, other)) {
        return None;
    }
    let input = |(place, (name, _)): (usize, &(String, Value))| {
        let tensors = requests
            .iter()
            .map(|request| match &request.inputs[place].1 {
                Value::Tensor(tensor) => Some(tensor),
                _ => None,
            });
        let tensors: Vec<&Tensor> = tensors.collect::<Option<_>>()?;
        Some((name.clone(), Value::Tensor(Tensor::joined(&tensors)?)))
    };
    first.inputs.iter().enumerate().map(input).collect()
}

/// The outputs of a joined run for each request, which had so many rows; `None` where they do not have a row for each
/// row.
pub(super) fn split(
    outputs: Vec<(String, Value)>,
    rows: &[usize],
) -> Option<Vec<Vec<(String, Value)>>> {
    let mut parts: Vec<Vec<(String, Value)>> = rows
        .iter()
        .map(|_| Vec::with_capacity(outputs.len()))
        .collect();
    for (name, value) in outputs {
        let values = match value {
            Value::Tensor(tensor) => {
                let parts = split_tensor(&tensor, rows)?;
                parts.into_iter().map(Value::Tensor).collect()
            }
            Value::Sequence(values) => split_sequence(values, rows)?,
            Value::Maps(maps) => split_maps(maps, rows)?,
            Value::Map { .. } => return None,
        };
        for (part, value) in parts.iter_mut().zip(values) {
            part.push((name.clone(), value));
        }
    }
    Some(parts)
}

fn split_tensor(tensor: &Tensor, rows: &[usize]) -> Option<Vec<Tensor>> {
    let all = rows.iter().sum::<usize>();
    if tensor.shape().first() != Some(&all) {
        return None;
    }
    let mut from = 0;
    let part = |&rows: &usize| {
        let place = from..from + rows;
        from = place.end;
        tensor.rows(place)
    };
    rows.iter().map(part).collect()
}

fn split_maps(maps: Maps, rows: &[usize]) -> Option<Vec<Value>> {
    let (keys, values) = maps.into_parts();
    let parts = split_tensor(&values, rows)?.into_iter();
    let part = |values| Maps::new(Arc::clone(&keys), values).map(Value::Maps);
    parts.map(part).collect()
}

fn split_sequence(values: Vec<Value>, rows: &[usize]) -> Option<Vec<Value>> {
    if values.len() != rows.iter().sum::<usize>() {
        return None;
    }
    let mut values = values.into_iter();
    let part = |&rows: &usize| Value::Sequence(values.by_ref().take(rows).collect());
    Some(rows.iter().map(part).collect())
}

#[cfg(test)]
mod tests;
