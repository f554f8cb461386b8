//! Sequences and maps in a request, in the form of responses.
//!
//! A sequence is an array of its values, and a map is an array of `{"key":…,"value":…}`. A map may also be an object,
//! the form that people write by hand. In the Open Inference Protocol both are inputs of datatype `SEQUENCE` or `MAP`,
//! with the number of values as their shape. An optional input is given as its value, or absent.

use std::fmt::Display;

use super::array::{self, Column};
use super::json_reader::JsonReader;
use super::{BadRequest, DecodeError, Decoding, Result, charge_empty};
use crate::excerpt::{Dimensions, Excerpt};
use crate::tensor::{Data, Datatype, Kind, NON_TENSORS, Tensor, Value};

/// Memory of an item of a sequence in addition to its elements, in bytes. It consists of the tensor with its shape, and
/// ONNX Runtime's tensor, which is copied once.
const ITEM_BYTES: usize = 1024;
/// Memory of a map entry in addition to its key and value, in bytes. It consists of a node of ONNX Runtime's map, and
/// the sorted keys for the search for duplicates.
const ENTRY_BYTES: usize = 128;

/// Returns the kind of a given value: for an optional input, the kind that it may hold.
pub(super) fn given(kind: &Kind) -> &Kind {
    match kind {
        Kind::Optional(inner) => given(inner),
        kind => kind,
    }
}

/// Reads an input of the Open Inference Protocol that is not a tensor; `path` is the input, such as `inputs[0]`.
pub(super) fn input(
    kind: &Kind,
    datatype: &str,
    shape: &[usize],
    data: &[u8],
    path: &dyn Display,
    decoding: &mut Decoding<'_>,
) -> Result<Value> {
    let name = match kind {
        Kind::Sequence(_) => NON_TENSORS[0].name,
        Kind::Map { .. } => NON_TENSORS[1].name,
        _ => return Err(unsupported(kind, path).into()),
    };
    if datatype != name {
        return Err(BadRequest(format!(
            "{path}.datatype is {:?}, a {kind} is given as {name}",
            Excerpt(datatype)
        ))
        .into());
    }
    let value = read(data, kind, &format!("{path}.data"), decoding)?;
    let length = value.length();
    if *shape != [length] {
        return Err(BadRequest(format!(
            "{path}.shape is {:?}, but the data has {length} values: expected [{length}]",
            Dimensions(shape)
        ))
        .into());
    }
    Ok(value)
}

/// Reads JSON text as a value of this kind; `path` is its field, for errors.
pub(super) fn read(
    text: &[u8],
    kind: &Kind,
    path: &dyn Display,
    decoding: &mut Decoding<'_>,
) -> Result<Value> {
    match kind {
        Kind::Tensor { datatype, .. } => {
            let array = array::read(text, *datatype, path, None, decoding)?;
            charge_empty(&array.shape, *datatype, decoding.charge)?;
            let tensor = Tensor::new(array.shape, array.data);
            let tensor = tensor.map_err(|mismatch| BadRequest(format!("{path}: {mismatch}")))?;
            Ok(Value::Tensor(tensor))
        }
        Kind::Sequence(inner) => {
            let mut values = Vec::new();
            let mut reader = JsonReader::new(text);
            reader.array(path, |reader, index| {
                let path = format_args!("{path}[{index}]");
                decoding.charge.grow(ITEM_BYTES)?;
                let value = reader.value(path)?;
                values.push(read(value, inner, &path, decoding)?);
                Ok::<_, DecodeError>(())
            })?;
            reader.end(path)?;
            Ok(Value::Sequence(values))
        }
        Kind::Map { key, value } => map(text, *key, *value, path, decoding),
        Kind::Optional(inner) => read(text, inner, path, decoding),
        Kind::Other(_) => Err(unsupported(kind, path).into()),
    }
}

/// Keys and values of a map that is being read.
struct MapEntries<'a> {
    path: &'a dyn Display,
    keys: Column,
    values: Column,
}

fn map(
    text: &[u8],
    key: Datatype,
    value: Datatype,
    path: &dyn Display,
    decoding: &mut Decoding<'_>,
) -> Result<Value> {
    let mut entries = MapEntries {
        path,
        keys: Column::new(key, 0),
        values: Column::new(value, 0),
    };
    let mut reader = JsonReader::new(text);
    if reader.is_object() {
        reader.object(path, |reader, name| {
            decoding.charge.grow(ENTRY_BYTES)?;
            // A field's name is a string even if the keys are not.
            let name = match key {
                Datatype::Bytes => serde_json::Value::from(name).to_string(),
                _ => name.to_owned(),
            };
            let at = format_args!("{path}[{:?}]", Excerpt(&name));
            entries.keys.only(name.as_bytes(), &at, decoding)?;
            entries.value(reader, &at, decoding)
        })?;
    } else {
        reader.array(path, |reader, index| {
            decoding.charge.grow(ENTRY_BYTES)?;
            entries.entry(reader, index, decoding)
        })?;
    }
    reader.end(path)?;
    let (keys, values) = (
        entries.keys.finish(decoding)?.data,
        entries.values.finish(decoding)?.data,
    );
    if let Some(key) = duplicate_key(&keys) {
        return Err(BadRequest(format!("{path}: key {key} is given twice")).into());
    }
    Ok(Value::Map { keys, values })
}

impl MapEntries<'_> {
    /// Reads `{"key":…,"value":…}`.
    fn entry(
        &mut self,
        reader: &mut JsonReader<'_>,
        index: usize,
        decoding: &mut Decoding<'_>,
    ) -> Result<()> {
        let path = format_args!("{}[{index}]", self.path);
        let (mut key, mut value) = (None, None);
        reader.object(self.path, |reader, name| {
            let part = match name {
                "key" => &mut key,
                "value" => &mut value,
                other => {
                    let other = Excerpt(other);
                    let problem =
                        format!("{path}: unknown field {other:?}, expected `key` and `value`");
                    return Err(BadRequest(problem).into());
                }
            };
            if part.replace(reader.value(self.path)?).is_some() {
                return Err(BadRequest(format!("{path}.{name} is given twice")).into());
            }
            Ok::<_, DecodeError>(())
        })?;
        for (column, given, name) in [
            (&mut self.keys, key, "key"),
            (&mut self.values, value, "value"),
        ] {
            let given =
                given.ok_or_else(|| BadRequest(format!("{path}: missing field `{name}`")))?;
            column.only(given, &format_args!("{path}.{name}"), decoding)?;
        }
        Ok(())
    }

    fn value(
        &mut self,
        reader: &mut JsonReader<'_>,
        path: &dyn Display,
        decoding: &mut Decoding<'_>,
    ) -> Result<()> {
        let given = reader.value(self.path)?;
        self.values.only(given, path, decoding)
    }
}

/// Returns a duplicate key of a map; its keys are integers or strings.
pub(super) fn duplicate_key(keys: &Data) -> Option<String> {
    match keys {
        Data::Int64(keys) => repeated(keys.iter()).map(ToString::to_string),
        Data::Bytes(keys) => repeated(keys.iter()).map(|key| format!("{:?}", Excerpt(key))),
        _ => None,
    }
}

fn repeated<T: Ord + Copy>(items: impl Iterator<Item = T>) -> Option<T> {
    let mut items: Vec<T> = items.collect();
    items.sort_unstable();
    let twice = items.windows(2).find(|pair| pair[0] == pair[1]);
    twice.map(|pair| pair[0])
}

fn unsupported(kind: &Kind, path: &dyn Display) -> BadRequest {
    BadRequest(format!("{path}: a {kind} cannot be given as JSON"))
}
