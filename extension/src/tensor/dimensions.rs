//! Named dimensions that several inputs of a model share.
//!
//! ONNX Runtime does not compare inputs: if the sizes differ, a node fails in the middle of the run, or broadcasts
//! silently.

use super::Value;

/// Named dimensions of at least two inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedDimensions(Vec<SharedDimension>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct SharedDimension {
    name: String,
    /// Each input with the dimension, and the index of the dimension in its shape.
    places: Vec<(String, usize)>,
}

/// Different sizes of a shared dimension in two inputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "inputs {first:?} and {second:?} share the dimension {dimension:?}, whose size is {} in {first:?} and {} in {second:?}: \
     send the same size in both",
    sizes.0,
    sizes.1
)]
pub struct SizeMismatch {
    dimension: String,
    first: String,
    second: String,
    sizes: (usize, usize),
}

impl SharedDimensions {
    /// No shared dimensions.
    pub const NONE: &'static Self = &Self(Vec::new());

    /// Collects the shared dimensions of these inputs. Each input comes with the names of its dimensions, empty for a
    /// dimension without a name.
    #[must_use]
    pub fn of<'a>(inputs: impl IntoIterator<Item = (&'a str, &'a [String])>) -> Self {
        let mut all: Vec<SharedDimension> = Vec::new();
        for (input, names) in inputs {
            for (axis, name) in names
                .iter()
                .enumerate()
                .filter(|(_, name)| !name.is_empty())
            {
                let place = (input.to_owned(), axis);
                match all.iter_mut().find(|dimension| dimension.name == *name) {
                    Some(dimension) => dimension.places.push(place),
                    None => all.push(SharedDimension {
                        name: name.clone(),
                        places: vec![place],
                    }),
                }
            }
        }
        all.retain(|dimension| {
            let (first, _) = &dimension.places[0];
            dimension.places.iter().any(|(input, _)| input != first)
        });
        Self(all)
    }

    /// Checks that inputs which share a dimension agree in its size.
    ///
    /// A size of 1 fits any other if `may_broadcast` is `true`. A name that one input uses for dimensions of different
    /// sizes is ignored: some exporters use one name for all free dimensions.
    pub fn check(
        &self,
        inputs: &[(String, Value)],
        may_broadcast: bool,
    ) -> Result<(), SizeMismatch> {
        self.0
            .iter()
            .try_for_each(|dimension| dimension.check(inputs, may_broadcast))
    }
}

impl SharedDimension {
    fn check(&self, inputs: &[(String, Value)], may_broadcast: bool) -> Result<(), SizeMismatch> {
        let sizes = || {
            self.places.iter().filter_map(|(input, axis)| {
                let (_, value) = inputs.iter().find(|(name, _)| name == input)?;
                let Value::Tensor(tensor) = value else {
                    return None;
                };
                Some((input, *tensor.shape().get(*axis)?))
            })
        };
        let counted = || sizes().filter(|(_, size)| !(may_broadcast && *size == 1));
        let Some((first, size)) = counted().next() else {
            return Ok(());
        };
        let Some((second, other)) = counted().find(|(_, other)| *other != size) else {
            return Ok(());
        };
        let is_ambiguous = sizes()
            .any(|(input, size)| sizes().any(|(same, other)| same == input && other != size));
        if is_ambiguous {
            return Ok(());
        }
        Err(SizeMismatch {
            dimension: self.name.clone(),
            first: first.clone(),
            second: second.clone(),
            sizes: (size, other),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Tensor;

    fn shared(inputs: &[(&str, &[&str])]) -> SharedDimensions {
        let owned: Vec<(&str, Vec<String>)> = inputs
            .iter()
            .map(|(input, names)| (*input, names.iter().map(|&name| name.to_owned()).collect()))
            .collect();
        SharedDimensions::of(owned.iter().map(|(input, names)| (*input, &names[..])))
    }

    fn inputs(shapes: &[(&str, &[usize])]) -> Vec<(String, Value)> {
        let tensor = |shape: &[usize]| {
            Tensor::new(shape.to_vec(), vec![0_u8; shape.iter().product()]).unwrap()
        };
        shapes
            .iter()
            .map(|(name, shape)| ((*name).to_owned(), Value::Tensor(tensor(shape))))
            .collect()
    }

    #[test]
    fn inputs_with_different_sizes_of_a_shared_dimension_are_named() {
        let shared = shared(&[("a", &["N", ""]), ("b", &["", "N"]), ("c", &["M"])]);
        let given = inputs(&[("a", &[2, 9]), ("b", &[7, 3]), ("c", &[5])]);
        let error = shared.check(&given, true).unwrap_err().to_string();
        assert_eq!(
            error,
            "inputs \"a\" and \"b\" share the dimension \"N\", whose size is 2 in \"a\" and 3 in \"b\": send the same \
             size in both"
        );
        let given = inputs(&[("b", &[7, 3]), ("c", &[5]), ("a", &[3, 9])]);
        assert_eq!(shared.check(&given, false), Ok(()));
    }

    #[test]
    fn a_size_of_one_fits_where_it_may_broadcast() {
        let shared = shared(&[("a", &["N"]), ("b", &["N"]), ("c", &["N"])]);
        for (sizes, broadcast, strict) in [
            ([3, 3, 3], true, true),
            ([1, 1, 1], true, true),
            ([1, 3, 3], true, false),
            ([3, 1, 3], true, false),
            ([1, 2, 3], false, false),
            ([0, 0, 3], false, false),
        ] {
            let [a, b, c] = sizes;
            let given = inputs(&[("a", &[a]), ("b", &[b]), ("c", &[c])]);
            assert_eq!(shared.check(&given, true).is_ok(), broadcast, "{sizes:?}");
            assert_eq!(shared.check(&given, false).is_ok(), strict, "{sizes:?}");
        }
    }

    #[test]
    fn dimensions_of_one_input_or_without_a_name_are_not_shared() {
        assert_eq!(
            shared(&[("a", &["N", "N"]), ("b", &["M", ""]), ("c", &[""])]),
            *SharedDimensions::NONE
        );
        // An absent input has no size.
        let shared = shared(&[("a", &["N"]), ("b", &["N"])]);
        assert_eq!(shared.check(&inputs(&[("b", &[3])]), false), Ok(()));
    }

    #[test]
    fn a_name_that_one_input_uses_for_different_sizes_is_ignored() {
        let shared = shared(&[("a", &["dynamic", "dynamic"]), ("b", &["dynamic"])]);
        let check =
            |a: &[usize], b: &[usize]| shared.check(&inputs(&[("a", a), ("b", b)]), false).is_ok();
        assert!(check(&[2, 128], &[2]));
        assert!(check(&[3, 3], &[3]));
        assert!(!check(&[3, 3], &[4]));
    }
}
