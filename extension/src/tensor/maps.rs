//! A sequence of maps with the same keys, as one tensor.

use std::sync::Arc;

use super::{Data, Tensor, Value};

/// A sequence of maps with the same keys, such as scikit-learn's probabilities (`ZipMap`): a tensor with a row per map
/// and a column per key.
#[derive(Clone, Debug, PartialEq)]
pub struct Maps {
    keys: Arc<Data>,
    values: Tensor,
}

impl Maps {
    /// Creates the maps from these keys to the values of each row; `None` unless the shape is `[maps, keys]`.
    #[must_use]
    pub fn new(keys: Arc<Data>, values: Tensor) -> Option<Self> {
        match *values.shape() {
            [_, columns] if columns == keys.len() => Some(Self { keys, values }),
            _ => None,
        }
    }

    /// Reserves memory for this many more maps.
    pub fn reserve_rows(&mut self, rows: usize) {
        self.values.reserve_rows(rows);
    }

    /// Appends the maps of `other`. Returns `false` and changes nothing if the keys differ.
    #[must_use]
    pub fn append(&mut self, other: &Maps) -> bool {
        self.keys == other.keys && self.values.append(&other.values)
    }

    /// Returns the keys of each map.
    #[must_use]
    pub fn keys(&self) -> &Arc<Data> {
        &self.keys
    }

    /// Returns the values, of shape `[maps, keys]`.
    #[must_use]
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// Returns the number of maps.
    #[must_use]
    pub fn count(&self) -> usize {
        self.values.shape()[0]
    }

    /// Returns keys and values.
    #[must_use]
    pub fn into_parts(self) -> (Arc<Data>, Tensor) {
        (self.keys, self.values)
    }

    /// Returns the maps as separate values.
    #[must_use]
    pub fn to_values(&self) -> Vec<Value> {
        let map = |place: usize| {
            let (_, values) = self.values.rows(place..place + 1)?.into_parts();
            Some(Value::Map {
                keys: (*self.keys).clone(),
                values,
            })
        };
        (0..self.count()).filter_map(map).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(shape: &[usize]) -> Option<Maps> {
        let keys = Arc::new(vec!["a".to_owned(), "b".to_owned()].into());
        let numbers = [0.0_f32, 1.0, 2.0, 3.0];
        let count = shape.iter().product::<usize>();
        Maps::new(
            keys,
            Tensor::new(shape.to_vec(), numbers[..count].to_vec()).unwrap(),
        )
    }

    #[test]
    fn each_row_is_a_map() {
        let map = |values: [f32; 2]| Value::Map {
            keys: vec!["a".to_owned(), "b".to_owned()].into(),
            values: values.to_vec().into(),
        };
        let two = maps(&[2, 2]).unwrap();
        assert_eq!(two.count(), 2);
        assert_eq!(two.to_values(), [map([0.0, 1.0]), map([2.0, 3.0])]);
        assert_eq!(maps(&[0, 2]).unwrap().to_values(), []);
    }

    #[test]
    fn a_tensor_needs_a_column_for_each_key() {
        for shape in [&[2][..], &[], &[4, 1], &[1, 4], &[1, 1, 2]] {
            assert_eq!(maps(shape), None, "{shape:?}");
        }
    }
}
