//! Sequences and maps in a request, in the form in which answers write them.
//!
//! A sequence is an array of its values, a map an array of `{"key":…,"value":…}`; a map may also come as an object, the
//! form that people write by hand. In the Open Inference Protocol they are inputs of datatype `SEQUENCE` and `MAP`, whose
//! shape is the number of values. What is optional comes as what it holds, or is left out.

use super::array::{self, Column};
use super::json::Reader;
use super::{BadRequest, DecodeError, Decoding, Result, charge_empty};
use crate::excerpt::{Dimensions, Excerpt};
use crate::tensor::{Data, Datatype, Kind, NO_TENSORS, Tensor, Value};

/// Bytes that an item of a sequence takes in addition to its elements: a tensor of ours with its shape, and one of ONNX
/// Runtime, which is copied once.
const ITEM: usize = 1024;
/// Bytes that an entry of a map takes in addition to its key and its value: a node of ONNX Runtime's map, and the order
/// of keys among which one is looked for that is given twice.
const ENTRY: usize = 128;

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
    data: &[u8],
    place: &str,
    decoding: &mut Decoding<'_>,
) -> Result<Value> {
    let word = match kind {
        Kind::Sequence(_) => NO_TENSORS[0].word,
        Kind::Map { .. } => NO_TENSORS[1].word,
        _ => return Err(without_form(kind, place).into()),
    };
    if datatype != word {
        return Err(BadRequest(format!(
            "{place}.datatype is {:?}, a {kind} is given as {word}",
            Excerpt(datatype)
        ))
        .into());
    }
    let value = read(data, kind, &format!("{place}.data"), decoding)?;
    let length = value.length();
    if *shape != [length] {
        return Err(BadRequest(format!(
            "{place}.shape is {:?}, but the data has {length} values: expected [{length}]",
            Dimensions(shape)
        ))
        .into());
    }
    Ok(value)
}

/// Reads JSON text as a value of this kind; `place` is where it stands, for errors.
pub(super) fn read(
    text: &[u8],
    kind: &Kind,
    place: &str,
    decoding: &mut Decoding<'_>,
) -> Result<Value> {
    match kind {
        Kind::Tensor { datatype, .. } => {
            let array = array::read(text, *datatype, place, None, decoding)?;
            charge_empty(&array.shape, *datatype, decoding.charge)?;
            let tensor = Tensor::new(array.shape, array.data);
            let tensor = tensor.map_err(|mismatch| BadRequest(format!("{place}: {mismatch}")))?;
            Ok(Value::Tensor(tensor))
        }
        Kind::Sequence(inner) => {
            let mut values = Vec::new();
            let mut reader = Reader::new(text);
            reader.array(place, |reader, index| {
                let place = format!("{place}[{index}]");
                decoding.charge.grow(ITEM)?;
                let value = reader.value(&place)?;
                values.push(read(value, inner, &place, decoding)?);
                Ok::<_, DecodeError>(())
            })?;
            reader.end(place)?;
            Ok(Value::Sequence(values))
        }
        Kind::Map { key, value } => map(text, *key, *value, place, decoding),
        Kind::Optional(inner) => read(text, inner, place, decoding),
        Kind::Other(_) => Err(without_form(kind, place).into()),
    }
}

/// The keys and the values of a map that is being read.
struct Entries<'a> {
    place: &'a str,
    keys: Column,
    values: Column,
}

fn map(
    text: &[u8],
    key: Datatype,
    value: Datatype,
    place: &str,
    decoding: &mut Decoding<'_>,
) -> Result<Value> {
    let mut entries = Entries {
        place,
        keys: Column::new(key, 0),
        values: Column::new(value, 0),
    };
    let mut reader = Reader::new(text);
    if reader.is_object() {
        reader.object(place, |reader, name| {
            decoding.charge.grow(ENTRY)?;
            // The name of a field is a text, whatever the keys are.
            let name = match key {
                Datatype::Bytes => serde_json::Value::from(name).to_string(),
                _ => name.to_owned(),
            };
            let at = || format!("{place}[{:?}]", Excerpt(&name));
            entries.keys.only(name.as_bytes(), &at, decoding)?;
            entries.value(reader, &at, decoding)
        })?;
    } else {
        reader.array(place, |reader, index| {
            decoding.charge.grow(ENTRY)?;
            entries.entry(reader, index, decoding)
        })?;
    }
    reader.end(place)?;
    let (keys, values) = (
        entries.keys.finish(decoding)?.data,
        entries.values.finish(decoding)?.data,
    );
    if let Some(twice) = twice(&keys) {
        return Err(BadRequest(format!("{place}: key {twice} is given twice")).into());
    }
    Ok(Value::Map { keys, values })
}

impl Entries<'_> {
    /// Reads `{"key":…,"value":…}`.
    fn entry(
        &mut self,
        reader: &mut Reader<'_>,
        index: usize,
        decoding: &mut Decoding<'_>,
    ) -> Result<()> {
        let place = || format!("{}[{index}]", self.place);
        let (mut key, mut value) = (None, None);
        reader.object(self.place, |reader, name| {
            let part = match name {
                "key" => &mut key,
                "value" => &mut value,
                other => {
                    let place = place();
                    let other = Excerpt(other);
                    let problem =
                        format!("{place}: unknown field {other:?}, expected `key` and `value`");
                    return Err(BadRequest(problem).into());
                }
            };
            if part.replace(reader.value(self.place)?).is_some() {
                return Err(BadRequest(format!("{}.{name} is given twice", place())).into());
            }
            Ok::<_, DecodeError>(())
        })?;
        for (column, given, name) in [
            (&mut self.keys, key, "key"),
            (&mut self.values, value, "value"),
        ] {
            let place = format!("{}[{index}]", self.place);
            let given =
                given.ok_or_else(|| BadRequest(format!("{place}: missing field `{name}`")))?;
            column.only(given, &|| format!("{place}.{name}"), decoding)?;
        }
        Ok(())
    }

    fn value(
        &mut self,
        reader: &mut Reader<'_>,
        place: &dyn Fn() -> String,
        decoding: &mut Decoding<'_>,
    ) -> Result<()> {
        let given = reader.value(self.place)?;
        self.values.only(given, place, decoding)
    }
}

/// A key that stands among the others once more; of the two types that keys of maps have.
pub(super) fn twice(keys: &Data) -> Option<String> {
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

fn without_form(kind: &Kind, place: &str) -> BadRequest {
    BadRequest(format!("{place}: a {kind} cannot be given as JSON"))
}
