//! Triton's binary tensor data extension: elements as bytes, after the JSON or in its place.
//!
//! Specification: <https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md>.
//! Elements are little-endian, in row-major order, without padding; four bytes with its length precede each BYTES
//! element. Aligned elements are used in place.

use std::fmt::Display;
use std::str::Utf8Error;

use bytes::Bytes;

use super::HEADER_LENGTH;
use crate::excerpt::Dimensions;
use crate::protocol::array::memory_of_text;
use crate::protocol::{BadRequest, Decoded, Result, charge_empty, malformed, names};
use crate::request_memory::Charge;
use crate::tensor::{
    Buffer, Data, Datatype, Kind, Port, Signature, Strings, Tensor, Value, element_count,
};

/// Size of the length before each BYTES element.
const LENGTH_BYTES: usize = 4;
/// Number of strings between two checks for cancellation.
const CHECK_INTERVAL: usize = 16 * 1024;

/// Calls `$with!(variant)` for every datatype for which any bytes are valid.
macro_rules! for_each_plain {
    ($with:ident) => {
        $with! { Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Fp16 Bf16 Fp32 Fp64 }
    };
}

/// The binary part of a request's body, from which inputs take their elements in order.
pub(super) struct BinaryPart {
    bytes: Bytes,
    taken: usize,
}

impl BinaryPart {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, taken: 0 }
    }

    /// Takes the next `size` bytes, for the tensor at `path`.
    fn take(&mut self, size: usize, path: &dyn Display) -> Result<Bytes, BadRequest> {
        let left = self.bytes.len() - self.taken;
        if size > left {
            return Err(BadRequest(format!(
                "{path}.parameters.binary_data_size is {size}, but the body has {left} bytes left"
            )));
        }
        let start = self.taken;
        self.taken += size;
        Ok(self.bytes.slice(start..self.taken))
    }

    /// Reads the next tensor, at `path`, of `size` bytes.
    pub(super) fn tensor(
        &mut self,
        size: usize,
        datatype: Datatype,
        shape: &[usize],
        path: &dyn Display,
        charge: &mut Charge,
    ) -> Result<Tensor> {
        let bytes = self.take(size, path)?;
        let elements = elements(bytes, datatype, shape, path, charge)?;
        let tensor = Tensor::new(shape.to_vec(), elements);
        tensor.map_err(|mismatch| BadRequest(format!("{path}: {mismatch}")).into())
    }

    /// Checks that all bytes were taken.
    pub(super) fn end(&self) -> Result<(), BadRequest> {
        match self.bytes.len() - self.taken {
            0 => Ok(()),
            left => Err(BadRequest(format!(
                "the body has {left} bytes more than the JSON and the binary_data_size of all inputs"
            ))),
        }
    }
}

fn elements(
    bytes: Bytes,
    datatype: Datatype,
    shape: &[usize],
    path: &dyn Display,
    charge: &mut Charge,
) -> Result<Data> {
    charge_empty(shape, datatype, charge)?;
    let Some(size) = datatype.size() else {
        return strings(&bytes, element_count(shape), path, charge).map(Data::Bytes);
    };
    let expected = element_count(shape).and_then(|count| count.checked_mul(size));
    if expected != Some(bytes.len()) {
        let expected =
            expected.map_or_else(|| "more than 2^64".to_owned(), |bytes| bytes.to_string());
        return Err(BadRequest(format!(
            "{path} has {} bytes, but shape {:?} of {datatype} takes {expected}",
            bytes.len(),
            Dimensions(shape)
        ))
        .into());
    }
    let is_copied = datatype == Datatype::Bool || !bytes.as_ptr().addr().is_multiple_of(size);
    if is_copied {
        charge.grow(bytes.len())?;
    }
    macro_rules! table {
        ($($plain:ident)*) => {
            match datatype {
                $(Datatype::$plain => Ok(Data::$plain(Buffer::of_bytes(bytes))),)*
                Datatype::Bool => Ok(booleans(&bytes, path)?.into()),
                // Handled above.
                Datatype::Bytes => Ok(Data::Bytes(Strings::default())),
            }
        };
    }
    for_each_plain!(table)
}

fn booleans(bytes: &[u8], path: &dyn Display) -> Result<Vec<bool>, BadRequest> {
    let boolean = |(index, byte): (usize, &u8)| match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(BadRequest(format!(
            "{path}: element {index} is the byte {other}, expected 0 or 1 for BOOL"
        ))),
    };
    bytes.iter().enumerate().map(boolean).collect()
}

/// Reads all of `bytes` as `count` strings.
fn strings(
    bytes: &[u8],
    count: Option<usize>,
    path: &dyn Display,
    charge: &mut Charge,
) -> Result<Strings> {
    let count = count.unwrap_or(usize::MAX);
    let most = count.min(bytes.len() / LENGTH_BYTES);
    // All bytes except the lengths are text.
    let whole = bytes.len() - most * LENGTH_BYTES;
    charge.grow((most * Strings::OVERHEAD).saturating_add(whole))?;
    let mut strings = Strings::with_capacity(most, whole);
    let mut left = bytes;
    while strings.len() < count {
        let index = strings.len();
        if index.is_multiple_of(CHECK_INTERVAL) {
            charge.check()?;
        }
        let Some((length, rest)) = left.split_first_chunk::<LENGTH_BYTES>() else {
            return Err(BadRequest(format!(
                "{path}: {} bytes are left for element {index} of {count}, expected {LENGTH_BYTES} with its length",
                left.len()
            ))
            .into());
        };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((content, rest)) = rest.split_at_checked(length) else {
            return Err(BadRequest(format!(
                "{path}: element {index} has {length} bytes by its length, but {} are left",
                rest.len()
            ))
            .into());
        };
        let text = str::from_utf8(content);
        let text = text.map_err(|error| not_utf8(error, &format!("{path}: element {index}")))?;
        strings.push(text);
        left = rest;
    }
    if left.is_empty() {
        charge.grow(memory_of_text(&strings))?;
        return Ok(strings);
    }
    Err(BadRequest(format!(
        "{path}: {} bytes are left after the {count} elements of its shape",
        left.len()
    ))
    .into())
}

fn not_utf8(error: Utf8Error, path: &dyn Display) -> BadRequest {
    BadRequest(format!(
        "{path} is not UTF-8 from byte {} on",
        error.valid_up_to()
    ))
}

/// Converts elements to bytes, without a copy where possible.
pub(super) fn bytes(data: Data) -> Bytes {
    macro_rules! table {
        ($($plain:ident)*) => {
            match data {
                $(Data::$plain(elements) => elements.into_bytes(),)*
                Data::Bool(elements) => elements.into_bytes(),
                Data::Bytes(strings) => {
                    let total = strings.len() * LENGTH_BYTES + strings.text().len();
                    let mut out = Vec::with_capacity(total);
                    for string in strings.iter() {
                        // The memory of a function does not allow a string of more than 4 GB.
                        let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
                        out.extend_from_slice(&length.to_le_bytes());
                        out.extend_from_slice(string.as_bytes());
                    }
                    out.into()
                }
            }
        };
    }
    for_each_plain!(table)
}

/// Decodes a body without JSON: the elements of the single required input.
pub(super) fn raw(body: Bytes, signature: &Signature, charge: &mut Charge) -> Result<Decoded> {
    let mut required = signature.required();
    let (Some(port), None) = (required.next(), required.next()) else {
        return Err(BadRequest(format!(
            "a body without JSON requires a model with one input, but this model's inputs are {}",
            names(&signature.inputs)
        ))
        .into());
    };
    let Kind::Tensor { datatype, shape } = &port.kind else {
        return Err(BadRequest(format!(
            "a body without JSON is a tensor, but input {:?} takes a {}",
            port.name, port.kind
        ))
        .into());
    };
    if body.is_empty() {
        return Err(BadRequest(format!(
            "the body is empty, but header {HEADER_LENGTH} is 0: expected the elements of input {:?}",
            port.name
        ))
        .into());
    }
    // The header of a file would be read as elements if its length fits.
    if let Some(format) = malformed::in_place_of_elements(&body, datatype.size()) {
        return Err(BadRequest(format!(
            "the body must contain only the elements of input {:?} ({}), found {format}",
            port.name, port.kind
        ))
        .into());
    }
    let tensor = match datatype.size() {
        Some(size) => {
            let shape = raw_shape(port, shape, size, body.len())?;
            let data = elements(body, *datatype, &shape, &"the body", charge)?;
            Tensor::new(shape, data)
        }
        None => {
            if let Some(length) = shape.iter().flatten().find(|length| **length != 1) {
                return Err(BadRequest(format!(
                    "a body without JSON is a single string, but input {:?} takes {}, with a dimension of length {length}",
                    port.name, port.kind
                )).into());
            }
            let text = str::from_utf8(&body).map_err(|error| not_utf8(error, &"the body"))?;
            // The string, and ONNX Runtime's copy.
            charge.grow(text.len().saturating_mul(2))?;
            Tensor::new(vec![1; shape.len()], Strings::from_iter([text]))
        }
    };
    let tensor = tensor.map_err(|mismatch| BadRequest(format!("the body: {mismatch}")))?;
    Ok(Decoded {
        inputs: vec![(port.name.clone(), Value::Tensor(tensor))],
        outputs: Vec::new(),
    })
}

/// Returns the shape of `bytes` bytes of elements. One free dimension follows from the number of bytes; if there is
/// another free dimension before it, which counts rows, there is one row.
fn raw_shape(
    port: &Port,
    declared: &[Option<usize>],
    size: usize,
    bytes: usize,
) -> Result<Vec<usize>, BadRequest> {
    let mut shape = declared.to_vec();
    let free = |shape: &[Option<usize>]| shape.iter().filter(|length| length.is_none()).count();
    if let (2, Some(rows @ None)) = (free(&shape), shape.first_mut()) {
        *rows = Some(1);
    }
    if free(&shape) > 1 {
        return Err(BadRequest(format!(
            "cannot derive the shape of a body without JSON: input {:?} takes {}, with more than one free dimension",
            port.name, port.kind
        )));
    }
    let fixed: Vec<usize> = shape.iter().copied().flatten().collect();
    let unit = element_count(&fixed).and_then(|count| count.checked_mul(size));
    let found = unit.and_then(|unit| bytes.checked_div(unit)).unwrap_or(0);
    let fits = unit.and_then(|unit| unit.checked_mul(found)) == Some(bytes);
    if !fits || (free(&shape) == 0 && bytes != unit.unwrap_or(0)) {
        let multiple = if free(&shape) == 0 {
            ""
        } else {
            "a multiple of "
        };
        let unit = unit.map_or_else(|| "2^64".to_owned(), |unit| unit.to_string());
        return Err(BadRequest(format!(
            "the body has {bytes} bytes, but input {:?} takes {}, which is {multiple}{unit} bytes",
            port.name, port.kind
        )));
    }
    Ok(shape
        .into_iter()
        .map(|length| length.unwrap_or(found))
        .collect())
}
