//! Models made by `coldstart/models.py`, with their expected responses.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use lab::reference::{WINE, distance, numbers};

/// Starts of a small model per start of a large one: noise matters most in its few milliseconds.
pub(super) const MAX_TURNS: usize = 3;

/// File name, label in the tables, `true` if it also exists optimised, quantized and compressed, and its turns.
const MODELS: [(&str, &str, bool, usize); 4] = [
    ("wine-v1", "1 KB", false, MAX_TURNS),
    ("tabular-12mb", "12 MB", false, MAX_TURNS),
    ("tabular-100mb", "100 MB", true, 1),
    ("tabular-250mb", "250 MB", true, 1),
];

/// Folder of the models optimised by `modelctl optimize`.
const OPTIMISED: &str = "optimised";

/// Folder of the models quantized by `modelctl optimize --quantize int8`.
const QUANTIZED: &str = "quantized";

/// Folder of the models compressed with Zstandard.
const COMPRESSED: &str = "compressed";

/// One model.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) name: &'static str,
    /// Label in the tables, by its size.
    pub(super) label: &'static str,
    folder: PathBuf,
    is_optimised: bool,
    /// Number of starts per round.
    pub(super) turns: usize,
    answer: Value,
    /// Response of the quantized model.
    quantized_answer: Option<Value>,
}

impl Model {
    /// All models, the smallest first.
    pub(super) fn all(folder: &Path) -> Result<Vec<Self>> {
        let answers = folder.join("answers.json");
        let answers = std::fs::read(&answers).with_context(|| {
            format!(
                "{} is missing: run `make bench-coldstart`",
                answers.display()
            )
        });
        let answers: Value = serde_json::from_slice(&answers?)?;
        let quantized = std::fs::read(folder.join(QUANTIZED).join("answers.json"));
        let quantized: Value = serde_json::from_slice(&quantized?)?;
        MODELS
            .into_iter()
            .map(|(name, label, is_optimised, turns)| {
                let answer = answers.get(name).cloned();
                Ok(Self {
                    name,
                    label,
                    folder: folder.to_owned(),
                    is_optimised,
                    turns,
                    answer: answer.with_context(|| format!("no expected response for {name}"))?,
                    quantized_answer: quantized.get(name).cloned(),
                })
            })
            .collect()
    }

    /// Key in the bucket.
    pub(super) fn key(&self) -> String {
        format!("{}.onnx", self.name)
    }

    /// `true` if the model also exists optimised, quantized and compressed.
    pub(super) fn is_optimised(&self) -> bool {
        self.is_optimised
    }

    /// Key of the optimised model.
    pub(super) fn optimised(&self) -> String {
        format!("{OPTIMISED}/{}", self.key())
    }

    /// Key of the quantized model.
    pub(super) fn quantized(&self) -> String {
        format!("{QUANTIZED}/{}", self.key())
    }

    /// Key of the compressed model.
    pub(super) fn compressed(&self) -> String {
        format!("{COMPRESSED}/{}.zst", self.key())
    }

    /// All files of the model: the key of each, and its path.
    pub(super) fn files(&self) -> Vec<(String, PathBuf)> {
        let mut keys = vec![self.key()];
        if self.is_optimised {
            let optimised = self.optimised();
            keys.extend([format!("{optimised}.data"), optimised]);
            keys.extend([self.quantized(), self.compressed()]);
        }
        let keys = keys.into_iter();
        keys.map(|key| (key.clone(), self.folder.join(key)))
            .collect()
    }

    /// Event for every contender.
    pub(super) fn event() -> Value {
        json!({ "features": WINE.rows[0] })
    }

    /// Compares a response with that of ONNX Runtime in Python.
    pub(super) fn check(&self, answer: &Value) -> Result<()> {
        self.compare(answer, &self.answer)
    }

    /// Compares a response of the quantized model with that of ONNX Runtime in Python.
    pub(super) fn check_quantized(&self, answer: &Value) -> Result<()> {
        let expected = self.quantized_answer.as_ref();
        self.compare(answer, expected.context("the model is not quantized")?)
    }

    fn compare(&self, answer: &Value, expected: &Value) -> Result<()> {
        let (given, right) = (numbers(&answer["prediction"]), numbers(expected));
        let problem = distance(&given, &right);
        ensure!(problem.is_none(), "{}: {problem:?} in {answer}", self.name);
        Ok(())
    }
}
