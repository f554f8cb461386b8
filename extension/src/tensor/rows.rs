//! Rows: what the length of the first dimension counts, along which tensors are taken apart and put together.

use std::ops::Range;

use super::{Data, Tensor, Value};

/// Calls `$with!(variant …)` with every variant of [`Data`].
macro_rules! for_each_datatype {
    ($with:ident) => {
        $with!(
            Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Fp16 Bf16 Fp32 Fp64 Bytes
        )
    };
}

/// How many rows all of these values have, if it is the same number; of a sequence each value is one.
pub fn common_rows<'a>(values: impl IntoIterator<Item = &'a Value>) -> Option<usize> {
    let rows = |value: &Value| match value {
        Value::Tensor(tensor) => tensor.shape().first().copied(),
        Value::Sequence(values) => Some(values.len()),
        Value::Maps(maps) => Some(maps.count()),
        Value::Map { .. } => None,
    };
    let mut values = values.into_iter();
    let common = rows(values.next()?)?;
    values
        .all(|value| rows(value) == Some(common))
        .then_some(common)
}

impl Tensor {
    /// A copy of these rows; `None` where the tensor does not have them.
    #[must_use]
    pub fn rows(&self, rows: Range<usize>) -> Option<Tensor> {
        let (&all, inner) = self.shape().split_first()?;
        if rows.start > rows.end || rows.end > all {
            return None;
        }
        let width = self.data().len().checked_div(all)?;
        let elements = rows.start * width..rows.end * width;
        macro_rules! part {
            ($($variant:ident)*) => {
                match self.data() {
                    $(Data::$variant(all) => Data::from(all[elements].to_vec()),)*
                }
            };
        }
        let shape = std::iter::once(rows.len()).chain(inner.iter().copied());
        Tensor::new(shape.collect(), for_each_datatype!(part)).ok()
    }

    /// The rows of all of these, in their order; `None` unless they differ in the number of rows alone.
    #[must_use]
    pub fn joined(parts: &[&Tensor]) -> Option<Tensor> {
        let (first, others) = parts.split_first()?;
        let (&rows, inner) = first.shape().split_first()?;
        let mut shape = vec![rows];
        shape.extend_from_slice(inner);
        for other in others {
            let (&more, other_inner) = other.shape().split_first()?;
            if other_inner != inner {
                return None;
            }
            shape[0] += more;
        }
        let length = parts.iter().map(|part| part.data().len()).sum();
        macro_rules! joined {
            ($($variant:ident)*) => {
                match first.data() {
                    $(Data::$variant(_) => {
                        let mut all = Vec::with_capacity(length);
                        for part in parts {
                            let Data::$variant(elements) = part.data() else { return None };
                            all.extend_from_slice(elements);
                        }
                        Data::from(all)
                    })*
                }
            };
        }
        Tensor::new(shape, for_each_datatype!(joined)).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::{Datatype, strategies};

    proptest! {
        /// What is taken apart anywhere is put together as it was, for every datatype and shape.
        #[test]
        fn parts_make_the_whole(
            (shape, cut, data) in (prop::collection::vec(1_usize..4, 1..4), 0..Datatype::ALL.len())
                .prop_flat_map(|(shape, which)| {
                    let count = shape.iter().product();
                    let data = strategies::data(Datatype::ALL[which], count, false);
                    (Just(shape.clone()), 0..=shape[0], data)
                }),
        ) {
            let rows = shape[0];
            let whole = Tensor::new(shape, data).unwrap();
            let (first, second) = (whole.rows(0..cut).unwrap(), whole.rows(cut..rows).unwrap());
            prop_assert_eq!(first.shape()[0], cut);
            prop_assert_eq!(Tensor::joined(&[&first, &second]), Some(whole.clone()));
            prop_assert_eq!(whole.rows(0..rows + 1), None);
        }
    }

    #[test]
    fn what_differs_in_more_than_rows_is_not_joined() {
        let tensor = |shape: &[usize]| {
            let count = shape.iter().product();
            Tensor::new(shape.to_vec(), vec![0_u8; count]).unwrap()
        };
        assert_eq!(Tensor::joined(&[&tensor(&[1, 2]), &tensor(&[1, 3])]), None);
        let other = Tensor::new(vec![1, 2], vec![0_i8; 2]).unwrap();
        assert_eq!(Tensor::joined(&[&tensor(&[1, 2]), &other]), None);
        assert_eq!(Tensor::joined(&[&tensor(&[])]), None);
        assert_eq!(tensor(&[]).rows(0..1), None);
    }
}
