//! The models, as `coldstart/models.py` made them, with their right answers.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::reference::{WINE, distance, numbers};

/// Name of the file, and how tables call it. An optimised variant is one more line.
const MODELS: [(&str, &str); 4] = [
    ("wine-v1", "1 KB"),
    ("tabular-12mb", "12 MB"),
    ("tabular-100mb", "100 MB"),
    ("tabular-250mb", "250 MB"),
];

/// One model.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) name: &'static str,
    /// How tables call it, by its size.
    pub(super) label: &'static str,
    pub(super) path: PathBuf,
    answer: Value,
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
        MODELS
            .into_iter()
            .map(|(name, label)| {
                let answer = answers.get(name).cloned();
                Ok(Self {
                    name,
                    label,
                    path: folder.join(format!("{name}.onnx")),
                    answer: answer.with_context(|| format!("no answer for {name}"))?,
                })
            })
            .collect()
    }

    /// Its key in the bucket.
    pub(super) fn key(&self) -> String {
        format!("{}.onnx", self.name)
    }

    /// What every contender is asked.
    pub(super) fn event() -> Value {
        json!({ "features": WINE.rows[0] })
    }

    /// Holds an answer against that of ONNX Runtime in Python.
    pub(super) fn check(&self, answer: &Value) -> Result<()> {
        let (given, right) = (numbers(&answer["prediction"]), numbers(&self.answer));
        let problem = distance(&given, &right);
        ensure!(problem.is_none(), "{}: {problem:?} in {answer}", self.name);
        Ok(())
    }
}
