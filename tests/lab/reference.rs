//! Expected outputs of the wine models, computed by scikit-learn.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::ops::Range;
use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::Value;

/// Tolerance for numbers computed elsewhere.
const TOLERANCE: f64 = 1e-5;

/// The 178 rows, and the references.
pub static WINE: LazyLock<Wine> = LazyLock::new(|| {
    let path = crate::artifacts::workspace().join("tests/models/wine.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
});

/// Content of `tests/models/wine.json`, written by `tests/models/wine.py`.
#[derive(Deserialize)]
pub struct Wine {
    /// Feature rows.
    pub rows: Vec<Vec<f64>>,
    /// Outputs of `wine-v1.onnx`.
    pub v1: Reference,
    /// Outputs of `wine-v2.onnx`.
    pub v2: Reference,
    /// Outputs of `wine-names.onnx`.
    pub names: Reference,
}

/// Outputs of one model for all rows.
#[derive(Debug, Deserialize)]
pub struct Reference {
    /// Classes, in the order of the probabilities.
    pub classes: Vec<Value>,
    labels: Vec<Value>,
    probabilities: Vec<Vec<f64>>,
}

impl Reference {
    /// Asserts that a response of `/predict` to these rows equals scikit-learn's outputs.
    ///
    /// # Panics
    /// If they differ.
    pub fn check(&self, answer: &Value, rows: Range<usize>) {
        let problem = self.differs(answer, rows.clone());
        assert_eq!(problem, None, "rows {rows:?}");
    }

    /// Difference of a response of `/predict` to these rows from scikit-learn's outputs, if there
    /// is one.
    pub fn differs(&self, answer: &Value, rows: Range<usize>) -> Option<String> {
        if answer["prediction"].as_array().map(Vec::as_slice) != Some(&self.labels[rows.clone()]) {
            return Some(format!("labels: {answer}"));
        }
        if answer["classes"].as_array() != Some(&self.classes) {
            return Some(format!("classes: {}", answer["classes"]));
        }
        let expected = self.probabilities[rows].concat();
        distance(&numbers(&answer["probabilities"]), &expected)
    }

    /// Asserts that a response of the Open Inference Protocol to all rows equals scikit-learn's
    /// outputs.
    ///
    /// # Panics
    /// If they differ.
    pub fn check_v2(&self, answer: &Value) {
        let [labels, probabilities] = answer["outputs"].as_array().unwrap().as_slice() else {
            panic!("two outputs: {answer}");
        };
        let (rows, classes) = (self.labels.len(), self.classes.len());
        assert_eq!(labels["name"], "output_label");
        assert_eq!(labels["data"].as_array(), Some(&self.labels));
        assert_eq!(labels["shape"], serde_json::json!([rows]));
        assert_eq!(probabilities["name"], "output_probability");
        assert_eq!(probabilities["datatype"], "FP32");
        assert_eq!(probabilities["shape"], serde_json::json!([rows, classes]));
        assert_eq!(
            probabilities["parameters"]["labels"].as_array(),
            Some(&self.classes)
        );
        let expected = self.probabilities.concat();
        assert_eq!(distance(&numbers(&probabilities["data"]), &expected), None);
    }
}

/// All numbers of an array, nested or not, in order.
pub fn numbers(array: &Value) -> Vec<f64> {
    match array {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => other.as_f64().into_iter().collect(),
    }
}

/// Description of the first difference beyond [`TOLERANCE`], if there is one.
#[must_use]
pub fn distance(given: &[f64], expected: &[f64]) -> Option<String> {
    if given.len() != expected.len() {
        return Some(format!(
            "{} numbers instead of {}",
            given.len(),
            expected.len()
        ));
    }
    let pairs = given.iter().zip(expected).enumerate();
    let mut far = pairs.filter(|(_, (given, expected))| (*given - *expected).abs() > TOLERANCE);
    let (place, (given, expected)) = far.next()?;
    Some(format!("number {place}: {given} instead of {expected}"))
}
