//! The plain form that people write by hand: `{"features": …}` in, `{"prediction": […]}` out.
//!
//! In: rows or one row for a model of one input; columns, or rows as objects, for a model of several. Out:
//! always a list in the order of the rows. Which output is the prediction: one that is named a label, with
//! probabilities and all others beside it; else the only one; else all of them, by name.

mod form;

use std::borrow::Cow;

pub use form::{FormChanged, keeps_form};

use super::array::{self, Array};
use super::dense::dense;
use super::envelope::Envelope;
use super::inputs::Inputs;
use super::json::Reader;
use super::{
    AnsweredBy, BadRequest, DecodeError, Decoded, Decoding, Result, charge_empty, check_complete,
    check_shape, containers, locate, names, objects, write,
};
use crate::request_memory::Charge;
use crate::tensor::{Data, Datatype, Kind, Maps, Port, Signature, Tensor, Value, common_rows};

const ENVELOPE: Envelope = Envelope {
    what: "a prediction request",
    fields: ["features", "instances"],
    missing: "features, or instances",
    both: "both features and instances are given: send one of them",
};

/// Reads a request for a model of this signature, whose memory is charged to `charge`.
pub fn decode(
    body: &[u8],
    signature: &Signature,
    charge: &mut Charge,
) -> Result<Decoded, DecodeError> {
    let mut decoding = Decoding::new(charge);
    let read = ENVELOPE.read(body, &mut decoding, |reader, place, decoding| {
        let inputs = if reader.is_object() {
            columns(reader, place, signature, decoding)
        } else if reader.is_array_of_objects() {
            objects::read(reader, place, signature, decoding)
        } else {
            rows(reader, place, signature, decoding)
        };
        Ok((place, inputs?))
    })?;
    let (place, inputs) = match read {
        Ok(read) => read,
        Err(_) if signature.required().next().is_none() => ("features", Vec::new()),
        Err(missing) => return Err(missing.into()),
    };
    check_complete(signature, &inputs)?;
    check_rows(signature, &inputs, place)?;
    Ok(Decoded {
        inputs,
        outputs: Vec::new(),
    })
}

/// Where the model takes a fixed number of rows at a time and there are more: that there are as many of each input.
pub(super) fn check_rows(
    signature: &Signature,
    inputs: &[(String, Value)],
    place: &str,
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
            "{place}: input {first:?} has {count} rows, input {name:?} has {other}"
        ))),
    }
}

/// Reads the value that begins here for the one input that the model must be given, or has.
pub(super) fn rows(
    reader: &mut Reader<'_>,
    place: &str,
    signature: &Signature,
    decoding: &mut Decoding<'_>,
) -> Result<Vec<(String, Value)>> {
    let mut required = signature.required();
    let port = match (required.next(), required.next(), &signature.inputs[..]) {
        (Some(port), None, _) | (None, None, [port]) => port,
        (_, _, inputs) => {
            return Err(BadRequest(format!(
                "{place} is an array, but the model has {} inputs: send an object with {}",
                inputs.len(),
                names(inputs)
            ))
            .into());
        }
    };
    let text = reader.value(place)?;
    let value = read_input(port, text, place, signature, decoding, |array, rank| {
        // One row alone is a batch of one.
        if array.shape.len() + 1 == rank {
            array.shape.insert(0, 1);
        }
    })?;
    Ok(vec![(port.name.clone(), value)])
}

/// Reads the object that begins here: for each input a column, or a single value.
pub(super) fn columns(
    reader: &mut Reader<'_>,
    place: &str,
    signature: &Signature,
    decoding: &mut Decoding<'_>,
) -> Result<Vec<(String, Value)>> {
    let mut inputs = Inputs::new(signature);
    let mut given = vec![false; signature.inputs.len()];
    reader.object(place, |reader, name| {
        let at = inputs.find(name, usize::MAX, || place.to_owned())?;
        if std::mem::replace(&mut given[at], true) {
            return Err(BadRequest(format!("{place}: {name:?} is given twice")).into());
        }
        let port = inputs.port(at);
        if matches!(port.kind, Kind::Optional(_)) && reader.null() {
            return Ok(());
        }
        let place = format!("{place}.{name}");
        let text = reader.value(&place)?;
        let complete = |array: &mut Array, rank| complete_column(port, array, rank);
        let value = read_input(port, text, &place, signature, decoding, complete)?;
        inputs.set(at, value);
        Ok::<_, DecodeError>(())
    })?;
    inputs.into_values(|_, value| Ok(value))
}

/// A column of an input as the model takes it; `place` is where it stands.
pub(super) fn fit_column(
    port: &Port,
    array: Array,
    place: &str,
    signature: &Signature,
    decoding: &mut Decoding<'_>,
) -> Result<Value> {
    let complete = |array: &mut Array, rank| complete_column(port, array, rank);
    fit(port, array, place, signature, decoding, complete)
}

/// Completes the shape of a column, or of a single value.
fn complete_column(port: &Port, array: &mut Array, rank: usize) {
    // A value alone is a batch of one; a list of values fills a column of width one.
    if array.shape.is_empty() && rank > 0 {
        array.shape.push(1);
    }
    if array.shape.len() + 1 == rank {
        let place = if is_width_one(containers::given(&port.kind)) {
            array.shape.len()
        } else {
            0
        };
        array.shape.insert(place, 1);
    }
}

/// Whether a list of values fills a column, and is no row.
fn is_width_one(kind: &Kind) -> bool {
    matches!(kind, Kind::Tensor { shape, .. } if shape.len() > 1 && shape.last() == Some(&Some(1)))
}

fn read_input(
    port: &Port,
    text: &[u8],
    place: &str,
    signature: &Signature,
    decoding: &mut Decoding<'_>,
    complete: impl FnOnce(&mut Array, usize),
) -> Result<Value> {
    match containers::given(&port.kind) {
        Kind::Tensor { datatype, .. } => {
            let array = read_rows(text, *datatype, place, decoding)?;
            fit(port, array, place, signature, decoding, complete)
        }
        kind => containers::read(text, kind, place, decoding),
    }
}

/// An array for a tensor as the model takes it, once `complete` has given its shape the dimensions that it lacks.
fn fit(
    port: &Port,
    mut array: Array,
    place: &str,
    signature: &Signature,
    decoding: &mut Decoding<'_>,
    complete: impl FnOnce(&mut Array, usize),
) -> Result<Value> {
    let Kind::Tensor {
        datatype,
        shape: declared,
    } = containers::given(&port.kind)
    else {
        let problem = format!("{place}: input {:?} is a {}", port.name, port.kind);
        return Err(BadRequest(problem).into());
    };
    let hidden = hidden(&array.shape, declared).iter();
    array.shape.extend(hidden.map(|dim| dim.unwrap_or(0)));
    complete(&mut array, declared.len());
    let tensor = Tensor::new(array.shape, array.data)
        .map_err(|mismatch| BadRequest(format!("{place}: {mismatch}")))?;
    charge_empty(tensor.shape(), *datatype, decoding.charge)?;
    match (signature.fixed_batch(), tensor.shape().first()) {
        // More rows than the model takes at a time are looped over.
        (Some(batch), Some(&rows)) if rows > batch && rank_fits(&tensor, declared) => {
            if rows % batch != 0 {
                return Err(BadRequest(format!(
                    "{place} has {rows} rows, but the model takes {batch} at a time: send a multiple of {batch}"
                ))
                .into());
            }
            let mut any = declared.clone();
            any[0] = None;
            check_shape(port, &any, &tensor, place)?;
        }
        _ => check_shape(port, declared, &tensor, place)?,
    }
    Ok(Value::Tensor(tensor))
}

/// The dimensions of what is in an empty array, which cannot be seen: those that the model fixes, as `[[], []]` for
/// `[-1, -1, 4]` is `[2, 0, 4]`. Where it leaves one free only an array without rows has them, since another may be a row.
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

/// Reads an array, whose errors name the row.
fn read_rows(
    text: &[u8],
    datatype: Datatype,
    place: &str,
    decoding: &mut Decoding<'_>,
) -> Result<Array> {
    let used = decoding.charge.used();
    match array::read(text, datatype, place, None, decoding) {
        Err(DecodeError::Invalid(error)) => {
            // The elements are gone.
            decoding.charge.shrink(decoding.charge.used() - used);
            match locate::in_rows(text, datatype, place, decoding) {
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

/// Writes the answer.
#[must_use]
pub fn encode(answer: AnsweredBy<'_>, outputs: &[(String, Value)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write::object(&mut out, |fields| {
        match Prediction::of(outputs) {
            Prediction::Label {
                label,
                probabilities,
                others,
            } => {
                fields.field("prediction", |out| write_label(out, label));
                match probabilities {
                    Some(Probabilities::Dense(maps)) => {
                        fields.field("probabilities", |out| write_tensor(out, maps.values()));
                        fields.field("classes", |out| write::flat(out, maps.keys()));
                    }
                    Some(Probabilities::Plain(tensor)) => {
                        fields.field("probabilities", |out| write_tensor(out, tensor));
                    }
                    None => {}
                }
                if !others.is_empty() {
                    fields.field("outputs", |out| write_by_name(out, others));
                }
            }
            Prediction::Only(value) => fields.field("prediction", |out| write_only(out, value)),
            Prediction::Rows(count) => fields.field("prediction", |out| {
                let named = || outputs.iter().map(|(name, value)| (name.as_str(), value));
                write::list(out, 0..count, |out, index| write_row(out, named(), index));
            }),
            Prediction::Whole => fields.field("prediction", |out| {
                write::list(out, [outputs], write_by_name);
            }),
        }
        fields.value("model", answer.model);
        fields.value("model_version", answer.version);
    });
    out
}

enum Prediction<'a> {
    /// A label, perhaps with probabilities, and all outputs beside them.
    Label {
        label: &'a Tensor,
        probabilities: Option<Probabilities<'a>>,
        others: Vec<&'a (String, Value)>,
    },
    /// The only output.
    Only(&'a Value),
    /// Several outputs, each of so many rows.
    Rows(usize),
    /// Several outputs without common rows.
    Whole,
}

enum Probabilities<'a> {
    Dense(Cow<'a, Maps>),
    Plain(&'a Tensor),
}

impl<'a> Prediction<'a> {
    fn of(outputs: &'a [(String, Value)]) -> Self {
        if let [(_, value)] = outputs {
            return Prediction::Only(value);
        }
        let named_label =
            outputs
                .iter()
                .enumerate()
                .find_map(|(place, (name, value))| match value {
                    Value::Tensor(tensor) if is_label(name) => Some((place, tensor)),
                    _ => None,
                });
        if let Some((label_place, label)) = named_label {
            let (place, probabilities) = probabilities(outputs).unzip();
            let others = outputs.iter().enumerate();
            let others = others.filter(|(at, _)| *at != label_place && Some(*at) != place);
            return Prediction::Label {
                label,
                probabilities,
                others: others.map(|(_, output)| output).collect(),
            };
        }
        common_rows(outputs.iter().map(|(_, value)| value))
            .map_or(Prediction::Whole, Prediction::Rows)
    }
}

/// Whether an output of this name, if it is a tensor, is the prediction.
fn is_label(name: &str) -> bool {
    name.to_lowercase().contains("label")
}

/// The probabilities, and their place among the outputs.
fn probabilities(outputs: &[(String, Value)]) -> Option<(usize, Probabilities<'_>)> {
    let mut outputs = outputs.iter().enumerate();
    outputs.find_map(|(place, (name, value))| {
        let found = match value {
            Value::Sequence(_) | Value::Maps(_) => dense(value).map(Probabilities::Dense),
            Value::Tensor(tensor) if matches!(tensor.data(), Data::Fp32(_) | Data::Fp64(_)) => name
                .to_lowercase()
                .contains("prob")
                .then_some(Probabilities::Plain(tensor)),
            _ => None,
        };
        found.map(|found| (place, found))
    })
}

/// One label for each row: a column of width one is a list.
fn write_label(out: &mut Vec<u8>, label: &Tensor) {
    match label.shape() {
        [_, 1] | [] => write::flat(out, label.data()),
        shape => write::nested(out, shape, label.data()),
    }
}

fn write_tensor(out: &mut Vec<u8>, tensor: &Tensor) {
    write::nested(out, tensor.shape(), tensor.data());
}

fn write_only(out: &mut Vec<u8>, value: &Value) {
    match (value, dense(value)) {
        (_, Some(maps)) => write_tensor(out, maps.values()),
        (Value::Tensor(tensor), None) if tensor.shape().is_empty() => {
            write::flat(out, tensor.data());
        }
        (Value::Map { .. }, None) => write::list(out, [value], write::value),
        _ => write::value(out, value),
    }
}

/// Appends row `index` of each of these values, by name.
pub(super) fn write_row<'a>(
    out: &mut Vec<u8>,
    outputs: impl IntoIterator<Item = (&'a str, &'a Value)>,
    index: usize,
) {
    write::object(out, |fields| {
        for (name, value) in outputs {
            fields.field(name, |out| match value {
                Value::Tensor(tensor) => write::row(out, tensor, index),
                Value::Sequence(values) => {
                    if let Some(value) = values.get(index) {
                        write::value(out, value);
                    }
                }
                Value::Map { .. } => write::value(out, value),
                Value::Maps(maps) => write::map_of(out, maps, index),
            });
        }
    });
}

fn write_by_name<'a>(out: &mut Vec<u8>, outputs: impl IntoIterator<Item = &'a (String, Value)>) {
    write::object(out, |fields| {
        for (name, value) in outputs {
            fields.field(name, |out| write::value(out, value));
        }
    });
}
