//! The data: scikit-learn's 178 wines, what scikit-learn itself says about each under both versions
//! of the model, and how an answer is held against that.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) const V1: &[u8] = include_bytes!("../models/wine-v1.onnx");
pub(crate) const V2: &[u8] = include_bytes!("../models/wine-v2.onnx");
const REFERENCE: &str = include_str!("../models/wine.json");

/// How many wines of each cultivar; they stand in that order.
const CULTIVARS: [usize; 3] = [59, 71, 48];
/// Between scikit-learn's 64-bit arithmetic and the model's 32 bits.
const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
pub(crate) struct Wines {
    pub(crate) rows: Vec<Vec<f64>>,
    pub(crate) v1: Reference,
    pub(crate) v2: Reference,
}

/// What scikit-learn says, row by row.
#[derive(Deserialize)]
pub(crate) struct Reference {
    pub(crate) labels: Vec<usize>,
    pub(crate) probabilities: Vec<[f64; 3]>,
}

/// What the sidecar answers.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer {
    pub(crate) prediction: Vec<usize>,
    pub(crate) probabilities: Vec<[f64; 3]>,
    pub(crate) model_version: String,
}

impl Wines {
    pub(crate) fn read() -> Result<Self> {
        let wines: Self = serde_json::from_str(REFERENCE).context("wine.json")?;
        let count = CULTIVARS.iter().sum::<usize>();
        ensure!(wines.rows.len() == count, "wine.json has not {count} rows");
        for reference in [&wines.v1, &wines.v2] {
            let counts = [reference.labels.len(), reference.probabilities.len()];
            ensure!(
                counts == [count; 2],
                "wine.json has not {count} answers for each version"
            );
        }
        Ok(wines)
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// A request for some of the wines.
    pub(crate) fn request(&self, wines: &[usize]) -> Value {
        let rows: Vec<&Vec<f64>> = wines.iter().map(|&wine| &self.rows[wine]).collect();
        json!({ "features": rows })
    }
}

/// The cultivar that a wine really is of.
pub(crate) fn cultivar(wine: usize) -> usize {
    let [first, second, _] = CULTIVARS;
    usize::from(wine >= first) + usize::from(wine >= first + second)
}

impl Answer {
    pub(crate) fn read(body: &[u8]) -> Result<Self> {
        serde_json::from_slice(body)
            .with_context(|| format!("not a prediction: {}", String::from_utf8_lossy(body)))
    }

    /// Holds the answer about these wines against scikit-learn's; the largest difference between
    /// two probabilities.
    pub(crate) fn compare(&self, reference: &Reference, wines: &[usize]) -> Result<f64> {
        let counts = [self.prediction.len(), self.probabilities.len()];
        ensure!(
            counts == [wines.len(); 2],
            "{} wines were asked about, and {counts:?} labels and probabilities came",
            wines.len()
        );
        let mut largest = 0.0_f64;
        for (at, &wine) in wines.iter().enumerate() {
            let (label, expected) = (self.prediction[at], reference.labels[wine]);
            ensure!(
                label == expected,
                "wine {wine}: the model answers {label}, scikit-learn {expected}"
            );
            for (ours, theirs) in self.probabilities[at]
                .iter()
                .zip(&reference.probabilities[wine])
            {
                let difference = (ours - theirs).abs();
                ensure!(
                    difference <= TOLERANCE,
                    "wine {wine}: probability {ours}, scikit-learn's is {theirs}"
                );
                largest = largest.max(difference);
            }
        }
        Ok(largest)
    }
}
