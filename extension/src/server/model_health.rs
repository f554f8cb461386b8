//! Health of a model from its requests: the confidence and the class of its predictions, and missing features.
//!
//! A classifier is recognised by an output with a column for each class, whose observed rows are probability
//! distributions. The confidence of a prediction is the highest probability.
//! Another output, such as logits, can be chosen by name. At most [`MAX_ROWS`] rows of a request are observed.

use crate::tensor::{Data, Tensor, Value};

/// Maximum number of observed rows of a request.
const MAX_ROWS: usize = 16;
/// Maximum number of observed elements of a request.
const MAX_ELEMENTS: usize = 65_536;
/// Maximum number of observed features of a request.
const MAX_FEATURES: usize = 1_024;
/// Maximum distance of the sum of probabilities from 1.
const TOLERANCE: f64 = 1e-3;
/// As [`TOLERANCE`], for 16-bit floats.
const TOLERANCE_16_BIT: f64 = 1e-2;

/// Prediction of a classifier for one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Prediction {
    /// Probability of the class.
    pub(super) confidence: f64,
    /// Column of the class.
    pub(super) class: usize,
}

/// Calls `observe` with the predictions in these outputs: those of the output `chosen`, or else of the first output
/// whose rows are probability distributions.
pub(super) fn predictions(
    outputs: &[(String, Value)],
    chosen: Option<&str>,
    observe: impl FnMut(Prediction),
) {
    if let Some(chosen) = chosen {
        let output = outputs.iter().find(|(name, _)| name == chosen);
        let rows = output.into_iter().flat_map(|(_, value)| sampled(value));
        rows.filter_map(chosen_prediction).for_each(observe);
        return;
    }
    let found = outputs.iter().find_map(|(_, value)| distributions(value));
    found.into_iter().flatten().flatten().for_each(observe);
}

/// Returns the predictions of an output whose observed rows are all probability distributions.
fn distributions(value: &Value) -> Option<[Option<Prediction>; MAX_ROWS]> {
    let mut found = [None; MAX_ROWS];
    for (place, row) in found.iter_mut().zip(sampled(value)) {
        *place = Some(distribution(row)?);
    }
    found[0].is_some().then_some(found)
}

/// Returns the share of missing values (NaN) in the first row of the inputs; `None` without inputs that are rows of
/// floating-point features.
pub(super) fn null_share(inputs: &[(String, Value)]) -> Option<f64> {
    let (mut features, mut nulls) = (0_u32, 0_u32);
    for (_, value) in inputs {
        let Some(row) = row_of(value, 0) else {
            continue;
        };
        row.each(MAX_FEATURES, |value| {
            features += 1;
            nulls += u32::from(value.is_nan());
        });
    }
    (features > 0).then(|| f64::from(nulls) / f64::from(features))
}

/// Elements of one row.
#[derive(Clone, Copy)]
enum Row<'a> {
    Fp16(&'a [half::f16]),
    Fp32(&'a [f32]),
    Fp64(&'a [f64]),
}

/// Summary of a row.
struct RowSummary {
    columns: usize,
    sum: f64,
    minimum: f64,
    maximum: f64,
    /// Column of the maximum.
    place: usize,
}

impl Row<'_> {
    /// Calls `visit` with at most `limit` elements.
    fn each(self, limit: usize, mut visit: impl FnMut(f64)) {
        match self {
            Row::Fp16(row) => row.iter().take(limit).for_each(|it| visit(f64::from(*it))),
            Row::Fp32(row) => row.iter().take(limit).for_each(|it| visit(f64::from(*it))),
            Row::Fp64(row) => row.iter().take(limit).for_each(|it| visit(*it)),
        }
    }

    fn tolerance(self) -> f64 {
        match self {
            Row::Fp16(_) => TOLERANCE_16_BIT,
            Row::Fp32(_) | Row::Fp64(_) => TOLERANCE,
        }
    }

    /// Returns the summary of a row without NaN; `None` for any other row.
    fn summary(self) -> Option<RowSummary> {
        let mut summary = RowSummary {
            columns: 0,
            sum: 0.0,
            minimum: f64::INFINITY,
            maximum: f64::NEG_INFINITY,
            place: 0,
        };
        self.each(usize::MAX, |value| {
            summary.sum += value;
            summary.minimum = summary.minimum.min(value);
            if value > summary.maximum {
                (summary.maximum, summary.place) = (value, summary.columns);
            }
            summary.columns += 1;
        });
        (summary.columns > 0 && summary.sum.is_finite()).then_some(summary)
    }
}

/// Returns the prediction of a row that is a probability distribution.
fn distribution(row: Row<'_>) -> Option<Prediction> {
    let summary = row.summary()?;
    let is_distribution = summary.columns > 1
        && summary.minimum >= -TOLERANCE
        && (summary.sum - 1.0).abs() <= row.tolerance();
    is_distribution.then(|| Prediction {
        confidence: summary.maximum.min(1.0),
        class: summary.place,
    })
}

/// Returns the prediction of a row of the chosen output. The row is a distribution, logits, whose softmax is the
/// distribution, or the probability of the second of two classes.
fn chosen_prediction(row: Row<'_>) -> Option<Prediction> {
    if let Some(prediction) = distribution(row) {
        return Some(prediction);
    }
    let summary = row.summary()?;
    if summary.columns > 1 {
        let mut sum = 0.0;
        row.each(usize::MAX, |logit| sum += (logit - summary.maximum).exp());
        return Some(Prediction {
            confidence: 1.0 / sum,
            class: summary.place,
        });
    }
    let probability = summary.maximum;
    (0.0..=1.0).contains(&probability).then(|| Prediction {
        confidence: probability.max(1.0 - probability),
        class: usize::from(probability >= 0.5),
    })
}

/// Returns the observed rows of an output: all rows, or some that are equally far apart.
fn sampled(value: &Value) -> impl Iterator<Item = Row<'_>> {
    let rows = match value {
        Value::Tensor(tensor) => tensor.shape().first().copied().unwrap_or(0),
        Value::Maps(maps) => maps.count(),
        Value::Sequence(maps) => maps.len(),
        Value::Map { .. } => 0,
    };
    let columns = match value {
        Value::Tensor(tensor) => tensor.data().len() / rows.max(1),
        Value::Maps(maps) => maps.keys().len(),
        Value::Sequence(_) | Value::Map { .. } => 1,
    };
    let limit = (MAX_ELEMENTS / columns.max(1)).clamp(1, MAX_ROWS);
    let step = rows.div_ceil(limit).max(1);
    (0..rows).step_by(step).filter_map(|row| row_of(value, row))
}

/// Returns a row of floating-point numbers; `None` for values that are no rows of numbers.
fn row_of(value: &Value, row: usize) -> Option<Row<'_>> {
    match value {
        Value::Tensor(tensor) => row_of_tensor(tensor, row),
        Value::Maps(maps) => row_of_tensor(maps.values(), row),
        Value::Sequence(maps) => match maps.get(row)? {
            Value::Map { values, .. } => elements(values, 0, values.len()),
            _ => None,
        },
        Value::Map { .. } => None,
    }
}

fn row_of_tensor(tensor: &Tensor, row: usize) -> Option<Row<'_>> {
    let (rows, columns) = match *tensor.shape() {
        [rows] => (rows, 1),
        [rows, columns] => (rows, columns),
        _ => return None,
    };
    (row < rows).then(|| elements(tensor.data(), row * columns, columns))?
}

fn elements(data: &Data, start: usize, length: usize) -> Option<Row<'_>> {
    let range = start..start.checked_add(length)?;
    match data {
        Data::Fp16(elements) => elements.get(range).map(Row::Fp16),
        Data::Fp32(elements) => elements.get(range).map(Row::Fp32),
        Data::Fp64(elements) => elements.get(range).map(Row::Fp64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tensor::Maps;

    fn output(name: &str, shape: &[usize], data: impl Into<Data>) -> (String, Value) {
        let tensor = Tensor::new(shape.to_vec(), data).unwrap();
        (name.to_owned(), Value::Tensor(tensor))
    }

    fn observed(outputs: &[(String, Value)], chosen: Option<&str>) -> Vec<(f64, usize)> {
        let mut all = Vec::new();
        predictions(outputs, chosen, |it| {
            all.push(((it.confidence * 1e4).round() / 1e4, it.class));
        });
        all
    }

    #[test]
    fn probabilities_are_recognised_next_to_labels() {
        let label = output("label", &[2], vec![1_i64, 0]);
        let wanted = [(0.75, 1), (0.5, 0)];
        let single = vec![0.25_f32, 0.75, 0.0, 0.5, 0.25, 0.25];
        let tensor = output("probabilities", &[2, 3], single.clone());
        assert_eq!(observed(&[label.clone(), tensor], None), wanted);
        let double: Vec<f64> = single.iter().map(|it| f64::from(*it)).collect();
        let tensor = output("probabilities", &[2, 3], double);
        assert_eq!(observed(&[tensor], None), wanted);
        let keys = Arc::new(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()].into());
        let maps = Maps::new(keys, Tensor::new(vec![2, 3], single).unwrap()).unwrap();
        let rows = Value::Sequence(maps.to_values());
        for value in [Value::Maps(maps), rows] {
            let probability = ("output_probability".to_owned(), value);
            assert_eq!(observed(&[label.clone(), probability], None), wanted);
        }
    }

    #[test]
    fn other_outputs_are_not_classifiers() {
        let nothing: [(f64, usize); 0] = [];
        for (shape, values) in [
            (&[1, 3][..], vec![0.5_f32, 0.75, 0.5]),
            (&[1, 2], vec![1.5, -0.5]),
            (&[1, 2], vec![f32::NAN, 1.0]),
            (&[2, 1], vec![1.0, 1.0]),
            (&[2], vec![0.5, 0.5]),
            (&[0, 2], vec![]),
            (&[1, 1, 2], vec![0.5, 0.5]),
            // One row that is no distribution is enough.
            (&[2, 2], vec![0.5, 0.5, 0.5, 0.75]),
        ] {
            let output = output("scores", shape, values);
            assert_eq!(observed(&[output], None), nothing, "{shape:?}");
        }
    }

    #[test]
    fn a_chosen_output_may_have_logits_or_one_probability() {
        let logits = output("logits", &[1, 3], vec![1.0_f32, 3.0, 2.0]);
        assert_eq!(observed(&[logits], Some("logits")), [(0.6652, 1)]);
        let one = output("p", &[2, 1], vec![0.25_f32, 0.875]);
        assert_eq!(
            observed(std::slice::from_ref(&one), Some("p")),
            [(0.75, 0), (0.875, 1)]
        );
        assert!(observed(&[one], Some("q")).is_empty());
        let mixed = output("p", &[2], vec![f32::NAN, 0.875]);
        assert_eq!(observed(&[mixed], Some("p")), [(0.875, 1)]);
    }

    #[test]
    fn rows_and_elements_are_limited() {
        let many = output("p", &[1_000, 2], vec![0.5_f32; 2_000]);
        let count = observed(&[many], None).len();
        assert!((8..=MAX_ROWS).contains(&count), "{count}");
        let columns = MAX_ELEMENTS;
        let mut values = vec![0.0_f32; 4 * columns];
        values.iter_mut().step_by(columns).for_each(|it| *it = 1.0);
        let wide = output("p", &[4, columns], values);
        assert_eq!(observed(&[wide], None), [(1.0, 0)]);
    }

    #[test]
    fn null_share_is_that_of_the_first_row() {
        let features = output(
            "f",
            &[2, 4],
            vec![1.0_f32, f32::NAN, 2.0, 3.0, 0.0, 0.0, 0.0, 0.0],
        );
        let number = output("g", &[2], vec![f64::NAN, 1.0]);
        let label = output("h", &[2], vec![1_i64, 2]);
        assert_eq!(null_share(&[features, number, label.clone()]), Some(0.4));
        assert_eq!(null_share(&[label]), None);
        let image = output("image", &[1, 2, 2], vec![f32::NAN; 4]);
        assert_eq!(null_share(&[image]), None);
    }
}
