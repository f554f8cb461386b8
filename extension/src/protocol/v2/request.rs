//! Parsed form of an inference request: the known fields, with names checked against the model's signature.

use std::borrow::Cow;
use std::fmt::{Arguments, Display};

use crate::excerpt::Excerpt;
use crate::protocol::array::MAX_RANK;
use crate::protocol::json_reader::{self, JsonReader};
use crate::protocol::{BadRequest, input_port, malformed, output_port};
use crate::tensor::Signature;

/// The JSON part of a request.
pub(super) struct InferRequest<'a> {
    pub(super) id: Option<String>,
    /// `true` if outputs without their own setting are binary.
    pub(super) binary_outputs: bool,
    pub(super) inputs: Vec<InputTensor<'a>>,
    pub(super) outputs: Vec<OutputTensor>,
}

/// An input tensor, or a tensor in the same form.
pub(super) struct InputTensor<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) shape: Vec<usize>,
    pub(super) datatype: Cow<'a, str>,
    /// Number of bytes of the binary part that are the elements.
    pub(super) binary_size: Option<usize>,
    /// Unparsed JSON of the elements.
    pub(super) data: Option<&'a [u8]>,
}

/// A requested output.
pub(super) struct OutputTensor {
    pub(super) name: String,
    pub(super) binary: Option<bool>,
    pub(super) classes: Option<usize>,
}

const STRING: &str = "a string";
const BOOLEAN: &str = "true or false";
const SIZE: &str = "a whole number of bytes";

/// Beginning of errors about the whole request.
const REQUEST: &str = "not an inference request";

impl<'a> InferRequest<'a> {
    /// Parses a request for a model of this signature. Parsing ends at the first unknown or duplicate input or output.
    /// As many of them as fit in a body would take many times its memory.
    pub(super) fn read(text: &'a [u8], signature: &Signature) -> Result<Self, BadRequest> {
        malformed::check_object(text, "an inference request")?;
        let (mut id, mut inputs, mut outputs) = (None, None, None);
        let (mut parameters, mut binary_outputs) = (None, None);
        let mut reader = JsonReader::of_request(text);
        reader.object(REQUEST, |reader, name| match name {
            "id" => {
                let given = reader.read(name, "a string, or null")?;
                json_reader::once(&mut id, given, name)
            }
            "parameters" => {
                json_reader::once(&mut parameters, (), name)?;
                each_parameter(reader, name, |reader, name, path| match name {
                    "binary_data_output" => {
                        binary_outputs = Some(reader.read(path, BOOLEAN)?);
                        Ok(())
                    }
                    _ => reader.skip(path),
                })
            }
            "inputs" => {
                let check =
                    |all: &[InputTensor<'a>], input: &InputTensor<'a>, path: Arguments<'_>| {
                        input_port(signature, &input.name, path)?;
                        unique(all.iter().map(|input| &*input.name), &input.name, || {
                            format!("{path}: input {:?} is given twice", input.name)
                        })
                    };
                let all = all(reader, name, InputTensor::read, check)?;
                json_reader::once(&mut inputs, all, name)
            }
            "outputs" => {
                let check = |all: &[OutputTensor], output: &OutputTensor, path: Arguments<'_>| {
                    output_port(signature, &output.name, path)?;
                    unique(all.iter().map(|output| &*output.name), &output.name, || {
                        format!("{path}: output {:?} is requested twice", output.name)
                    })
                };
                let all = all(reader, name, OutputTensor::read, check)?;
                json_reader::once(&mut outputs, all, name)
            }
            unknown => reader.skip(Excerpt(unknown)),
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

impl InferRequest<'_> {
    /// Returns the index of the first input whose elements are not in the JSON.
    pub(super) fn first_binary(&self) -> Option<usize> {
        let is_binary =
            |input: &InputTensor<'_>| input.binary_size.is_some() && input.data.is_none();
        self.inputs.iter().position(is_binary)
    }
}

impl<'a> InputTensor<'a> {
    fn read(reader: &mut JsonReader<'a>, path: Arguments<'_>) -> Result<Self, BadRequest> {
        let (mut name, mut shape, mut datatype, mut data) = (None, None, None, None);
        let (mut parameters, mut binary_size) = (None, None);
        each_field(reader, path, |reader, field, path| match field {
            "name" => json_reader::once(&mut name, reader.read::<String>(path, STRING)?, path),
            "shape" => json_reader::once(&mut shape, self::shape(reader, path)?, path),
            "datatype" => {
                json_reader::once(&mut datatype, reader.read::<String>(path, STRING)?, path)
            }
            "parameters" => {
                json_reader::once(&mut parameters, (), path)?;
                each_parameter(reader, path, |reader, name, path| match name {
                    "binary_data_size" => {
                        binary_size = Some(reader.read(path, SIZE)?);
                        Ok(())
                    }
                    _ => reader.skip(path),
                })
            }
            "data" => json_reader::once(&mut data, reader.value(path)?, path),
            _ => reader.skip(path),
        })?;
        let missing = |field: &str| missing(format_args!("{path}.{field}"));
        Ok(Self {
            name: name.ok_or_else(|| missing("name"))?.into(),
            shape: shape.ok_or_else(|| missing("shape"))?,
            datatype: datatype.ok_or_else(|| missing("datatype"))?.into(),
            binary_size,
            data,
        })
    }
}

/// Description of a valid shape.
const SHAPE: &str = "an array of whole numbers, 0 or more";

/// Parses a shape.
fn shape(reader: &mut JsonReader<'_>, path: Arguments<'_>) -> Result<Vec<usize>, BadRequest> {
    let text = reader.value(path)?;
    let commas = text.iter().filter(|byte| **byte == b',');
    if commas.count() >= MAX_RANK {
        return Err(BadRequest(format!(
            "{path} has more than {MAX_RANK} dimensions"
        )));
    }
    json_reader::value(text, path, SHAPE)
}

impl OutputTensor {
    fn read(reader: &mut JsonReader<'_>, path: Arguments<'_>) -> Result<Self, BadRequest> {
        /// Description of a valid number of classes.
        const COUNT: &str = "a whole number, 1 or more";
        let (mut name, mut binary, mut classes) = (None, None, None);
        let mut parameters = None;
        each_field(reader, path, |reader, field, path| match field {
            "name" => json_reader::once(&mut name, reader.read::<String>(path, STRING)?, path),
            "parameters" => {
                json_reader::once(&mut parameters, (), path)?;
                each_parameter(reader, path, |reader, name, path| {
                    match name {
                        "binary_data" => binary = Some(reader.read(path, BOOLEAN)?),
                        "classification" => {
                            let value = reader.value(path)?;
                            match json_reader::value(value, path, COUNT)? {
                                0 => return Err(json_reader::unexpected(value, path, COUNT)),
                                count => classes = Some(count),
                            }
                        }
                        _ => reader.skip(path)?,
                    }
                    Ok(())
                })
            }
            _ => reader.skip(path),
        })?;
        Ok(Self {
            name: name.ok_or_else(|| missing(format_args!("{path}.name")))?,
            binary,
            classes,
        })
    }
}

fn missing(path: impl Display) -> BadRequest {
    BadRequest(format!("missing field: {path}"))
}

/// Parses the items of an array, and checks each against the items before it.
fn all<'a, T>(
    reader: &mut JsonReader<'a>,
    path: &str,
    read: impl Fn(&mut JsonReader<'a>, Arguments<'_>) -> Result<T, BadRequest>,
    check: impl Fn(&[T], &T, Arguments<'_>) -> Result<(), BadRequest>,
) -> Result<Vec<T>, BadRequest> {
    let mut all = Vec::new();
    reader.array(path, |reader, index| {
        let path = format_args!("{path}[{index}]");
        let item = read(reader, path)?;
        check(&all, &item, path)?;
        all.push(item);
        Ok::<_, BadRequest>(())
    })?;
    Ok(all)
}

/// Returns an error with this problem if the name is among those before it.
fn unique<'n>(
    mut before: impl Iterator<Item = &'n str>,
    name: &str,
    problem: impl Fn() -> String,
) -> Result<(), BadRequest> {
    if before.any(|other| other == name) {
        return Err(BadRequest(problem()));
    }
    Ok(())
}

/// Iterates over the fields of an object; `each` gets the name and the path of a field and consumes its value.
///
/// Paths are formatted for errors alone: formatting all of them takes a fifth of the instructions of decoding one row.
fn each_field<'a>(
    reader: &mut JsonReader<'a>,
    path: impl Display + Copy,
    mut each: impl FnMut(&mut JsonReader<'a>, &str, Arguments<'_>) -> Result<(), BadRequest>,
) -> Result<(), BadRequest> {
    reader.object(path, |reader, name| {
        each(reader, name, format_args!("{path}.{}", Excerpt(name)))
    })
}

/// Iterates over parameters, if there are any.
fn each_parameter<'a>(
    reader: &mut JsonReader<'a>,
    path: impl Display + Copy,
    each: impl FnMut(&mut JsonReader<'a>, &str, Arguments<'_>) -> Result<(), BadRequest>,
) -> Result<(), BadRequest> {
    if reader.null() {
        return Ok(());
    }
    each_field(reader, path, each)
}
