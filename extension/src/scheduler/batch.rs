//! Joining of requests into one run: inputs are joined along the first dimension, and outputs are split again.
//!
//! The model's signature must allow this. Each given input is a tensor whose first dimension is free. Each output is
//! such a tensor or a list with one map per row. That rows are independent of each other is not in the signature;
//! enabling batching declares it.

use std::sync::Arc;

use crate::protocol::Decoded;
use crate::tensor::{Kind, Maps, Port, Signature, Tensor, Value, common_rows};

/// Returns the number of rows of `request`; `None` if it cannot be joined with others.
pub(super) fn rows(signature: &Signature, request: &Decoded) -> Option<usize> {
    let is_free =
        |kind: &Kind| matches!(kind, Kind::Tensor { shape, .. } if shape.first() == Some(&None));
    // An absent optional input has no rows.
    let is_absent = |port: &Port| {
        matches!(port.kind, Kind::Optional(_))
            && request.inputs.iter().all(|(name, _)| *name != port.name)
    };
    let mut inputs = signature.inputs.iter();
    let mut outputs = signature.outputs.iter();
    let allows = inputs.all(|port| is_free(&port.kind) || is_absent(port))
        && outputs.all(|port| is_free(&port.kind) || port.kind.is_sequence_of_maps());
    let rows = common_rows(request.inputs.iter().map(|(_, value)| value));
    // A request without rows runs alone.
    rows.filter(|rows| allows && *rows > 0)
}

/// Returns `true` if two requests can be joined: the same inputs except for the number of rows, and the same outputs.
pub(super) fn can_join(one: &Decoded, other: &Decoded) -> bool {
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

/// Joins the inputs of requests in order; `None` if they cannot be joined.
pub(super) fn join(requests: &[&Decoded]) -> Option<Vec<(String, Value)>> {
    let (first, others) = requests.split_first()?;
    if !others.iter().all(|other| can_join(first, other)) {
        return None;
    }
    let input = |(index, (name, _)): (usize, &(String, Value))| {
        let tensors = requests
            .iter()
            .map(|request| match &request.inputs[index].1 {
                Value::Tensor(tensor) => Some(tensor),
                _ => None,
            });
        let tensors: Vec<&Tensor> = tensors.collect::<Option<_>>()?;
        Some((name.clone(), Value::Tensor(Tensor::joined(&tensors)?)))
    };
    first.inputs.iter().enumerate().map(input).collect()
}

/// Splits the outputs of a joined run by the rows of each request; `None` if they do not have one row per row.
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
        let range = from..from + rows;
        from = range.end;
        tensor.rows(range)
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
