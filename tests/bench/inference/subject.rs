//! Models made by `inference/models.py`, with their requests in every form, and their expected
//! responses.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::client;
use lab::reference::{distance, numbers};

/// One model.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) name: &'static str,
    folder: PathBuf,
    shape: &'static [usize],
    input: Vec<f32>,
    /// Name of the input.
    port: &'static str,
    answer: Value,
}

impl Subject {
    pub(super) fn of(folder: &Path, name: &'static str) -> Result<Self> {
        let answers = std::fs::read(folder.join("answers.json"));
        let answers = answers.context("no models: run `make bench-inference`")?;
        let answers: Value = serde_json::from_slice(&answers)?;
        let (port, shape): (_, &[usize]) = match name {
            "image" => ("x", &[1, 3, 224, 224]),
            "heavy" => ("x", &[1, 13]),
            _ => ("X", &[1, 13]),
        };
        let input = std::fs::read(folder.join(format!("{name}.f32")))?;
        let input = input.chunks_exact(4);
        let input: Vec<f32> = input
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        ensure!(
            input.len() == shape.iter().product::<usize>(),
            "{name}: a wrong input"
        );
        Ok(Self {
            name,
            folder: folder.to_owned(),
            shape,
            input,
            port,
            answer: answers[name].clone(),
        })
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.onnx", self.name))
    }

    /// Argument of `bench-runs` for the model.
    pub(super) fn for_bare(&self) -> String {
        let numbers = self.numbers();
        let shape = self.shape.iter().map(usize::to_string);
        let shape = shape.collect::<Vec<_>>().join(",");
        let file = self.file();
        format!(
            "{}={},{},{shape}",
            self.name,
            file.display(),
            numbers.display()
        )
    }

    /// The numbers, nested by the shape.
    fn nested(&self) -> Value {
        let mut values: Vec<Value> = self.input.iter().map(|number| json!(number)).collect();
        for length in self.shape[1..].iter().rev() {
            values = values.chunks(*length).map(|chunk| json!(chunk)).collect();
        }
        json!(values)
    }

    /// A request in the plain form, at this path.
    pub(super) fn plain(&self, path: &str) -> Vec<u8> {
        let body = json!({ "features": self.nested() }).to_string();
        client::post(path, "", body.as_bytes())
    }

    /// The same with the row this many times.
    pub(super) fn plain_rows(&self, path: &str, rows: usize) -> Vec<u8> {
        let row = json!(self.input).to_string();
        let body = format!("{{\"features\":[{}]}}", vec![row; rows].join(","));
        client::post(path, "", body.as_bytes())
    }

    /// File with the numbers of the input, little-endian.
    pub(super) fn numbers(&self) -> PathBuf {
        self.folder.join(format!("{}.f32", self.name))
    }

    /// JSON body of the Open Inference Protocol.
    pub(super) fn json(&self) -> Vec<u8> {
        let input = json!({
            "name": self.port, "shape": self.shape, "datatype": "FP32", "data": self.input,
        });
        json!({ "inputs": [input] }).to_string().into_bytes()
    }

    /// A request of the Open Inference Protocol, in JSON.
    pub(super) fn v2(&self) -> Vec<u8> {
        client::post(&self.infer(), "", &self.json())
    }

    /// The same with the numbers after the JSON, in Triton's binary extension.
    pub(super) fn binary(&self) -> Vec<u8> {
        self.binary_rows(1)
    }

    /// The same with the input this many times.
    pub(super) fn binary_rows(&self, rows: usize) -> Vec<u8> {
        let (path, headers, body) = self.binary_parts(rows);
        let lines = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        client::post(&path, &lines.collect::<String>(), &body)
    }

    /// Path, headers and body of [`Self::binary_rows`].
    pub(super) fn binary_parts(
        &self,
        rows: usize,
    ) -> (String, BTreeMap<&'static str, String>, Vec<u8>) {
        let bytes = self.bytes().repeat(rows);
        let mut shape = self.shape.to_vec();
        shape[0] = rows;
        let input = json!({
            "name": self.port, "shape": shape, "datatype": "FP32",
            "parameters": { "binary_data_size": bytes.len() },
        });
        let head = json!({ "inputs": [input] }).to_string();
        let length = ("inference-header-content-length", head.len().to_string());
        let body = [head.as_bytes(), &bytes].concat();
        (self.infer(), BTreeMap::from([length]), body)
    }

    /// The numbers, little-endian.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let numbers = self.input.iter();
        numbers.flat_map(|one| one.to_le_bytes()).collect()
    }

    fn infer(&self) -> String {
        format!("/v2/models/{}/infer", self.name)
    }

    /// Compares the first output of a response in any form with that of ONNX Runtime in Python.
    pub(super) fn check(&self, body: &[u8]) -> Result<()> {
        let answer: Value = serde_json::from_slice(body).context("the response is not JSON")?;
        let given = match answer.get("prediction") {
            Some(prediction) => prediction,
            None => &answer["outputs"][0]["data"],
        };
        let problem = distance(&numbers(given), &numbers(&self.answer));
        ensure!(problem.is_none(), "{}: {problem:?} in {answer}", self.name);
        Ok(())
    }
}
