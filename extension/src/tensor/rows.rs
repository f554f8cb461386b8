//! Splitting and joining of tensors along the first dimension, whose length is the number of rows.

use std::ops::Range;

use super::{Data, Strings, Tensor, Value};

/// Calls `$with!(variant …)` with every variant of [`Data`] except strings.
macro_rules! for_each_primitive {
    ($with:ident) => {
        $with!(
            Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Fp16 Bf16 Fp32 Fp64
        )
    };
}

/// Returns the number of rows that all values have in common, if it is the same. The rows of a sequence are its values.
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
    /// Returns a copy of these rows; `None` if the tensor does not have them.
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
                    Data::Bytes(all) => Data::from(all.part(elements)),
                }
            };
        }
        let shape = std::iter::once(rows.len()).chain(inner.iter().copied());
        Tensor::new(shape.collect(), for_each_primitive!(part)).ok()
    }

    /// Reserves memory for `rows` more rows of the average size of the existing rows.
    pub fn reserve_rows(&mut self, rows: usize) {
        let have = self.shape.first().copied().unwrap_or_default();
        let more = |count: usize| count.checked_div(have).unwrap_or(0) * rows;
        macro_rules! reserve {
            ($($variant:ident)*) => {
                match &mut self.data {
                    $(Data::$variant(all) => all.reserve_exact(more(all.len())),)*
                    Data::Bytes(all) => {
                        let (strings, text) = (more(all.len()), all.text().len() * rows);
                        all.reserve_exact(strings, text.checked_div(have).unwrap_or(0));
                    }
                }
            };
        }
        for_each_primitive!(reserve);
    }

    /// Appends the rows of `other`. Returns `false` and changes nothing if the two differ in more than the number of
    /// rows.
    #[must_use]
    pub fn append(&mut self, other: &Tensor) -> bool {
        let (Some((rows, inner)), Some((&more, other_inner))) =
            (self.shape.split_first_mut(), other.shape.split_first())
        else {
            return false;
        };
        if inner != other_inner {
            return false;
        }
        macro_rules! append {
            ($($variant:ident)*) => {
                match (&mut self.data, &other.data) {
                    $((Data::$variant(all), Data::$variant(more)) => all.extend_from_slice(more),)*
                    (Data::Bytes(all), Data::Bytes(more)) => all.extend_from(more),
                    _ => return false,
                }
            };
        }
        for_each_primitive!(append);
        *rows += more;
        true
    }

    /// Joins the rows of these tensors in order; `None` if they differ in more than the number of rows.
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
                    Data::Bytes(_) => {
                        let mut all = Strings::default();
                        for part in parts {
                            let Data::Bytes(strings) = part.data() else { return None };
                            all.extend_from(strings);
                        }
                        Data::from(all)
                    }
                }
            };
        }
        Tensor::new(shape, for_each_primitive!(joined)).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::{Datatype, strategies};

    proptest! {
        /// Split parts join to the whole, for every datatype and shape.
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
            let mut appended = first;
            if cut > 0 {
                appended.reserve_rows(rows - cut);
            }
            prop_assert!(appended.append(&second));
            prop_assert_eq!(&appended, &whole);
            prop_assert_eq!(whole.rows(0..rows + 1), None);
        }
    }

    #[test]
    fn tensors_that_differ_in_more_than_rows_are_not_joined() {
        let tensor = |shape: &[usize]| {
            let count = shape.iter().product();
            Tensor::new(shape.to_vec(), vec![0_u8; count]).unwrap()
        };
        assert_eq!(Tensor::joined(&[&tensor(&[1, 2]), &tensor(&[1, 3])]), None);
        let other = Tensor::new(vec![1, 2], vec![0_i8; 2]).unwrap();
        assert_eq!(Tensor::joined(&[&tensor(&[1, 2]), &other]), None);
        for (mut one, other) in [
            (tensor(&[1, 2]), tensor(&[1, 3])),
            (tensor(&[1, 2]), other),
            (tensor(&[]), tensor(&[])),
        ] {
            let before = one.clone();
            assert!(!one.append(&other));
            assert_eq!(one, before);
        }
        assert_eq!(Tensor::joined(&[&tensor(&[])]), None);
        assert_eq!(tensor(&[]).rows(0..1), None);
    }
}
