//! A request as it stands: the fields that are known, none of them held against a model yet.

use std::borrow::Cow;

use crate::protocol::json::{self, Reader};
use crate::protocol::{BadRequest, malformed};

/// What a request's JSON says.
pub(super) struct Request<'a> {
    pub(super) id: Option<String>,
    /// Whether outputs are to come in binary that say nothing about it themselves.
    pub(super) binary_outputs: bool,
    pub(super) inputs: Vec<InputTensor<'a>>,
    pub(super) outputs: Vec<OutputTensor>,
}

/// An input, or a tensor that is written as one.
pub(super) struct InputTensor<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) shape: Vec<usize>,
    pub(super) datatype: Cow<'a, str>,
    /// How many bytes of the body after the JSON are its elements.
    pub(super) binary_size: Option<usize>,
    /// The elements in JSON, as they stand.
    pub(super) data: Option<&'a [u8]>,
}

/// An output that is asked for.
pub(super) struct OutputTensor {
    pub(super) name: String,
    pub(super) binary: Option<bool>,
    pub(super) classes: Option<usize>,
}

const STRING: &str = "a string";
const TRUTH: &str = "true or false";
const SIZE: &str = "a whole number of bytes";

/// What the whole of a request is called.
const REQUEST: &str = "not an inference request";

impl<'a> Request<'a> {
    /// Reads a request.
    pub(super) fn read(text: &'a [u8]) -> Result<Self, BadRequest> {
        // All of it, also what is skipped.
        std::str::from_utf8(text).map_err(|error| {
            BadRequest(format!("{REQUEST}: {}", malformed::no_text(text, error)))
        })?;
        let (mut id, mut inputs, mut outputs) = (None, None, None);
        let (mut parameters, mut binary_outputs) = (None, None);
        let mut reader = Reader::new(text);
        if !reader.is_object() {
            return Err(BadRequest(format!("{REQUEST}: an object is expected")));
        }
        reader.object(REQUEST, |reader, name| match name {
            "id" => {
                let given = reader.read(name, "a string, or null")?;
                json::once(&mut id, given, name)
            }
            "parameters" => {
                json::once(&mut parameters, (), name)?;
                each_parameter(reader, name, |reader, name, place| match name {
                    "binary_data_output" => {
                        binary_outputs = Some(reader.read(place, TRUTH)?);
                        Ok(())
                    }
                    _ => reader.skip(place),
                })
            }
            "inputs" => json::once(&mut inputs, all(reader, name, InputTensor::read)?, name),
            "outputs" => json::once(&mut outputs, all(reader, name, OutputTensor::read)?, name),
            unknown => reader.skip(unknown),
        })?;
        reader.end(REQUEST)?;
        Ok(Self {
            id: id.flatten(),
            binary_outputs: binary_outputs.unwrap_or(false),
            inputs: inputs.ok_or_else(|| missing("inputs"))?,
            outputs: outputs.unwrap_or_default(),
        })
    }
}

impl Request<'_> {
    /// The first input whose elements are not in the JSON.
    pub(super) fn first_binary(&self) -> Option<usize> {
        let is_binary =
            |input: &InputTensor<'_>| input.binary_size.is_some() && input.data.is_none();
        self.inputs.iter().position(is_binary)
    }
}

impl<'a> InputTensor<'a> {
    fn read(reader: &mut Reader<'a>, place: &str) -> Result<Self, BadRequest> {
        let (mut name, mut shape, mut datatype, mut data) = (None, None, None, None);
        let (mut parameters, mut binary_size) = (None, None);
        each_field(reader, place, |reader, field, place| match field {
            "name" => json::once(&mut name, reader.read::<String>(place, STRING)?, place),
            "shape" => {
                let given = reader.read(place, LENGTHS)?;
                json::once(&mut shape, given, place)
            }
            "datatype" => json::once(&mut datatype, reader.read::<String>(place, STRING)?, place),
            "parameters" => {
                json::once(&mut parameters, (), place)?;
                each_parameter(reader, place, |reader, name, place| match name {
                    "binary_data_size" => {
                        binary_size = Some(reader.read(place, SIZE)?);
                        Ok(())
                    }
                    _ => reader.skip(place),
                })
            }
            "data" => json::once(&mut data, reader.value(place)?, place),
            _ => reader.skip(place),
        })?;
        let missing = |field: &str| missing(&format!("{place}.{field}"));
        Ok(Self {
            name: name.ok_or_else(|| missing("name"))?.into(),
            shape: shape.ok_or_else(|| missing("shape"))?,
            datatype: datatype.ok_or_else(|| missing("datatype"))?.into(),
            binary_size,
            data,
        })
    }
}

/// What a shape is.
const LENGTHS: &str = "an array of whole numbers, 0 or more";

impl OutputTensor {
    fn read(reader: &mut Reader<'_>, place: &str) -> Result<Self, BadRequest> {
        /// How many classes may be asked for.
        const COUNT: &str = "a whole number, 1 or more";
        let (mut name, mut binary, mut classes) = (None, None, None);
        let mut parameters = None;
        each_field(reader, place, |reader, field, place| match field {
            "name" => json::once(&mut name, reader.read::<String>(place, STRING)?, place),
            "parameters" => {
                json::once(&mut parameters, (), place)?;
                each_parameter(reader, place, |reader, name, place| {
                    match name {
                        "binary_data" => binary = Some(reader.read(place, TRUTH)?),
                        "classification" => {
                            let value = reader.value(place)?;
                            match json::value(value, place, COUNT)? {
                                0 => return Err(json::unexpected(value, place, COUNT)),
                                count => classes = Some(count),
                            }
                        }
                        _ => reader.skip(place)?,
                    }
                    Ok(())
                })
            }
            _ => reader.skip(place),
        })?;
        Ok(Self {
            name: name.ok_or_else(|| missing(&format!("{place}.name")))?,
            binary,
            classes,
        })
    }
}

fn missing(place: &str) -> BadRequest {
    BadRequest(format!("missing field: {place}"))
}

/// Reads the items of an array, each with its place.
fn all<'a, T>(
    reader: &mut Reader<'a>,
    place: &str,
    read: impl Fn(&mut Reader<'a>, &str) -> Result<T, BadRequest>,
) -> Result<Vec<T>, BadRequest> {
    let mut all = Vec::new();
    reader.array(place, |reader, index| {
        all.push(read(reader, &format!("{place}[{index}]"))?);
        Ok(())
    })?;
    Ok(all)
}

/// Goes through the fields of an object, each with its name and its place, and takes their values.
fn each_field<'a>(
    reader: &mut Reader<'a>,
    place: &str,
    mut each: impl FnMut(&mut Reader<'a>, &str, &str) -> Result<(), BadRequest>,
) -> Result<(), BadRequest> {
    reader.object(place, |reader, name| {
        each(reader, name, &format!("{place}.{name}"))
    })
}

/// Goes through parameters, if there are any.
fn each_parameter<'a>(
    reader: &mut Reader<'a>,
    place: &str,
    each: impl FnMut(&mut Reader<'a>, &str, &str) -> Result<(), BadRequest>,
) -> Result<(), BadRequest> {
    if reader.null() {
        return Ok(());
    }
    each_field(reader, place, each)
}
