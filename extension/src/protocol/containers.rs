//! Sequences and maps in a request, in the form in which answers write them.
//!
//! A sequence is an array of its values, a map an array of `{"key":…,"value":…}`; a map may also come as an object, the
//! form that people write by hand. In the Open Inference Protocol they are inputs of datatype `SEQUENCE` and `MAP`, whose
//! shape is the number of values. What is optional comes as what it holds, or is left out.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::columns::Columns;
use super::{BadRequest, array, parse};
use crate::tensor::{Data, Datatype, Kind, NO_TENSORS, Tensor, Value};

/// The kind of what is given where something is: of an optional input, what it may hold.
pub(super) fn given(kind: &Kind) -> &Kind {
    match kind {
        Kind::Optional(inner) => given(inner),
        kind => kind,
    }
}

/// Reads an input of the Open Inference Protocol that is no tensor; `place` is the input, such as `inputs[0]`.
pub(super) fn input(
    kind: &Kind,
    datatype: &str,
    shape: &[usize],
    data: &str,
    place: &str,
) -> Result<Value, BadRequest> {
    let word = match kind {
        Kind::Sequence(_) => NO_TENSORS[0].word,
        Kind::Map { .. } => NO_TENSORS[1].word,
        _ => return Err(without_form(kind, place)),
    };
    if datatype != word {
        return Err(BadRequest(format!(
            "{place}.datatype is {datatype:?}, a {kind} is given as {word}"
        )));
    }
    let value = read(data, kind, &format!("{place}.data"))?;
    let length = value.length();
    if *shape != [length] {
        return Err(BadRequest(format!(
            "{place}.shape is {shape:?}, but the data has {length} values: expected [{length}]"
        )));
    }
    Ok(value)
}

/// Reads JSON text as a value of this kind; `place` is where it stands, for errors.
pub(super) fn read(text: &str, kind: &Kind, place: &str) -> Result<Value, BadRequest> {
    match kind {
        Kind::Tensor { datatype, .. } => {
            let array = array::read(text, *datatype, place, 0)?;
            let tensor = Tensor::new(array.shape, array.data);
            tensor
                .map(Value::Tensor)
                .map_err(|mismatch| BadRequest(format!("{place}: {mismatch}")))
        }
        Kind::Sequence(inner) => {
            let values: Vec<&RawValue> = parse(text, place)?;
            let values = values.iter().enumerate();
            values
                .map(|(index, value)| read(value.get(), inner, &format!("{place}[{index}]")))
                .collect::<Result<_, _>>()
                .map(Value::Sequence)
        }
        Kind::Map { key, value } => map(text, *key, *value, place),
        Kind::Optional(inner) => read(text, inner, place),
        Kind::Other(_) => Err(without_form(kind, place)),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry<'a> {
    #[serde(borrow)]
    key: &'a RawValue,
    #[serde(borrow)]
    value: &'a RawValue,
}

fn map(text: &str, key: Datatype, value: Datatype, place: &str) -> Result<Value, BadRequest> {
    let (keys, values): (Vec<Cow<'_, str>>, Vec<&str>) = if text.starts_with('{') {
        let Columns(entries) = parse(text, place)?;
        let entries = entries.into_iter().map(|(name, value)| {
            // The name of a field is a text, whatever the keys are.
            let name = match key {
                Datatype::Bytes => serde_json::Value::from(name.as_ref()).to_string().into(),
                _ => name,
            };
            (name, value.get())
        });
        entries.unzip()
    } else {
        let entries: Vec<Entry<'_>> = parse(text, place)?;
        let entries = entries.iter();
        entries
            .map(|entry| (Cow::Borrowed(entry.key.get()), entry.value.get()))
            .unzip()
    };
    let column = |items: &str, datatype, part| {
        let place = format!("{place}.{part}");
        let array = array::read(format!("[{items}]"), datatype, &place, 0)?;
        if array.shape.len() == 1 {
            return Ok(array.data);
        }
        Err(BadRequest(format!("{place} is an array, expected a value")))
    };
    let keys = column(&keys.join(","), key, "key")?;
    let values = column(&values.join(","), value, "value")?;
    if let Some(twice) = twice(&keys) {
        return Err(BadRequest(format!("{place}: key {twice} is given twice")));
    }
    Ok(Value::Map { keys, values })
}

/// A key that stands among the others once more; of the two types that keys of maps have.
pub(super) fn twice(keys: &Data) -> Option<String> {
    match keys {
        Data::Int64(keys) => repeated(keys.iter()).map(ToString::to_string),
        Data::Bytes(keys) => repeated(keys.iter()).map(|key| format!("{key:?}")),
        _ => None,
    }
}

fn repeated<T: Ord>(items: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = BTreeSet::new();
    for item in items {
        if seen.contains(&item) {
            return Some(item);
        }
        seen.insert(item);
    }
    None
}

fn without_form(kind: &Kind, place: &str) -> BadRequest {
    BadRequest(format!("{place}: a {kind} cannot be given as JSON"))
}
