//! Deviation of a quantized model's outputs from the original's, over many rows.

use std::fmt;

use half::{bf16, f16};
use model_sidecar::tensor::{Data, Tensor, Value};

/// Deviation of one output.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Deviation {
    /// Largest absolute difference of two numbers; infinite if one is NaN or infinite and the other
    /// is not.
    pub(crate) largest: f64,
    sum: f64,
    numbers: u64,
    /// Number of labels, and of labels that changed.
    labels: u64,
    changed: u64,
}

impl Deviation {
    /// Adds the outputs of a run. Fails if they cannot be compared.
    pub(crate) fn add(&mut self, before: &Value, after: &Value) -> Result<(), String> {
        let (numbers, others) = (Numbers::of(before), Numbers::of(after));
        if numbers.numbers.len() != others.numbers.len() {
            return Err("the number of elements differs".to_owned());
        }
        for (before, after) in numbers.numbers.iter().zip(&others.numbers) {
            #[expect(clippy::float_cmp, reason = "equal infinities have no difference")]
            let difference = if before == after || (before.is_nan() && after.is_nan()) {
                0.0
            } else {
                let difference = (before - after).abs();
                if difference.is_nan() {
                    f64::INFINITY
                } else {
                    difference
                }
            };
            self.largest = self.largest.max(difference);
            self.sum += difference;
            self.numbers += 1;
        }
        let (before, after) = (labels(before), labels(after));
        let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
        if before.len() != after.len() {
            return Err("the number of labels differs".to_owned());
        }
        self.labels += before.len() as u64;
        let changed = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after);
        self.changed += changed.count() as u64;
        Ok(())
    }

    /// Mean absolute difference of the numbers.
    pub(crate) fn mean(&self) -> f64 {
        if self.numbers == 0 {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
        let count = self.numbers as f64;
        self.sum / count
    }

    /// Number of labels that changed, and of all; `None` if the output has no labels.
    pub(crate) fn changed_labels(&self) -> Option<(u64, u64)> {
        (self.labels > 0).then_some((self.changed, self.labels))
    }

    /// Deviation as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "largest_difference": self.largest,
            "mean_difference": self.mean(),
            "labels": self.labels,
            "changed_labels": self.changed,
        })
    }
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.numbers > 0 {
            write!(
                f,
                "largest difference {:.1e}, mean {:.1e}",
                self.largest,
                self.mean()
            )?;
        }
        if let Some((changed, all)) = self.changed_labels() {
            let comma = if self.numbers > 0 { "; " } else { "" };
            write!(f, "{comma}changed labels: {changed} of {all}")?;
        }
        Ok(())
    }
}

/// Floating-point numbers of a value.
#[derive(Default)]
struct Numbers {
    numbers: Vec<f64>,
}

impl Numbers {
    fn of(value: &Value) -> Self {
        let mut numbers = Self::default();
        numbers.add(value);
        numbers
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::Tensor(tensor) => self.numbers.extend(floats(tensor.data())),
            Value::Sequence(values) => values.iter().for_each(|value| self.add(value)),
            Value::Map { values, .. } => self.numbers.extend(floats(values)),
            Value::Maps(maps) => self.numbers.extend(floats(maps.values().data())),
        }
    }
}

/// Floating-point numbers; none for other datatypes.
fn floats(data: &Data) -> Vec<f64> {
    match data {
        Data::Fp64(numbers) => numbers.to_vec(),
        Data::Fp32(numbers) => numbers.iter().copied().map(f64::from).collect(),
        Data::Fp16(numbers) => numbers.iter().copied().map(f16::to_f64).collect(),
        Data::Bf16(numbers) => numbers.iter().copied().map(bf16::to_f64).collect(),
        _ => Vec::new(),
    }
}

/// Labels of an output: integers and strings themselves, and of scores the class with the largest.
/// `None` for other outputs, such as a regression's.
pub(crate) fn labels(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Tensor(tensor) => named(tensor.data()).or_else(|| classes(tensor)),
        Value::Maps(maps) => {
            let keys = named(maps.keys())?;
            let classes = largest(&floats(maps.values().data()), keys.len());
            Some(
                classes
                    .into_iter()
                    .map(|class| keys[class].clone())
                    .collect(),
            )
        }
        Value::Sequence(values) => {
            let label = |value: &Value| match value {
                Value::Map { keys, values } => {
                    let (keys, values) = (named(keys)?, floats(values));
                    let class = *largest(&values, values.len()).first()?;
                    keys.get(class).cloned()
                }
                _ => None,
            };
            values.iter().map(label).collect()
        }
        Value::Map { .. } => None,
    }
}

/// `true` if an output's labels are given by the model, and not only by the largest score.
pub(crate) fn has_named_labels(value: &Value) -> bool {
    match value {
        Value::Tensor(tensor) => named(tensor.data()).is_some(),
        Value::Maps(_) => true,
        Value::Sequence(values) => matches!(values.first(), Some(Value::Map { .. })),
        Value::Map { .. } => false,
    }
}

fn named(data: &Data) -> Option<Vec<String>> {
    macro_rules! text {
        ($values:expr) => {
            Some($values.iter().map(ToString::to_string).collect())
        };
    }
    match data {
        Data::Bytes(strings) => Some(strings.iter().map(str::to_owned).collect()),
        Data::Int64(values) => text!(values),
        Data::Int32(values) => text!(values),
        Data::Uint8(values) => text!(values),
        Data::Bool(values) => text!(values),
        _ => None,
    }
}

/// Indices of the largest scores along the last dimension.
fn classes(tensor: &Tensor) -> Option<Vec<String>> {
    let [.., _, width] = *tensor.shape() else {
        return None;
    };
    if width < 2 {
        return None;
    }
    let classes = largest(&floats(tensor.data()), width);
    Some(classes.iter().map(ToString::to_string).collect())
}

/// Index of the largest number in each row; the first of equal numbers.
fn largest(numbers: &[f64], width: usize) -> Vec<usize> {
    let index = |row: &[f64]| {
        let mut best = 0;
        for (index, number) in row.iter().enumerate() {
            if *number > row[best] {
                best = index;
            }
        }
        best
    };
    numbers.chunks(width.max(1)).map(index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(values: &[f32], width: usize) -> Value {
        let shape = vec![values.len() / width, width];
        Value::Tensor(Tensor::new(shape, values.to_vec()).expect("whole rows"))
    }

    #[test]
    fn differences_and_changed_labels_are_counted() {
        let mut deviation = Deviation::default();
        let (before, after) = ([0.1, 0.9, 0.6, 0.4], [0.2, 0.8, 0.4, 0.6]);
        deviation
            .add(&scores(&before, 2), &scores(&after, 2))
            .expect("comparable");
        assert!((deviation.largest - 0.2).abs() < 1e-6);
        assert!((deviation.mean() - 0.15).abs() < 1e-6);
        assert_eq!(deviation.changed_labels(), Some((1, 2)));
        let text = deviation.to_string();
        assert_eq!(
            text,
            "largest difference 2.0e-1, mean 1.5e-1; changed labels: 1 of 2"
        );
    }

    #[test]
    fn a_number_that_becomes_nan_is_an_infinite_difference() {
        let mut deviation = Deviation::default();
        deviation
            .add(&scores(&[f32::NAN, 1.0], 1), &scores(&[f32::NAN, 1.0], 1))
            .expect("alike");
        assert_eq!(deviation.largest.to_bits(), 0.0_f64.to_bits());
        deviation
            .add(&scores(&[1.0], 1), &scores(&[f32::NAN], 1))
            .expect("comparable");
        assert!(deviation.largest.is_infinite());
    }

    #[test]
    fn whole_numbers_and_strings_are_labels_and_one_column_is_not() {
        let whole = Value::Tensor(Tensor::new(vec![2], vec![3_i64, 4]).expect("two"));
        assert_eq!(labels(&whole), Some(vec!["3".to_owned(), "4".to_owned()]));
        assert_eq!(labels(&scores(&[1.0, 2.0], 1)), None);
        assert!(
            Deviation::default()
                .add(&scores(&[1.0], 1), &scores(&[1.0, 2.0], 1))
                .is_err()
        );
    }
}
