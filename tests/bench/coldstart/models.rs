//! Models made by `coldstart/models.py`, with their expected responses.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use lab::reference::{WINE, distance, numbers};

/// Starts of a small model per start of a large one: noise matters most in its few milliseconds.
pub(super) const MAX_TURNS: usize = 3;

/// File name, label in the tables, `true` if `modelctl optimize` has optimised it, and its turns.
const MODELS: [(&str, &str, bool, usize); 4] = [
    ("wine-v1", "1 KB", false, MAX_TURNS),
    ("tabular-12mb", "12 MB", false, MAX_TURNS),
    ("tabular-100mb", "100 MB", true, 1),
    ("tabular-250mb", "250 MB", true, 1),
];

/// Folder of the models optimised by `modelctl optimize`.
const OPTIMISED: &str = "optimised";

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
            .map(|(name, label, is_optimised, turns)| {
                let answer = answers.get(name).cloned();
                Ok(Self {
                    name,
                    label,
                    folder: folder.to_owned(),
                    is_optimised,
                    turns,
                    answer: answer.with_context(|| format!("no expected response for {name}"))?,
                })
            })
            .collect()
    }

    /// Key in the bucket.
    pub(super) fn key(&self) -> String {
        format!("{}.onnx", self.name)
    }

    /// Key of the optimised model, if there is one.
    pub(super) fn optimised(&self) -> Option<String> {
        self.is_optimised
            .then(|| format!("{OPTIMISED}/{}", self.key()))
    }

    /// All files of the model: the key of each, and its path.
    pub(super) fn files(&self) -> Vec<(String, PathBuf)> {
        let optimised = self.optimised().into_iter();
        let optimised = optimised.flat_map(|key| [format!("{key}.data"), key]);
        let keys = optimised.chain([self.key()]);
        keys.map(|key| (key.clone(), self.folder.join(key)))
            .collect()
    }

    /// Event for every contender.
    pub(super) fn event() -> Value {
        json!({ "features": WINE.rows[0] })
    }

    /// Compares a response with that of ONNX Runtime in Python.
    pub(super) fn check(&self, answer: &Value) -> Result<()> {
        let (given, right) = (numbers(&answer["prediction"]), numbers(&self.answer));
        let problem = distance(&given, &right);
        ensure!(problem.is_none(), "{}: {problem:?} in {answer}", self.name);
        Ok(())
    }
}
