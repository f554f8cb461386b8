//! Differences between the outputs of two models.

use half::{bf16, f16};
use model_sidecar::tensor::{Data, Tensor, Value};

/// Largest difference between two values of an output.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Difference {
    /// Absolute difference.
    pub(crate) absolute: f64,
    /// Difference relative to the tolerance: above 1 exceeds it.
    pub(crate) of_allowed: f64,
}

/// Compares two outputs; a number may differ by `tolerance`, relative to itself, or to 1 if it is
/// smaller. Returns an error if the outputs cannot be compared, or differ in shapes, strings or
/// integers.
pub(crate) fn compare(
    before: &Value,
    after: &Value,
    tolerance: Option<f64>,
) -> Result<Difference, String> {
    match (before, after) {
        (Value::Tensor(before), Value::Tensor(after)) => tensors(before, after, tolerance),
        (Value::Sequence(before), Value::Sequence(after)) if before.len() == after.len() => before
            .iter()
            .zip(after)
            .map(|(before, after)| compare(before, after, tolerance))
            .try_fold(Difference::default(), |most, next| Ok(most.max(next?))),
        (
            Value::Map { keys, values },
            Value::Map {
                keys: other_keys,
                values: other_values,
            },
        ) => {
            if keys != other_keys {
                return Err("the keys of a map differ".to_owned());
            }
            data(values, other_values, tolerance)
        }
        // One model may return as a table the maps that the other returns one by one.
        (Value::Maps(before), _) => compare(&Value::Sequence(before.to_values()), after, tolerance),
        (_, Value::Maps(after)) => compare(before, &Value::Sequence(after.to_values()), tolerance),
        _ => Err("the kind or length differs".to_owned()),
    }
}

impl Difference {
    /// Maximum of both fields.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            absolute: self.absolute.max(other.absolute),
            of_allowed: self.of_allowed.max(other.of_allowed),
        }
    }
}

fn tensors(before: &Tensor, after: &Tensor, tolerance: Option<f64>) -> Result<Difference, String> {
    if before.shape() != after.shape() {
        return Err(format!(
            "the shape was {:?} and is {:?}",
            before.shape(),
            after.shape()
        ));
    }
    data(before.data(), after.data(), tolerance)
}

/// Default tolerance for single precision: the effect of a different order of additions.
const OF_SINGLE: f64 = 1e-4;
const OF_HALF: f64 = 1e-2;

fn data(before: &Data, after: &Data, tolerance: Option<f64>) -> Result<Difference, String> {
    let single = tolerance.unwrap_or(OF_SINGLE);
    let half = tolerance.unwrap_or(OF_HALF);
    match (before, after) {
        (Data::Fp64(before), Data::Fp64(after)) => numbers(before, after, single, |x| x),
        (Data::Fp32(before), Data::Fp32(after)) => numbers(before, after, single, f64::from),
        (Data::Fp16(before), Data::Fp16(after)) => numbers(before, after, half, f16::to_f64),
        (Data::Bf16(before), Data::Bf16(after)) => numbers(before, after, half, bf16::to_f64),
        _ if before == after => Ok(Difference::default()),
        _ if before.datatype() != after.datatype() => Err(format!(
            "the datatype was {} and is {}",
            before.datatype(),
            after.datatype()
        )),
        _ => Err(format!("some {} values differ", before.datatype())),
    }
}

fn numbers<T: Copy>(
    before: &[T],
    after: &[T],
    tolerance: f64,
    value: impl Fn(T) -> f64,
) -> Result<Difference, String> {
    if before.len() != after.len() {
        return Err(format!(
            "it had {} values and has {}",
            before.len(),
            after.len()
        ));
    }
    let mut most = Difference::default();
    for (&before, &after) in before.iter().zip(after) {
        let (before, after) = (value(before), value(after));
        #[expect(clippy::float_cmp, reason = "equal infinities have no difference")]
        if before == after || (before.is_nan() && after.is_nan()) {
            continue;
        }
        let absolute = (before - after).abs();
        if !absolute.is_finite() {
            return Err(format!("a value was {before} and is {after}"));
        }
        let allowed = tolerance * before.abs().max(1.0);
        most = most.max(Difference {
            absolute,
            of_allowed: absolute / allowed,
        });
    }
    Ok(most)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model_sidecar::tensor::Maps;

    use super::*;

    fn single(values: &[f32]) -> Value {
        Value::Tensor(Tensor::new(vec![values.len()], values.to_vec()).expect("one dimension"))
    }

    fn between(before: &[f32], after: &[f32]) -> Result<Difference, String> {
        compare(&single(before), &single(after), None)
    }

    #[test]
    fn numbers_may_differ_by_a_part_of_themselves_or_of_one() {
        let small = between(&[0.5, -0.001], &[0.500_05, -0.001]).expect("comparable");
        assert!(small.of_allowed < 1.0, "{small:?}");
        let large = between(&[20_000.0], &[20_001.0]).expect("comparable");
        assert!(large.of_allowed < 1.0 && large.absolute > 0.9, "{large:?}");
        let much = between(&[0.0, 0.5], &[0.0, 0.501]).expect("comparable");
        assert!(much.of_allowed > 1.0, "{much:?}");
        let exactly = compare(&single(&[1.0]), &single(&[1.000_001]), Some(0.0));
        assert!(exactly.expect("comparable").of_allowed > 1.0);
    }

    #[test]
    fn nan_and_infinity_must_be_equal() {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        assert_eq!(between(&odd, &odd), Ok(Difference::default()));
        for (before, after) in [
            (f32::NAN, 0.0),
            (0.0, f32::INFINITY),
            (f32::INFINITY, -f32::INFINITY),
        ] {
            let error = between(&[before], &[after]).expect_err("never within a tolerance");
            assert!(error.contains("a value was"), "{error}");
        }
    }

    #[test]
    fn shapes_integers_and_strings_must_be_equal() {
        assert!(between(&[1.0], &[1.0, 1.0]).is_err());
        let labels = |label: i64| Value::Tensor(Tensor::new(vec![1], vec![label]).expect("one"));
        assert!(compare(&labels(3), &labels(3), None).is_ok());
        let error = compare(&labels(3), &labels(4), Some(10.0)).expect_err("other labels");
        assert_eq!(error, "some INT64 values differ");
        let map = |keys: Vec<i64>, values: Vec<f32>| {
            Value::Sequence(vec![Value::Map {
                keys: keys.into(),
                values: values.into(),
            }])
        };
        let within = compare(
            &map(vec![1], vec![0.5]),
            &map(vec![1], vec![0.5001]),
            Some(0.01),
        );
        assert!(within.expect("comparable").of_allowed < 1.0);
        assert!(compare(&map(vec![1], vec![0.5]), &map(vec![2], vec![0.5]), None).is_err());
        let table = |key: i64, value: f32| {
            let values = Tensor::new(vec![1, 1], vec![value]).expect("one");
            Value::Maps(Maps::new(Arc::new(vec![key].into()), values).expect("one map"))
        };
        for (before, after) in [
            (table(1, 0.5), map(vec![1], vec![0.5])),
            (map(vec![1], vec![0.5]), table(1, 0.5)),
            (table(1, 0.5), table(1, 0.5)),
        ] {
            assert_eq!(compare(&before, &after, None), Ok(Difference::default()));
        }
        assert!(compare(&table(1, 0.5), &map(vec![2], vec![0.5]), None).is_err());
        assert!(
            compare(&table(1, 0.5), &table(1, 0.75), None)
                .expect("comparable")
                .of_allowed
                > 1.0
        );
    }
}
