//! Magika, a network that classifies files, and its outputs in Python.

use bytes::Bytes;
use lab::reference::{distance, numbers};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{body, http_event};

/// Test cases that `make fixtures` downloads.
#[derive(Deserialize)]
pub(crate) struct Magika {
    labels: Vec<String>,
    cases: Vec<Case>,
}

/// A file, and the outputs of the network in Python.
#[derive(Deserialize)]
pub(crate) struct Case {
    file: String,
    network_label: String,
    features: Vec<i32>,
    outputs: Vec<f64>,
}

impl Magika {
    /// Reads the cases.
    pub(crate) fn read() -> Self {
        serde_json::from_slice(&fixture("cases.json")).unwrap()
    }

    /// Reads the network.
    pub(crate) fn network() -> Bytes {
        fixture("model.onnx")
    }

    /// Cases, at least one.
    pub(crate) fn cases(&self) -> &[Case] {
        assert!(!self.cases.is_empty());
        &self.cases
    }

    /// Asserts that a reply to the event of a case has Python's outputs.
    pub(crate) fn check(&self, case: &Case, reply: &Value) {
        assert_eq!(reply["statusCode"], 200, "{}: {reply}", case.file);
        let output = &body(reply)["outputs"][0];
        assert_eq!(output["name"], "target_label");
        assert_eq!(output["shape"], json!([1, self.labels.len()]));
        let scores = numbers(&output["data"]);
        assert_eq!(distance(&scores, &case.outputs), None, "{}", case.file);
        assert_eq!(
            self.labels[highest(&scores)],
            case.network_label,
            "{}",
            case.file
        );
    }
}

impl Case {
    /// Event of an HTTP API that asks the model `magika` by the Open Inference Protocol.
    pub(crate) fn event(&self) -> Value {
        let input = json!({
            "name": "bytes", "datatype": "INT32", "shape": [1, 2048], "data": self.features,
        });
        http_event(
            "POST",
            "/v2/models/magika/infer",
            &json!({ "inputs": [input] }),
        )
    }
}

fn fixture(file: &str) -> Bytes {
    let folder = lab::artifacts::workspace().join("target/fixtures/magika");
    let content = std::fs::read(folder.join(file));
    content.expect("run `make fixtures`").into()
}

/// Index of the largest number.
fn highest(numbers: &[f64]) -> usize {
    let places = numbers.iter().enumerate();
    places.max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap().0
}
