//! A large weight: an initializer, and the input that replaces it in a skeleton.
//!
//! The field numbers are those of `onnx.proto`.

use super::ParseError;
use super::encode::{element_type, field, number};
use super::wire::{Field, MAX_DEPTH, Span, WireReader, enumeration};
use crate::tensor::Datatype;

/// Maximum length of a weight's name, in bytes.
pub(super) const MAX_NAME: usize = 256;

/// Maximum number of dimensions of a weight.
const MAX_DIMENSIONS: usize = 16;

/// A weight in the model's file.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// Name: not empty, without NUL.
    pub name: String,
    /// Element type: a floating-point number, or an integer of one byte.
    pub datatype: Datatype,
    /// Shape, without negative dimensions.
    pub shape: Vec<i64>,
    /// Position of the elements in the file, little-endian and in row-major order, exactly as many as the shape gives.
    pub bytes: Span,
    /// Form of the elements in the file.
    pub encoding: Encoding,
}

/// Form in which a weight's elements are stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Encoding {
    /// The weight's own datatype.
    Plain,
    /// FP16 numbers of an FP32 weight.
    Fp16,
    /// 8-bit integers of an FP32 weight: each element is an integer times the scale of its channel.
    Int8 {
        /// Scale of each channel, at least one: finite and above zero.
        scales: Vec<f32>,
        /// Number of consecutive elements of one channel, at least one.
        run: usize,
    },
}

/// Reads an initializer; `None` if it holds anything other than a name, a shape and the elements as bytes.
pub(super) fn read(
    reader: &mut WireReader<'_>,
    mut tensor: Span,
) -> Result<Option<Weight>, ParseError> {
    let (mut name, mut datatype, mut bytes) = (None, None, None);
    let mut shape = Vec::new();
    while let Some(field) = reader.field(&mut tensor, MAX_DEPTH)? {
        let is_new = match field {
            Field::Number(1, dimension) if shape.len() < MAX_DIMENSIONS => {
                shape.push(dimension);
                true
            }
            Field::Number(2, number) => datatype.replace(enumeration(number)).is_none(),
            Field::Bytes(8, text) => name.replace(text).is_none(),
            Field::Bytes(9, data) => bytes.replace(data).is_none(),
            // A comment, and a data location inside the model.
            Field::Bytes(12, _) => true,
            Field::Number(14, location) => enumeration(location) == 0,
            _ => false,
        };
        if !is_new {
            return Ok(None);
        }
    }
    let (Some(name), Some((datatype, size)), Some(bytes)) =
        (name, datatype.and_then(element_type_of), bytes)
    else {
        return Ok(None);
    };
    let name = reader.bytes(&name, MAX_NAME + 1)?;
    let Some(name) = name_of(name) else {
        return Ok(None);
    };
    let shape: Option<Vec<i64>> = shape.into_iter().map(|size| size.try_into().ok()).collect();
    let weight = shape.map(|shape| Weight {
        name,
        datatype,
        shape,
        bytes,
        encoding: Encoding::Plain,
    });
    Ok(weight.filter(|weight| weight.is_whole(size)))
}

impl Weight {
    /// Returns `true` if there are as many bytes as elements of `size` bytes need.
    fn is_whole(&self, size: u64) -> bool {
        let mut dimensions = self.shape.iter().map(|dimension| dimension.unsigned_abs());
        let needed = dimensions.try_fold(size, u64::checked_mul);
        needed == Some(self.bytes.end - self.bytes.start)
    }

    /// Encodes the graph's field that declares an input of this name, type and shape.
    pub(super) fn as_input(&self) -> Vec<u8> {
        let dimensions = self.shape.iter();
        let dimensions =
            dimensions.flat_map(|dimension| field(1, &number(1, dimension.unsigned_abs())));
        let mut tensor = number(1, element_type(self.datatype));
        tensor.extend(field(2, &dimensions.collect::<Vec<u8>>()));
        let kind = field(2, &field(1, &tensor));
        field(11, &[field(1, self.name.as_bytes()), kind].concat())
    }
}

/// Element types of weights, with the size of an element in bytes.
const TYPES: [(Datatype, u64); 6] = [
    (Datatype::Fp32, 4),
    (Datatype::Uint8, 1),
    (Datatype::Int8, 1),
    (Datatype::Fp16, 2),
    (Datatype::Fp64, 8),
    (Datatype::Bf16, 2),
];

fn element_type_of(number: i32) -> Option<(Datatype, u64)> {
    let number = u64::try_from(number).ok()?;
    let mut types = TYPES.into_iter();
    types.find(|(datatype, _)| element_type(*datatype) == number)
}

fn name_of(name: &[u8]) -> Option<String> {
    let fits = (1..=MAX_NAME).contains(&name.len()) && !name.contains(&0);
    let name = std::str::from_utf8(name).ok().filter(|_| fits)?;
    Some(name.to_owned())
}
