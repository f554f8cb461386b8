//! `modelctl baseline`: distributions of a model's inputs and outputs, against which the sidecar
//! measures drift.

mod histogram;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use model_sidecar::engine::{Cancel, Engine as _};
use model_sidecar::protocol::v2;
use model_sidecar::tensor::{Data, Tensor};
use serde_json::{Value as Json, json};

use crate::console::Console;
use crate::context::Context;
use crate::data::{DataOptions, Rows};
use crate::inputs::Inputs;
use crate::json_list;
use crate::library;
use histogram::Histogram;

/// Maximum number of histograms of the inputs, and of the outputs.
const MAX_HISTOGRAMS: usize = 256;
/// Number of rows of a run.
const BATCH: usize = 256;

/// Make histograms of a model's inputs and outputs, for drift
///
/// Give the file to `publish --baseline`. Use the data that the model was trained on, or recent data
/// that it served well: at least some hundred rows.
#[derive(clap::Args)]
#[command(after_help = "Example:
  modelctl baseline model.onnx --data training.csv -o baseline.json")]
pub(crate) struct Arguments {
    /// The model's file
    model: PathBuf,
    #[command(flatten)]
    data: DataOptions,
    /// The file to write
    #[arg(short, long, value_name = "FILE", default_value = "baseline.json")]
    output: PathBuf,
    /// Maximum number of bins
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1000))]
    bins: u32,
    #[command(flatten)]
    library: library::Library,
}

/// Values of one column.
#[derive(Debug)]
struct Column {
    name: String,
    /// Index in the last dimension; `None` for all elements together.
    index: Option<usize>,
    values: Vec<f64>,
}

/// Makes the histograms.
pub(crate) fn run(
    arguments: &Arguments,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Json> {
    let engine = context.engine(&arguments.library.find()?)?;
    let session = engine.load(&arguments.model, None);
    let session = session.with_context(|| format!("cannot load {}", arguments.model.display()))?;
    let rows = Rows::read(&arguments.data.data, session.signature())?;
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    for batch in rows.batches(session.signature(), BATCH)? {
        let answer = session
            .run(&batch, &[], &Cancel::default())
            .context("cannot run the model on --data")?;
        collect(&mut inputs, batch);
        collect(&mut outputs, answer);
    }
    let bins = usize::try_from(arguments.bins)?;
    let mut lines = Vec::new();
    for (side, columns) in [("input", inputs), ("output", outputs)] {
        let number = columns.len();
        if number > MAX_HISTOGRAMS {
            console.warn(format_args!(
                "the model has {number} {side} columns; the first {MAX_HISTOGRAMS} get a histogram"
            ));
        }
        for column in columns.into_iter().take(MAX_HISTOGRAMS) {
            // A column of NaN alone has none.
            if let Some(histogram) = Histogram::of(column.values, bins) {
                let histogram = histogram.json(side, &column.name, column.index);
                lines.push(histogram.to_string());
            }
        }
    }
    if lines.is_empty() {
        bail!("cannot make a baseline: no input and no output of the model has numbers");
    }
    json_list::write(&arguments.output, &lines, "histogram", console)?;
    Ok(json!({"file": arguments.output, "histograms": lines.len()}))
}

/// Adds the values of a batch to their columns.
fn collect(columns: &mut Vec<Column>, values: Inputs) {
    for (name, value) in values {
        let Some(tensor) = v2::as_tensor(value) else {
            continue;
        };
        let Some(numbers) = numbers(&tensor) else {
            continue;
        };
        // The first dimension is the rows; a tensor without others has one column.
        let width = match tensor.shape() {
            [_, .., last] => Some(*last),
            _ => None,
        };
        for (at, number) in numbers.into_iter().enumerate() {
            let index = width.map(|width| at % width);
            let column = columns
                .iter_mut()
                .position(|column| column.name == name && column.index == index);
            let column = column.unwrap_or_else(|| {
                columns.push(Column {
                    name: name.clone(),
                    index,
                    values: Vec::new(),
                });
                columns.len() - 1
            });
            columns[column].values.push(number);
        }
    }
}

/// Elements as numbers: in the precision of the model, since the sidecar compares those. Strings
/// have none.
#[expect(
    clippy::cast_precision_loss,
    reason = "the sidecar compares the same f64"
)]
fn numbers(tensor: &Tensor) -> Option<Vec<f64>> {
    Some(match tensor.data() {
        Data::Bool(values) => values
            .iter()
            .map(|value| f64::from(u8::from(*value)))
            .collect(),
        Data::Uint8(values) => values.iter().copied().map(f64::from).collect(),
        Data::Uint16(values) => values.iter().copied().map(f64::from).collect(),
        Data::Uint32(values) => values.iter().copied().map(f64::from).collect(),
        Data::Uint64(values) => values.iter().map(|value| *value as f64).collect(),
        Data::Int8(values) => values.iter().copied().map(f64::from).collect(),
        Data::Int16(values) => values.iter().copied().map(f64::from).collect(),
        Data::Int32(values) => values.iter().copied().map(f64::from).collect(),
        Data::Int64(values) => values.iter().map(|value| *value as f64).collect(),
        Data::Fp16(values) => values.iter().map(|value| value.to_f64()).collect(),
        Data::Bf16(values) => values.iter().map(|value| value.to_f64()).collect(),
        Data::Fp32(values) => values.iter().copied().map(f64::from).collect(),
        Data::Fp64(values) => values.to_vec(),
        Data::Bytes(_) => return None,
    })
}
