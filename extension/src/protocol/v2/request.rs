//! A request as it stands: the fields that are known, none of them held against a model yet.

use std::borrow::Cow;

use crate::excerpt::Excerpt;
use crate::protocol::array::MAX_RANK;
use crate::protocol::json::{self, Reader};
use crate::protocol::{BadRequest, input_port, malformed, output_port};
use crate::tensor::Signature;

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
    /// Reads a request for a model of this signature. The first input or output that the model does not have, or that is
    /// given twice, ends the reading: so many of them as a body has room for would take many times its memory.
    pub(super) fn read(text: &'a [u8], signature: &Signature) -> Result<Self, BadRequest> {
        malformed::check_object(text, "an inference request")?;
        let (mut id, mut inputs, mut outputs) = (None, None, None);
        let (mut parameters, mut binary_outputs) = (None, None);
        let mut reader = Reader::of_request(text);
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
            "inputs" => {
                let check = |all: &[InputTensor<'a>], input: &InputTensor<'a>, place: &str| {
                    input_port(signature, &input.name, place)?;
                    once_each(all.iter().map(|input| &*input.name), &input.name, || {
                        format!("{place}: input {:?} is given twice", input.name)
                    })
                };
                let all = all(reader, name, InputTensor::read, check)?;
                json::once(&mut inputs, all, name)
            }
            "outputs" => {
                let check = |all: &[OutputTensor], output: &OutputTensor, place: &str| {
                    output_port(signature, &output.name, place)?;
                    once_each(all.iter().map(|output| &*output.name), &output.name, || {
                        format!("{place}: output {:?} is asked for twice", output.name)
                    })
                };
                let all = all(reader, name, OutputTensor::read, check)?;
                json::once(&mut outputs, all, name)
            }
            unknown => reader.skip(&Excerpt(unknown).to_string()),
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
            "shape" => json::once(&mut shape, lengths(reader, place)?, place),
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

/// The form of a shape.
const LENGTHS: &str = "an array of whole numbers, 0 or more";

/// Reads a shape.
fn lengths(reader: &mut Reader<'_>, place: &str) -> Result<Vec<usize>, BadRequest> {
    let text = reader.value(place)?;
    let commas = text.iter().filter(|byte| **byte == b',');
    if commas.count() >= MAX_RANK {
        return Err(BadRequest(format!(
            "{place} has more than {MAX_RANK} dimensions"
        )));
    }
    json::value(text, place, LENGTHS)
}

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

/// Reads the items of an array, each with its place, and checks each against those before it.
fn all<'a, T>(
    reader: &mut Reader<'a>,
    place: &str,
    read: impl Fn(&mut Reader<'a>, &str) -> Result<T, BadRequest>,
    check: impl Fn(&[T], &T, &str) -> Result<(), BadRequest>,
) -> Result<Vec<T>, BadRequest> {
    let mut all = Vec::new();
    reader.array(place, |reader, index| {
        let place = format!("{place}[{index}]");
        let item = read(reader, &place)?;
        check(&all, &item, &place)?;
        all.push(item);
        Ok::<_, BadRequest>(())
    })?;
    Ok(all)
}

/// An error with this problem, if the name is one of those before it.
fn once_each<'n>(
    mut before: impl Iterator<Item = &'n str>,
    name: &str,
    problem: impl Fn() -> String,
) -> Result<(), BadRequest> {
    if before.any(|other| other == name) {
        return Err(BadRequest(problem()));
    }
    Ok(())
}

/// Goes through the fields of an object, each with its name and its place, and takes their values.
fn each_field<'a>(
    reader: &mut Reader<'a>,
    place: &str,
    mut each: impl FnMut(&mut Reader<'a>, &str, &str) -> Result<(), BadRequest>,
) -> Result<(), BadRequest> {
    reader.object(place, |reader, name| {
        each(reader, name, &format!("{place}.{}", Excerpt(name)))
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
