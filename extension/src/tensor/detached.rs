//! Copies of values that outlive their request, and sizes and fingerprints of values.

use std::hash::{Hash as _, Hasher};

use super::{Data, Tensor, Value};

/// Calls `$with!(variant …)` with every variant of [`Data`] with flat elements.
macro_rules! for_each_flat_datatype {
    ($with:ident) => {
        $with!(Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Fp16 Bf16 Fp32 Fp64)
    };
}

impl Data {
    /// Returns a copy in a vector of its own, which does not keep a request body alive.
    #[must_use]
    pub fn detached(&self) -> Data {
        macro_rules! copy {
            ($($variant:ident)*) => {
                match self {
                    $(Data::$variant(elements) => Data::from(elements.to_vec()),)*
                    Data::Bytes(texts) => Data::Bytes(texts.clone()),
                }
            };
        }
        for_each_flat_datatype!(copy)
    }

    /// Feeds datatype and elements to a hasher, bit by bit.
    fn feed(&self, hasher: &mut impl Hasher) {
        self.datatype().hash(hasher);
        macro_rules! feed {
            ($($variant:ident)*) => {
                match self {
                    $(Data::$variant(elements) => hasher.write(elements.as_ref()),)*
                    Data::Bytes(texts) => texts.hash(hasher),
                }
            };
        }
        for_each_flat_datatype!(feed);
    }
}

impl Tensor {
    /// Returns the memory of shape and elements in bytes.
    fn bytes(&self) -> usize {
        size_of_val(self.shape()) + self.data().memory()
    }

    fn feed(&self, hasher: &mut impl Hasher) {
        self.shape().hash(hasher);
        self.data().feed(hasher);
    }
}

impl Value {
    /// Returns the memory of the value in bytes, including the value itself.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let elements = match self {
            Value::Tensor(tensor) => tensor.bytes(),
            Value::Sequence(values) => values.iter().map(Value::bytes).sum(),
            Value::Map { keys, values } => keys.memory() + values.memory(),
            Value::Maps(maps) => maps.keys().memory() + maps.values().bytes(),
        };
        size_of::<Value>() + elements
    }

    /// Returns a copy in memory of its own, which does not keep a request body alive.
    #[must_use]
    pub fn detached(&self) -> Value {
        match self {
            Value::Tensor(tensor) => Value::Tensor(Tensor {
                shape: tensor.shape.clone(),
                data: tensor.data.detached(),
            }),
            Value::Sequence(values) => {
                Value::Sequence(values.iter().map(Value::detached).collect())
            }
            Value::Map { keys, values } => Value::Map {
                keys: keys.detached(),
                values: values.detached(),
            },
            // `Maps` are outputs only, never inputs.
            Value::Maps(maps) => Value::Maps(maps.clone()),
        }
    }

    /// Feeds kind, shape and elements to a hasher, bit by bit.
    pub fn feed(&self, hasher: &mut impl Hasher) {
        match self {
            Value::Tensor(tensor) => tensor.feed(hasher),
            Value::Sequence(values) => {
                hasher.write_usize(values.len());
                for value in values {
                    value.feed(hasher);
                }
            }
            Value::Map { keys, values } => {
                keys.feed(hasher);
                values.feed(hasher);
            }
            Value::Maps(maps) => {
                maps.keys().feed(hasher);
                maps.values().feed(hasher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::{Buffer, Datatype, Strings, strategies};

    fn fingerprint(value: &Value) -> u64 {
        let mut hasher = DefaultHasher::new();
        value.feed(&mut hasher);
        hasher.finish()
    }

    fn tensor(shape: &[usize], data: impl Into<Data>) -> Value {
        Value::Tensor(Tensor::new(shape.to_vec(), data).unwrap())
    }

    #[test]
    fn a_detached_copy_keeps_no_request_body_alive() {
        let body = Bytes::from(vec![7_u8; 64]);
        let value = tensor(&[64], Data::Uint8(Buffer::of_bytes(body.clone())));
        let copy = value.detached();
        drop(value);
        assert!(body.is_unique());
        assert_eq!(copy, tensor(&[64], vec![7_u8; 64]));
    }

    #[test]
    fn sizes_include_elements_texts_and_the_values_themselves() {
        let value = size_of::<Value>();
        assert_eq!(tensor(&[2, 2], vec![0_i64; 4]).bytes(), value + 16 + 32);
        let texts = vec!["a".to_owned(), "bcd".to_owned()];
        let bytes = value + 8 + 2 * Strings::OVERHEAD + 4;
        assert_eq!(tensor(&[2], texts).bytes(), bytes);
        // Many values without elements take memory as well.
        let empty = tensor(&[0], Vec::<u8>::new());
        assert_eq!(empty.bytes(), value + 8);
        let sequence = Value::Sequence(vec![empty; 1_000]);
        assert_eq!(sequence.bytes(), value + 1_000 * (value + 8));
    }

    #[test]
    fn values_that_differ_in_shape_datatype_or_bits_have_different_fingerprints() {
        let values = [
            tensor(&[2], vec![0.0_f32, 1.0]),
            tensor(&[1, 2], vec![0.0_f32, 1.0]),
            tensor(&[2], vec![-0.0_f32, 1.0]),
            tensor(&[2], vec![0_u32, 1]),
            tensor(&[2], vec!["ab".to_owned(), "c".to_owned()]),
            tensor(&[2], vec!["a".to_owned(), "bc".to_owned()]),
            Value::Sequence(vec![tensor(&[2], vec![0.0_f32, 1.0])]),
        ];
        let mut fingerprints: Vec<u64> = values.iter().map(fingerprint).collect();
        fingerprints.sort_unstable();
        fingerprints.dedup();
        assert_eq!(fingerprints.len(), values.len());
    }

    proptest! {
        #[test]
        fn a_detached_copy_is_the_same_bit_by_bit(
            data in prop::sample::select(Datatype::ALL)
                .prop_flat_map(|datatype| strategies::data(datatype, 5, true)),
        ) {
            let value = tensor(&[5], data);
            let copy = value.detached();
            prop_assert_eq!(fingerprint(&copy), fingerprint(&value));
            prop_assert_eq!(copy.bytes(), value.bytes());
        }
    }
}
