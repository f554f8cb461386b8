//! A request as it stands: the fields that are known, none of them held against a model yet.

use std::borrow::Cow;

use crate::protocol::{BadRequest, json, malformed};

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

const OBJECT: &str = "an object";
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
        let fields = json::fields(text)
            .ok_or_else(|| BadRequest(format!("{REQUEST}: an object is expected")))?;
        let (mut id, mut parameters, mut inputs, mut outputs) = (None, None, None, None);
        for field in fields {
            let (name, value) = field.map_err(|malformed| malformed.within(REQUEST))?;
            match &*name {
                "id" => json::once(
                    &mut id,
                    json::value(value, "id", "a string, or null")?,
                    "id",
                )?,
                "parameters" => json::once(&mut parameters, value, "parameters")?,
                "inputs" => {
                    json::once(
                        &mut inputs,
                        all(value, "inputs", InputTensor::read)?,
                        "inputs",
                    )?;
                }
                "outputs" => {
                    json::once(
                        &mut outputs,
                        all(value, "outputs", OutputTensor::read)?,
                        "outputs",
                    )?;
                }
                unknown => json::unwanted(value, unknown)?,
            }
        }
        let mut binary_outputs = None;
        each_parameter(parameters, "parameters", |name, value, place| {
            match name {
                "binary_data_output" => binary_outputs = Some(json::value(value, place, TRUTH)?),
                _ => json::unwanted(value, place)?,
            }
            Ok(())
        })?;
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
    fn read(text: &'a [u8], place: &str) -> Result<Self, BadRequest> {
        let (mut name, mut shape, mut datatype) = (None, None, None);
        let (mut parameters, mut data) = (None, None);
        each_field(text, place, |field, value, place| match field {
            "name" => json::once(
                &mut name,
                json::value::<String>(value, place, STRING)?,
                place,
            ),
            "shape" => json::once(&mut shape, json::value(value, place, LENGTHS)?, place),
            "datatype" => json::once(
                &mut datatype,
                json::value::<String>(value, place, STRING)?,
                place,
            ),
            "parameters" => json::once(&mut parameters, value, place),
            "data" => json::once(&mut data, value, place),
            _ => json::unwanted(value, place),
        })?;
        let mut binary_size = None;
        let place_of = |field: &str| format!("{place}.{field}");
        each_parameter(parameters, &place_of("parameters"), |name, value, place| {
            match name {
                "binary_data_size" => binary_size = Some(json::value(value, place, SIZE)?),
                _ => json::unwanted(value, place)?,
            }
            Ok(())
        })?;
        Ok(Self {
            name: name.ok_or_else(|| missing(&place_of("name")))?.into(),
            shape: shape.ok_or_else(|| missing(&place_of("shape")))?,
            datatype: datatype
                .ok_or_else(|| missing(&place_of("datatype")))?
                .into(),
            binary_size,
            data,
        })
    }
}

/// What a shape is.
const LENGTHS: &str = "an array of whole numbers, 0 or more";

impl OutputTensor {
    fn read(text: &[u8], place: &str) -> Result<Self, BadRequest> {
        let (mut name, mut parameters) = (None, None);
        each_field(text, place, |field, value, place| match field {
            "name" => json::once(&mut name, json::value(value, place, STRING)?, place),
            "parameters" => json::once(&mut parameters, value, place),
            _ => json::unwanted(value, place),
        })?;
        let (mut binary, mut classes) = (None, None);
        each_parameter(
            parameters,
            &format!("{place}.parameters"),
            |name, value, place| {
                /// How many classes may be asked for.
                const COUNT: &str = "a whole number, 1 or more";
                match name {
                    "binary_data" => binary = Some(json::value(value, place, TRUTH)?),
                    "classification" => match json::value(value, place, COUNT)? {
                        0 => return Err(json::unexpected(value, place, COUNT)),
                        count => classes = Some(count),
                    },
                    _ => json::unwanted(value, place)?,
                }
                Ok(())
            },
        )?;
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
    text: &'a [u8],
    place: &str,
    read: impl Fn(&'a [u8], &str) -> Result<T, BadRequest>,
) -> Result<Vec<T>, BadRequest> {
    let items = json::items(text).ok_or_else(|| json::unexpected(text, place, "an array"))?;
    items
        .enumerate()
        .map(|(index, item)| {
            let item = item.map_err(|malformed| malformed.within(place))?;
            read(item, &format!("{place}[{index}]"))
        })
        .collect()
}

/// Goes through the fields of an object, each with its name, its value and its place.
fn each_field<'a>(
    text: &'a [u8],
    place: &str,
    mut each: impl FnMut(&str, &'a [u8], &str) -> Result<(), BadRequest>,
) -> Result<(), BadRequest> {
    let fields = json::fields(text).ok_or_else(|| json::unexpected(text, place, OBJECT))?;
    for field in fields {
        let (name, value) = field.map_err(|malformed| malformed.within(place))?;
        each(&name, value, &format!("{place}.{name}"))?;
    }
    Ok(())
}

/// Goes through parameters, if there are any.
fn each_parameter(
    text: Option<&[u8]>,
    place: &str,
    each: impl FnMut(&str, &[u8], &str) -> Result<(), BadRequest>,
) -> Result<(), BadRequest> {
    match text {
        None | Some(b"null") => Ok(()),
        Some(text) => each_field(text, place, each),
    }
}
