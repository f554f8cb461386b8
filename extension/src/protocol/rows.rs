//! Decoding of rows and columns, as `/predict` and TensorFlow Serving's form share it: shapes are completed to those of
//! the model's inputs.

use super::array::{self, Array};
use super::json_reader::JsonReader;
use super::named_inputs::NamedInputs;
use super::{
    BadRequest, DecodeError, Decoding, Result, charge_empty, check_shape, containers,
    error_location, names,
};
use crate::tensor::{Datatype, Kind, Port, Signature, Tensor, Value};

/// Checks that all inputs have the same number of rows, if the model takes a fixed number of rows per run.
pub(super) fn check_rows(
    signature: &Signature,
    inputs: &[(String, Value)],
    path: &str,
) -> Result<(), BadRequest> {
    if signature.fixed_batch().is_none() {
        return Ok(());
    }
    let mut rows = inputs.iter().filter_map(|(name, value)| match value {
        Value::Tensor(tensor) => Some((name, tensor.shape().first()?)),
        _ => None,
    });
    let Some((first, count)) = rows.next() else {
        return Ok(());
    };
    match rows.find(|(_, other)| *other != count) {
        None => Ok(()),
        Some((name, other)) => Err(BadRequest(format!(
            "{path}: input {first:?} has {count} rows, input {name:?} has {other}"
        ))),
    }
}

/// Reads the value that begins here for the single required input of the model, or its only input.
pub(super) fn rows(
    reader: &mut JsonReader<'_>,
    path: &str,
    signature: &Signature,
    decoding: &mut Decoding<'_>,
) -> Result<Vec<(String, Value)>> {
    let mut required = signature.required();
    let port = match (required.next(), required.next(), &signature.inputs[..]) {
        (Some(port), None, _) | (None, None, [port]) => port,
        (_, _, inputs) => {
            return Err(BadRequest(format!(
                "{path} is an array, but the model has {} inputs: send an object with {}",
                inputs.len(),
                names(inputs)
            ))
            .into());
        }
    };
    let text = reader.value(path)?;
    let value = read_input(port, text, path, signature, decoding, |array, rank| {
        // A single row is a batch of one.
        if array.shape.len() + 1 == rank {
            array.shape.insert(0, 1);
        }
    })?;
    Ok(vec![(port.name.clone(), value)])
}

/// Reads the object that begins here: a column or a single value for each input.
pub(super) fn columns(
    reader: &mut JsonReader<'_>,
    path: &str,
    signature: &Signature,
    decoding: &mut Decoding<'_>,
) -> Result<Vec<(String, Value)>> {
    let mut inputs = NamedInputs::new(signature);
    let mut given = vec![false; signature.inputs.len()];
    reader.object(path, |reader, name| {
        let at = inputs.find(name, usize::MAX, || path.to_owned())?;
        if std::mem::replace(&mut given[at], true) {
            return Err(BadRequest(format!("{path}: {name:?} is given twice")).into());
        }
        let port = inputs.port(at);
        if matches!(port.kind, Kind::Optional(_)) && reader.null() {
            return Ok(());
        }
        let path = format!("{path}.{name}");
        let text = reader.value(&path)?;
        let complete = |array: &mut Array, rank| complete_column(port, array, rank);
        let value = read_input(port, text, &path, signature, decoding, complete)?;
        inputs.set(at, value);
        Ok::<_, DecodeError>(())
    })?;
    inputs.into_values(|_, value| Ok(value))
}

/// Converts a column of the field `path` to an input of the model.
pub(super) fn fit_column(
    port: &Port,
    array: Array,
    path: &str,
    signature: &Signature,
    decoding: &mut Decoding<'_>,
) -> Result<Value> {
    let complete = |array: &mut Array, rank| complete_column(port, array, rank);
    fit(port, array, path, signature, decoding, complete)
}

/// Completes the shape of a column or of a single value.
fn complete_column(port: &Port, array: &mut Array, rank: usize) {
    // A single value is a batch of one; a list of values fills a column of width one.
    if array.shape.is_empty() && rank > 0 {
        array.shape.push(1);
    }
    if array.shape.len() + 1 == rank {
        let axis = if is_width_one(containers::given(&port.kind)) {
            array.shape.len()
        } else {
            0
        };
        array.shape.insert(axis, 1);
    }
}

/// Returns `true` if a list of values fills a column, and is not a row.
pub(super) fn is_width_one(kind: &Kind) -> bool {
    matches!(kind, Kind::Tensor { shape, .. } if shape.len() > 1 && shape.last() == Some(&Some(1)))
}

fn read_input(
    port: &Port,
    text: &[u8],
    path: &str,
    signature: &Signature,
    decoding: &mut Decoding<'_>,
    complete: impl FnOnce(&mut Array, usize),
) -> Result<Value> {
    match containers::given(&port.kind) {
        Kind::Tensor { datatype, .. } => {
            let array = read_rows(text, *datatype, path, decoding)?;
            fit(port, array, path, signature, decoding, complete)
        }
        kind => containers::read(text, kind, &path, decoding),
    }
}

/// Converts an array to an input tensor, after `complete` has added the missing dimensions to its shape.
fn fit(
    port: &Port,
    mut array: Array,
    path: &str,
    signature: &Signature,
    decoding: &mut Decoding<'_>,
    complete: impl FnOnce(&mut Array, usize),
) -> Result<Value> {
    let Kind::Tensor {
        datatype,
        shape: declared,
    } = containers::given(&port.kind)
    else {
        let problem = format!("{path}: input {:?} is a {}", port.name, port.kind);
        return Err(BadRequest(problem).into());
    };
    let hidden = hidden(&array.shape, declared).iter();
    array.shape.extend(hidden.map(|dim| dim.unwrap_or(0)));
    complete(&mut array, declared.len());
    let tensor = Tensor::new(array.shape, array.data)
        .map_err(|mismatch| BadRequest(format!("{path}: {mismatch}")))?;
    charge_empty(tensor.shape(), *datatype, decoding.charge)?;
    match (signature.fixed_batch(), tensor.shape().first()) {
        // More rows than one run takes are split into several runs.
        (Some(batch), Some(&rows)) if rows > batch && rank_fits(&tensor, declared) => {
            if rows % batch != 0 {
                return Err(BadRequest(format!(
                    "{path} has {rows} rows, but the model takes {batch} at a time: send a multiple of {batch}"
                ))
                .into());
            }
            let mut any = declared.clone();
            any[0] = None;
            check_shape(port, &any, &tensor, &path)?;
        }
        _ => check_shape(port, declared, &tensor, &path)?,
    }
    Ok(Value::Tensor(tensor))
}

/// Returns the dimensions of the items of an empty array, which the array does not show. They are those that the model
/// fixes: `[[], []]` for `[-1, -1, 4]` is `[2, 0, 4]`. If one of them is free, only an array without rows has them,
/// since any other may be a row.
fn hidden<'a>(shape: &[usize], declared: &'a [Option<usize>]) -> &'a [Option<usize>] {
    let (Some(0), Some((seen, hidden))) = (shape.last(), declared.split_at_checked(shape.len()))
    else {
        return &[];
    };
    let fits = |(declared, given): (&Option<usize>, &usize)| declared.is_none_or(|it| it == *given);
    let is_clear = hidden.iter().all(Option::is_some) && seen.iter().zip(shape).all(fits);
    if is_clear || shape.len() == 1 {
        hidden
    } else {
        &[]
    }
}

/// Reads an array; its errors name the row.
fn read_rows(
    text: &[u8],
    datatype: Datatype,
    path: &str,
    decoding: &mut Decoding<'_>,
) -> Result<Array> {
    let used = decoding.charge.used();
    match array::read(text, datatype, &path, None, decoding) {
        Err(DecodeError::Invalid(error)) => {
            // The elements were dropped.
            decoding.charge.shrink(decoding.charge.used() - used);
            match error_location::in_rows(text, datatype, path, decoding) {
                Some(DecodeError::Invalid(found)) => Err(found.into()),
                Some(DecodeError::Stopped(_)) | None => Err(error.into()),
            }
        }
        read => read,
    }
}

fn rank_fits(tensor: &Tensor, declared: &[Option<usize>]) -> bool {
    !declared.is_empty() && tensor.shape().len() == declared.len()
}
