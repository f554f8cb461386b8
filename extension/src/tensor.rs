//! Tensors, sequences and maps, without ONNX Runtime and without HTTP.
//!
//! The protocol decodes requests into these types, and the engine runs on them. Elements are in typed [buffers](Buffer)
//! in row-major order, which keep them where they were received or computed, so that they are not copied.

mod buffer;
mod detached;
mod dimensions;
mod maps;
mod rows;
mod signature;
#[cfg(test)]
pub(crate) mod strategies;
mod strings;

use std::fmt;
use std::ops::Range;

pub use buffer::{Buffer, Flat, Plain};
pub use dimensions::{SharedDimensions, SizeMismatch};
use half::{bf16, f16};
pub use maps::Maps;
pub use rows::common_rows;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
pub use signature::{Incompatible, Port, Side, Signature};
pub use strings::Strings;

use crate::excerpt::Dimensions;

/// Defines [`Datatype`] and [`Data`] from one table: variant, element type, storage of elements, name in the protocol.
macro_rules! datatypes {
    ($($variant:ident $element:ty, $elements:ty, $name:literal;)*) => {
        /// An element type, named as in the Open Inference Protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Datatype { $(#[doc = $name] $variant,)* }

        impl Datatype {
            /// All datatypes, in the order of the protocol's table.
            pub const ALL: &[Datatype] = &[$(Datatype::$variant,)*];

            /// Returns the protocol's name, such as `FP32`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Datatype::$variant => $name,)* }
            }
        }

        /// The elements of a tensor, in row-major order.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Data { $(#[doc = $name] $variant($elements),)* }

        impl Data {
            /// Returns the element type.
            #[must_use]
            pub fn datatype(&self) -> Datatype {
                match self { $(Data::$variant(_) => Datatype::$variant,)* }
            }

            /// Returns the number of elements.
            #[must_use]
            pub fn len(&self) -> usize {
                match self { $(Data::$variant(elements) => elements.len(),)* }
            }

            /// Returns the addresses of the elements.
            #[must_use]
            pub fn addresses(&self) -> Range<usize> {
                match self {
                    $(Data::$variant(elements) => {
                        let range = elements.as_ptr_range();
                        range.start.addr()..range.end.addr()
                    })*
                }
            }

            /// Returns `true` if there are no elements.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }
        }

        $(impl From<Vec<$element>> for Data {
            fn from(elements: Vec<$element>) -> Self {
                Data::$variant(elements.into())
            }
        })*
    };
}

datatypes! {
    Bool bool, Buffer<bool>, "BOOL";
    Uint8 u8, Buffer<u8>, "UINT8";
    Uint16 u16, Buffer<u16>, "UINT16";
    Uint32 u32, Buffer<u32>, "UINT32";
    Uint64 u64, Buffer<u64>, "UINT64";
    Int8 i8, Buffer<i8>, "INT8";
    Int16 i16, Buffer<i16>, "INT16";
    Int32 i32, Buffer<i32>, "INT32";
    Int64 i64, Buffer<i64>, "INT64";
    Fp16 f16, Buffer<f16>, "FP16";
    Bf16 bf16, Buffer<bf16>, "BF16";
    Fp32 f32, Buffer<f32>, "FP32";
    Fp64 f64, Buffer<f64>, "FP64";
    Bytes String, Strings, "BYTES";
}

impl Datatype {
    /// Returns the size of an element in bytes; `None` for strings, whose lengths vary.
    #[must_use]
    pub fn size(self) -> Option<usize> {
        match self {
            Datatype::Bytes => None,
            Datatype::Bool | Datatype::Uint8 | Datatype::Int8 => Some(1),
            Datatype::Uint16 | Datatype::Int16 | Datatype::Fp16 | Datatype::Bf16 => Some(2),
            Datatype::Uint32 | Datatype::Int32 | Datatype::Fp32 => Some(4),
            Datatype::Uint64 | Datatype::Int64 | Datatype::Fp64 => Some(8),
        }
    }

    /// Returns the minimum memory of an element in bytes, here or in ONNX Runtime.
    #[must_use]
    pub fn memory(self) -> usize {
        // The size of ONNX Runtime's string object.
        self.size().unwrap_or(32)
    }
}

impl Data {
    /// Returns the memory of the elements in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        match self {
            Data::Bytes(strings) => strings.text().len() + strings.len() * Strings::OVERHEAD,
            data => data.len() * data.datatype().memory(),
        }
    }
}

impl From<Strings> for Data {
    fn from(strings: Strings) -> Self {
        Data::Bytes(strings)
    }
}

impl Datatype {
    /// Returns the datatype with this name in upper case, as in the protocol.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|datatype| datatype.name() == name)
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Datatype {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Datatype {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::from_name(&name).ok_or_else(|| D::Error::custom(format!("unknown datatype {name:?}")))
    }
}

/// A tensor. Invariant: `data` has exactly as many elements as `shape` gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

/// A shape that does not match the number of elements.
#[derive(Debug, thiserror::Error)]
#[error("shape {:?} holds {expected} elements, the data has {given}", Dimensions(.shape))]
pub struct ShapeMismatch {
    shape: Vec<usize>,
    expected: String,
    given: usize,
}

impl Tensor {
    /// Creates a tensor. An empty shape is a scalar, of one element.
    pub fn new(shape: Vec<usize>, data: impl Into<Data>) -> Result<Self, ShapeMismatch> {
        let data = data.into();
        match element_count(&shape) {
            Some(count) if count == data.len() => Ok(Self { shape, data }),
            count => Err(ShapeMismatch {
                shape,
                expected: count
                    .map_or_else(|| "more than 2^64".to_owned(), |count| count.to_string()),
                given: data.len(),
            }),
        }
    }

    /// Returns the length of each dimension.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns the elements in row-major order.
    #[must_use]
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Returns the element type.
    #[must_use]
    pub fn datatype(&self) -> Datatype {
        self.data.datatype()
    }

    /// Returns shape and elements.
    #[must_use]
    pub fn into_parts(self) -> (Vec<usize>, Data) {
        (self.shape, self.data)
    }
}

/// Returns the number of elements in a tensor of this shape; `None` on overflow.
#[must_use]
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |count, &dim| count.checked_mul(dim))
}

/// An input or output value of a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A tensor.
    Tensor(Tensor),
    /// A sequence of values of one kind.
    Sequence(Vec<Value>),
    /// A map: keys (integers or strings) and as many values.
    Map {
        /// The keys.
        keys: Data,
        /// The value of each key.
        values: Data,
    },
    /// A sequence of maps that all have the same keys.
    Maps(Maps),
}

impl Value {
    /// Returns the memory of the value in bytes, without parts that do not depend on the number of elements.
    #[must_use]
    pub fn memory(&self) -> usize {
        match self {
            Value::Tensor(tensor) => tensor.data().memory(),
            Value::Sequence(values) => {
                let items: usize = values.iter().map(Value::memory).sum();
                items + size_of_val(&values[..])
            }
            Value::Map { keys, values } => keys.memory() + values.memory(),
            Value::Maps(maps) => maps.values().data().memory(),
        }
    }

    /// Returns the number of elements of a tensor, items of a sequence, or entries of a map.
    #[must_use]
    pub fn length(&self) -> usize {
        match self {
            Value::Tensor(tensor) => tensor.data().len(),
            Value::Sequence(values) => values.len(),
            Value::Map { keys, .. } => keys.len(),
            Value::Maps(maps) => maps.count(),
        }
    }
}

/// Kind of an input or output value of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A tensor.
    Tensor {
        /// Element type.
        datatype: Datatype,
        /// Length of each dimension; `None` for a free dimension.
        shape: Vec<Option<usize>>,
    },
    /// A sequence of one kind.
    Sequence(Box<Kind>),
    /// A map.
    Map {
        /// Type of the keys.
        key: Datatype,
        /// Type of the values.
        value: Datatype,
    },
    /// A value that may be absent.
    Optional(Box<Kind>),
    /// An unsupported kind, by ONNX Runtime's name (complex numbers, 8- and 4-bit floats). In a
    /// [published](Signature::published) signature, any kind that is not a tensor.
    Other(String),
}

impl Kind {
    /// Returns the element type of a sequence of tensors or of an optional one.
    #[must_use]
    pub fn sequence_datatype(&self) -> Option<Datatype> {
        match self {
            Kind::Optional(inner) => inner.sequence_datatype(),
            Kind::Sequence(inner) => match **inner {
                Kind::Tensor { datatype, .. } => Some(datatype),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the datatype and the shape of this kind in the protocol's metadata. A sequence of maps is published as a
    /// tensor; other kinds that are not tensors have a name and a shape from [`NON_TENSORS`].
    #[must_use]
    pub fn outline(&self) -> (&'static str, Vec<Option<usize>>) {
        match self {
            Kind::Tensor { datatype, shape } => (datatype.name(), shape.clone()),
            kind if kind.is_sequence_of_maps() => (Datatype::Fp32.name(), vec![None, None]),
            Kind::Sequence(_) => NON_TENSORS[0].outline(),
            Kind::Map { .. } => NON_TENSORS[1].outline(),
            Kind::Optional(_) => NON_TENSORS[2].outline(),
            Kind::Other(other) => {
                let known = NON_TENSORS.iter().find(|known| known.name == other);
                known.unwrap_or(&NON_TENSORS[3]).outline()
            }
        }
    }

    /// Returns this kind as the metadata shows it: a tensor, or [`Kind::Other`] with the name of the kind in the
    /// metadata.
    #[must_use]
    pub fn published(&self) -> Kind {
        let (name, shape) = self.outline();
        match Datatype::from_name(name) {
            Some(datatype) => Kind::Tensor { datatype, shape },
            None => Kind::Other(name.to_owned()),
        }
    }

    /// Returns `true` for a sequence of maps, the form of scikit-learn's probabilities (`ZipMap`).
    #[must_use]
    pub fn is_sequence_of_maps(&self) -> bool {
        matches!(self, Kind::Sequence(inner) if matches!(**inner, Kind::Map { .. }))
    }
}

/// Representation of a kind that is not a tensor in the metadata.
#[derive(Clone, Copy, Debug)]
pub struct NonTensor {
    /// Name, in place of a datatype.
    pub name: &'static str,
    /// Shape.
    pub shape: &'static [Option<usize>],
}

impl NonTensor {
    fn outline(self) -> (&'static str, Vec<Option<usize>>) {
        (self.name, self.shape.to_vec())
    }
}

/// Sequences, maps, optional values, and all other kinds, in this order.
pub const NON_TENSORS: [NonTensor; 4] = [
    NonTensor {
        name: "SEQUENCE",
        shape: &[None],
    },
    NonTensor {
        name: "MAP",
        shape: &[None],
    },
    NonTensor {
        name: "OPTIONAL",
        shape: &[],
    },
    NonTensor {
        name: "OTHER",
        shape: &[],
    },
];

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Tensor { datatype, shape } => {
                let dims: Vec<String> = shape
                    .iter()
                    .map(|dim| dim.map_or_else(|| "-1".to_owned(), |n| n.to_string()))
                    .collect();
                write!(f, "{datatype} [{}]", dims.join(", "))
            }
            Kind::Sequence(inner) => write!(f, "sequence of {inner}"),
            Kind::Map { key, value } => write!(f, "map from {key} to {value}"),
            Kind::Optional(inner) => write!(f, "optional {inner}"),
            Kind::Other(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_of_a_tensor_must_match_its_elements() {
        assert!(Tensor::new(vec![2, 2], vec![1.0_f32; 4]).is_ok());
        assert!(
            Tensor::new(vec![], vec![true]).is_ok(),
            "a scalar has one element"
        );
        assert!(
            Tensor::new(vec![0, 3], Vec::<i64>::new()).is_ok(),
            "an empty tensor has none"
        );
        let error = Tensor::new(vec![2, 3], vec![1_u8; 5]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "shape [2, 3] holds 6 elements, the data has 5"
        );
        assert!(
            Tensor::new(vec![usize::MAX, 2], vec![1_u8]).is_err(),
            "an overflow is not a match"
        );
    }

    #[test]
    fn datatypes_are_found_by_name() {
        for &datatype in Datatype::ALL {
            assert_eq!(Datatype::from_name(datatype.name()), Some(datatype));
        }
        assert_eq!(Datatype::from_name("fp32"), None);
    }
}
