//! Data: scikit-learn's 178 wines, its predictions with both versions of the model, and the
//! comparison of responses with them.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) const V1: &[u8] = include_bytes!("../models/wine-v1.onnx");
pub(crate) const V2: &[u8] = include_bytes!("../models/wine-v2.onnx");
const REFERENCE: &str = include_str!("../models/wine.json");

/// Number of wines of each cultivar, in the order of the data.
const CULTIVARS: [usize; 3] = [59, 71, 48];
/// Tolerance between scikit-learn's 64-bit arithmetic and the model's 32 bits.
const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
pub(crate) struct Wines {
    pub(crate) rows: Vec<Vec<f64>>,
    pub(crate) v1: Predictions,
    pub(crate) v2: Predictions,
}

/// Predictions of scikit-learn, row by row.
#[derive(Deserialize)]
pub(crate) struct Predictions {
    pub(crate) labels: Vec<usize>,
    pub(crate) probabilities: Vec<[f64; 3]>,
}

/// Response of the sidecar.
#[derive(Debug, Deserialize)]
pub(crate) struct PredictResponse {
    pub(crate) prediction: Vec<usize>,
    pub(crate) probabilities: Vec<[f64; 3]>,
    pub(crate) model_version: String,
}

impl Wines {
    pub(crate) fn read() -> Result<Self> {
        let wines: Self = serde_json::from_str(REFERENCE).context("wine.json")?;
        let count = CULTIVARS.iter().sum::<usize>();
        ensure!(
            wines.rows.len() == count,
            "wine.json does not have {count} rows"
        );
        for reference in [&wines.v1, &wines.v2] {
            let counts = [reference.labels.len(), reference.probabilities.len()];
            ensure!(
                counts == [count; 2],
                "wine.json does not have {count} predictions for each version"
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

/// True cultivar of a wine.
pub(crate) fn cultivar(wine: usize) -> usize {
    let [first, second, _] = CULTIVARS;
    usize::from(wine >= first) + usize::from(wine >= first + second)
}

impl PredictResponse {
    pub(crate) fn read(body: &[u8]) -> Result<Self> {
        serde_json::from_slice(body)
            .with_context(|| format!("not a prediction: {}", String::from_utf8_lossy(body)))
    }

    /// Compares the response for these wines with scikit-learn's predictions; returns the largest
    /// difference of a probability.
    pub(crate) fn compare(&self, reference: &Predictions, wines: &[usize]) -> Result<f64> {
        let counts = [self.prediction.len(), self.probabilities.len()];
        ensure!(
            counts == [wines.len(); 2],
            "{} wines requested, {counts:?} labels and probabilities received",
            wines.len()
        );
        let mut largest = 0.0_f64;
        for (at, &wine) in wines.iter().enumerate() {
            let (label, expected) = (self.prediction[at], reference.labels[wine]);
            ensure!(
                label == expected,
                "wine {wine}: the model predicts {label}, scikit-learn {expected}"
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
