//! Rows of data for a model: CSV, JSON or `.npy`, decoded as the sidecar decodes requests.
//!
//! A file becomes JSON rows, and the rows become the body of a prediction request. So a row means
//! here what it means to the sidecar, down to the rounding of its numbers.

mod labels;
mod npy;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use model_sidecar::protocol::{predict, v2};
use model_sidecar::request_memory::Charge;
use model_sidecar::tensor::{Kind, Signature};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::inputs::Inputs;
pub(crate) use labels::labels;

/// Maximum number of rows of a run.
const MAX_BATCH: usize = 256;

/// Column of CSV with the true label of each row. It is no feature.
const LABEL: &str = "label";

/// Option for the data.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DataOptions {
    /// Rows: a .csv with a heading, a .npy array, or .json: a list of rows, or the body of a request
    #[arg(long, value_name = "FILE")]
    pub(crate) data: PathBuf,
}

/// Rows of a file.
pub(crate) enum Rows {
    /// Each row as JSON.
    Listed(Vec<String>),
    /// A request of the Open Inference Protocol, which is one batch.
    Request(Vec<u8>),
}

impl Rows {
    /// Reads a file; the extension of its name tells the format.
    pub(crate) fn read(file: &Path, signature: &Signature) -> anyhow::Result<Self> {
        let extension = file.extension().and_then(|extension| extension.to_str());
        let read = || match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("csv") => csv(file, signature),
            Some("npy") => npy::rows(&std::fs::read(file)?).map(Rows::Listed),
            Some("json") => json_rows(std::fs::read(file)?),
            _ => bail!("the extension must be .csv, .json or .npy"),
        };
        let rows = read().with_context(|| format!("cannot read --data {}", file.display()))?;
        if matches!(&rows, Rows::Listed(rows) if rows.is_empty()) {
            bail!("cannot read --data {}: there are no rows", file.display());
        }
        Ok(rows)
    }

    /// Returns the inputs of runs of at most `size` rows each. A model with a fixed first dimension
    /// has that many rows in each run; the rest is left out.
    pub(crate) fn batches(
        &self,
        signature: &Signature,
        size: usize,
    ) -> anyhow::Result<Vec<Inputs>> {
        let rows = match self {
            Rows::Listed(rows) => rows,
            Rows::Request(body) => {
                let body = body.clone().into();
                let charge = &mut Charge::unlimited();
                let (decoded, _) = v2::decode(&body, None, signature, charge)?;
                return Ok(vec![decoded.inputs]);
            }
        };
        let fixed = signature.fixed_batch();
        let size = fixed.unwrap_or(size.clamp(1, MAX_BATCH));
        let batches = rows.chunks(size);
        let batches = batches.filter(|batch| fixed.is_none_or(|fixed| batch.len() == fixed));
        let mut first = 0;
        let inputs = batches.map(|batch| {
            let body = format!("{{\"features\": [{}]}}", batch.join(","));
            let decoded = predict::decode(body.as_bytes(), signature, &mut Charge::unlimited());
            let at = first;
            first += batch.len();
            decoded
                .map(|decoded| decoded.inputs)
                .with_context(|| format!("cannot use rows {at} to {} of --data", first - 1))
        });
        let inputs = inputs.collect::<anyhow::Result<Vec<_>>>()?;
        if inputs.is_empty() {
            bail!(
                "cannot use --data: the model takes {size} rows at once, and there are {}",
                rows.len()
            );
        }
        Ok(inputs)
    }

    /// Returns the bodies of requests: a row in each or, for a model with a fixed first dimension, that many rows.
    pub(crate) fn bodies(&self, signature: &Signature) -> Vec<Vec<u8>> {
        match self {
            Rows::Listed(rows) => rows
                .chunks_exact(signature.fixed_batch().unwrap_or(1))
                .map(|rows| format!("{{\"features\": [{}]}}", rows.join(",")).into_bytes())
                .collect(),
            Rows::Request(body) => vec![body.clone()],
        }
    }

    /// Keeps the first rows.
    pub(crate) fn truncate(&mut self, count: usize) {
        if let Rows::Listed(rows) = self {
            rows.truncate(count);
        }
    }
}

fn json_rows(text: Vec<u8>) -> anyhow::Result<Rows> {
    let value: &RawValue = serde_json::from_slice(&text).context("it is not JSON")?;
    let list = |raw: &RawValue| -> anyhow::Result<Rows> {
        let rows: Vec<&RawValue> =
            serde_json::from_str(raw.get()).context("expected a list of rows")?;
        Ok(Rows::Listed(
            rows.iter().map(|row| row.get().to_owned()).collect(),
        ))
    };
    if value.get().starts_with('[') {
        return list(value);
    }
    let fields: std::collections::BTreeMap<String, &RawValue> =
        serde_json::from_str(value.get()).context("expected a list of rows, or a request")?;
    match ["features", "instances"]
        .iter()
        .find_map(|name| fields.get(*name))
    {
        Some(rows) => list(rows),
        None if fields.contains_key("inputs") => Ok(Rows::Request(text)),
        None => {
            bail!("expected a list of rows, or an object with `features`, `instances` or `inputs`")
        }
    }
}

/// Reads rows of text. A row is an object by name if the columns have the names of the inputs.
/// Otherwise it is a list, in the order of the columns.
fn csv(file: &Path, signature: &Signature) -> anyhow::Result<Rows> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(file)?;
    let columns: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
    let has = |name: &str| columns.iter().any(|column| column == name);
    let by_name = signature.required().all(|port| has(&port.name));
    let texts = |name: &str| {
        let port = signature.input(name);
        port.is_some_and(
            |port| matches!(port.kind, Kind::Tensor { datatype, .. } if datatype.size().is_none()),
        )
    };
    let only = signature.required().next().map(|port| port.name.clone());
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record?;
        let row = if by_name {
            let named = columns.iter().zip(&record);
            let inputs = named.filter(|(column, _)| signature.input(column).is_some());
            let fields =
                inputs.map(|(column, cell)| (column.clone(), self::cell(cell, texts(column))));
            Value::Object(fields.collect::<Map<_, _>>())
        } else {
            let is_text = only.as_deref().is_some_and(texts);
            let features = columns
                .iter()
                .zip(&record)
                .filter(|(column, _)| *column != LABEL);
            features.map(|(_, text)| cell(text, is_text)).collect()
        };
        rows.push(row.to_string());
    }
    Ok(Rows::Listed(rows))
}

/// Value of a cell: text, or a number, which is `null` (NaN) if it is missing.
fn cell(text: &str, is_text: bool) -> Value {
    if is_text {
        return json!(text);
    }
    match text.to_ascii_lowercase().as_str() {
        "" | "nan" | "na" | "null" => Value::Null,
        "true" => json!(true),
        "false" => json!(false),
        "inf" | "infinity" => json!("Infinity"),
        "-inf" | "-infinity" => json!("-Infinity"),
        // A whole number keeps all its digits.
        _ => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(whole), _) => json!(whole),
            (_, Ok(number)) => json!(number),
            _ => json!(text),
        },
    }
}
