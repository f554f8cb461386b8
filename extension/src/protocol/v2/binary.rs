//! Triton's binary tensor data extension: elements as bytes, after the JSON or in its place.
//!
//! Specification:
//! <https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md>.
//! Little-endian, in row-major order, without padding; before each element of BYTES stand four bytes with its length.
//! Bytes that lie as elements must are used where they are.

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

/// How many bytes are before each element of BYTES.
const LENGTH: usize = 4;
/// Strings that are read between two looks at whether the request is cancelled.
const UNATTENDED: usize = 16 * 1024;

/// Calls `$with!(variant)` for every datatype whose elements may be any bytes.
macro_rules! for_each_plain {
    ($with:ident) => {
        $with! { Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Fp16 Bf16 Fp32 Fp64 }
    };
}

/// The body of a request behind its JSON, from which each input takes its part.
pub(super) struct Rest {
    bytes: Bytes,
    taken: usize,
}

impl Rest {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, taken: 0 }
    }

    /// The next `size` bytes, for the tensor at `place`.
    fn take(&mut self, size: usize, place: &str) -> Result<Bytes, BadRequest> {
        let left = self.bytes.len() - self.taken;
        if size > left {
            return Err(BadRequest(format!(
                "{place}.parameters.binary_data_size is {size}, but {left} bytes are left of the body"
            )));
        }
        let start = self.taken;
        self.taken += size;
        Ok(self.bytes.slice(start..self.taken))
    }

    /// The next tensor, at `place`, which has `size` bytes.
    pub(super) fn tensor(
        &mut self,
        size: usize,
        datatype: Datatype,
        shape: &[usize],
        place: &str,
        charge: &mut Charge,
    ) -> Result<Tensor> {
        let bytes = self.take(size, place)?;
        let elements = elements(bytes, datatype, shape, place, charge)?;
        let tensor = Tensor::new(shape.to_vec(), elements);
        tensor.map_err(|mismatch| BadRequest(format!("{place}: {mismatch}")).into())
    }

    /// Makes sure that nothing is left.
    pub(super) fn end(&self) -> Result<(), BadRequest> {
        match self.bytes.len() - self.taken {
            0 => Ok(()),
            left => Err(BadRequest(format!(
                "the body has {left} bytes more than the JSON and all binary_data_size of the inputs say"
            ))),
        }
    }
}

fn elements(
    bytes: Bytes,
    datatype: Datatype,
    shape: &[usize],
    place: &str,
    charge: &mut Charge,
) -> Result<Data> {
    charge_empty(shape, datatype, charge)?;
    let Some(size) = datatype.size() else {
        return strings(&bytes, element_count(shape), place, charge).map(Data::Bytes);
    };
    let expected = element_count(shape).and_then(|count| count.checked_mul(size));
    if expected != Some(bytes.len()) {
        let expected =
            expected.map_or_else(|| "more than 2^64".to_owned(), |bytes| bytes.to_string());
        return Err(BadRequest(format!(
            "{place} has {} bytes, but shape {:?} of {datatype} takes {expected}",
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
                Datatype::Bool => Ok(truths(&bytes, place)?.into()),
                // Told apart above.
                Datatype::Bytes => Ok(Data::Bytes(Strings::default())),
            }
        };
    }
    for_each_plain!(table)
}

fn truths(bytes: &[u8], place: &str) -> Result<Vec<bool>, BadRequest> {
    let truth = |(index, byte): (usize, &u8)| match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(BadRequest(format!(
            "{place}: element {index} is the byte {other}, expected 0 or 1 for BOOL"
        ))),
    };
    bytes.iter().enumerate().map(truth).collect()
}

/// `count` strings, which are all of `bytes`.
fn strings(
    bytes: &[u8],
    count: Option<usize>,
    place: &str,
    charge: &mut Charge,
) -> Result<Strings> {
    let count = count.unwrap_or(usize::MAX);
    let most = count.min(bytes.len() / LENGTH);
    // Of the bytes, all but the lengths are text.
    let whole = bytes.len() - most * LENGTH;
    charge.grow((most * Strings::OVERHEAD).saturating_add(whole))?;
    let mut strings = Strings::with_capacity(most, whole);
    let mut left = bytes;
    while strings.len() < count {
        let index = strings.len();
        if index.is_multiple_of(UNATTENDED) {
            charge.check()?;
        }
        let Some((length, rest)) = left.split_first_chunk::<LENGTH>() else {
            return Err(BadRequest(format!(
                "{place}: {} bytes are left for element {index} of {count}, expected {LENGTH} with its length",
                left.len()
            ))
            .into());
        };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((content, rest)) = rest.split_at_checked(length) else {
            return Err(BadRequest(format!(
                "{place}: element {index} has {length} bytes by its length, but {} are left",
                rest.len()
            ))
            .into());
        };
        let text = str::from_utf8(content);
        let text = text.map_err(|error| no_text(error, &format!("{place}: element {index}")))?;
        strings.push(text);
        left = rest;
    }
    if left.is_empty() {
        charge.grow(memory_of_text(&strings))?;
        return Ok(strings);
    }
    Err(BadRequest(format!(
        "{place}: {} bytes are left after the {count} elements of its shape",
        left.len()
    ))
    .into())
}

fn no_text(error: Utf8Error, place: &str) -> BadRequest {
    BadRequest(format!(
        "{place} is no UTF-8 from byte {} on",
        error.valid_up_to()
    ))
}

/// The elements as bytes, where they are.
pub(super) fn bytes(data: Data) -> Bytes {
    macro_rules! table {
        ($($plain:ident)*) => {
            match data {
                $(Data::$plain(elements) => elements.into_bytes(),)*
                Data::Bool(elements) => elements.into_bytes(),
                Data::Bytes(strings) => {
                    let total = strings.len() * LENGTH + strings.text().len();
                    let mut out = Vec::with_capacity(total);
                    for string in strings.iter() {
                        // A string of more than 4 GB does not come: the machine has no room for it.
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

/// A body without JSON: the elements of the one input that the model must be given.
pub(super) fn raw(body: Bytes, signature: &Signature, charge: &mut Charge) -> Result<Decoded> {
    let mut required = signature.required();
    let (Some(port), None) = (required.next(), required.next()) else {
        return Err(BadRequest(format!(
            "a body without JSON is for a model that takes one input; this one's are {}",
            names(&signature.inputs)
        ))
        .into());
    };
    let Kind::Tensor { datatype, shape } = &port.kind else {
        return Err(BadRequest(format!(
            "a body without JSON is a tensor, and input {:?} takes a {}",
            port.name, port.kind
        ))
        .into());
    };
    if body.is_empty() {
        return Err(BadRequest(format!(
            "there is no body, where header {HEADER_LENGTH} says that all of it is input {:?}",
            port.name
        ))
        .into());
    }
    // The header of a file would be read as elements, where its length fits.
    if let Some(format) = malformed::in_place_of_elements(&body, datatype.size()) {
        return Err(BadRequest(format!(
            "the body must be the bare elements of input {:?}, {}, and {format}: send its elements alone",
            port.name, port.kind
        ))
        .into());
    }
    let tensor = match datatype.size() {
        Some(size) => {
            let shape = raw_shape(port, shape, size, body.len())?;
            let data = elements(body, *datatype, &shape, "the body", charge)?;
            Tensor::new(shape, data)
        }
        None => {
            if let Some(length) = shape.iter().flatten().find(|length| **length != 1) {
                return Err(BadRequest(format!(
                    "a body without JSON is one element, and input {:?} takes {}, of which one length is {length}",
                    port.name, port.kind
                )).into());
            }
            let text = str::from_utf8(&body).map_err(|error| no_text(error, "the body"))?;
            // Ours, and the copy of ONNX Runtime.
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

/// The shape that so many bytes of elements have. One free length follows from them; with another one before it, which
/// counts rows, there is one row.
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
            "a body without JSON leaves one length to be found, and input {:?} takes {}",
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
            "the body has {bytes} bytes, input {:?} takes {}, which is {multiple}{unit} bytes",
            port.name, port.kind
        )));
    }
    Ok(shape
        .into_iter()
        .map(|length| length.unwrap_or(found))
        .collect())
}
