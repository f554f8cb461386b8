//! `modelctl optimize --quantize`: stores weights in a smaller type, and measures the effect.
//!
//! The graph stays, and its large weights become 8-bit integers or FP16, so that the download is a
//! quarter or half as long. The sidecar expands the weights to FP32 while it reads them. Both
//! models are run on the same rows before anything is written.

mod golden;

use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use model_sidecar::engine::{Cancel, Engine as _, Session};
use model_sidecar::onnx::{LeftAlone, Quantization, QuantizedWeights, WeightStorage};
use model_sidecar::tensor::{Signature, Value, common_rows};
use serde_json::json;

use super::gain::{Gain, Row, median};
use super::{Arguments, Rewrite};
use crate::data;
use crate::deviation::{self, Deviation};
use crate::failure::rejected;
use crate::inputs::{self, Inputs};
use crate::units;

/// Level of compression of the measured size, the default of the program `zstd`.
const ZSTD_LEVEL: i32 = 3;

/// Maximum number of rows of a run.
const RUN_ROWS: usize = 32;

/// Number of alternating measured runs of both models, if they take no longer than this together.
const RUNS: usize = 25;
const TIME_FOR_RUNS: Duration = Duration::from_secs(5);

/// Type in which weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Quantize {
    /// 8-bit integers with a scale per channel: a quarter of the bytes
    Int8,
    /// FP16 numbers: half of the bytes
    Fp16,
    /// Products of matrices with 8-bit integers: a quarter of the bytes, and faster runs with other
    /// rounding
    Int8Dynamic,
}

impl Quantize {
    fn method(self) -> Quantization {
        match self {
            Self::Int8 => Quantization::Int8,
            Self::Fp16 => Quantization::Fp16,
            Self::Int8Dynamic => Quantization::Int8Dynamic,
        }
    }
}

/// Measurements, and the files that were written.
pub(super) struct Report {
    rows: Vec<Row>,
    storage: WeightStorage,
    weights: QuantizedWeights,
    comparison: Comparison,
    files: Vec<PathBuf>,
}

/// Comparison of the outputs.
enum Comparison {
    Compared {
        /// Number of runs and rows in words.
        inputs: String,
        outputs: Vec<(String, Deviation)>,
        accuracy: Option<Accuracy>,
    },
    /// The model itself cannot be run on generated inputs.
    NotCompared(String),
}

/// Rows whose label is the true one, of both models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Accuracy {
    before: usize,
    after: usize,
    rows: usize,
}

/// Inputs of all runs.
struct Rows {
    runs: Vec<Inputs>,
    /// True label of each row, if the data have them.
    labels: Option<Vec<String>>,
}

impl Rows {
    fn read(file: &Path, signature: &Signature) -> anyhow::Result<Self> {
        let runs = data::Rows::read(file, signature)?.batches(signature, RUN_ROWS)?;
        let mut labels = data::labels(file)?;
        let rows: Option<usize> = runs.iter().map(rows_of).sum();
        if let (Some(labels), Some(rows)) = (&mut labels, rows) {
            // Rows that do not fill a run of a fixed number of rows are left out.
            labels.truncate(rows);
        }
        Ok(Self { runs, labels })
    }
}

/// Number of rows that all values have in common.
fn rows_of(values: &Inputs) -> Option<usize> {
    common_rows(values.iter().map(|(_, value)| value))
}

/// Outputs of both models on all inputs.
struct Outputs {
    before: Vec<Inputs>,
    after: Vec<Inputs>,
}

/// Quantizes the model. Writes nothing if a difference exceeds `--max-difference`.
pub(super) fn run(arguments: &Arguments, quantize: Quantize) -> anyhow::Result<Report> {
    let before = &arguments.model;
    let Rewrite {
        description,
        output,
        library,
        engine,
        folder,
        after,
    } = Rewrite::prepare(arguments)?;

    let method = quantize.method();
    let weights = QuantizedWeights::write(before, &after, method)?;
    if weights.stored.is_empty() {
        return Err(rejected(nothing_to_store(&weights)));
    }
    let names = arguments.inputs.dimension_names(&engine, before)?;
    let sessions = [before.as_path(), &after].map(|model| engine.load(model, None));
    let [original, quantized] = sessions;
    let original = original?;
    let quantized = quantized.context("cannot load the quantized model; nothing is written")?;
    if original.signature() != quantized.signature() {
        bail!("the quantized model has other inputs or outputs; nothing is written");
    }
    let rows = match &arguments.data {
        Some(file) => Rows::read(file, original.signature())?,
        None => Rows {
            runs: arguments.inputs.read(original.signature(), &names)?,
            labels: None,
        },
    };
    let is_generated = arguments.data.is_none() && arguments.inputs.files.is_empty();
    let outputs = match outputs(&*original, &*quantized, &rows.runs)? {
        Err(reason) if is_generated => Err(reason),
        Err(reason) => bail!("the model cannot be run on the given inputs: {reason}"),
        Ok(outputs) => Ok(outputs),
    };
    let (comparison, request, mut table) = match &outputs {
        Err(reason) => (Comparison::NotCompared(reason.clone()), None, Vec::new()),
        Ok(outputs) => {
            let comparison = compare(outputs, &rows, is_generated)?;
            let request = folder.path().join(".input.json");
            inputs::write(&request, &rows.runs[0])?;
            let runs = time(&*original, &*quantized, &rows.runs[0])?;
            (comparison, Some(request), vec![runs])
        }
    };
    check(&comparison, arguments.max_difference)?;
    if let (Ok(outputs), Comparison::Compared { outputs: found, .. }) = (&outputs, &comparison) {
        let examples = golden::examples(&rows.runs, outputs, found);
        golden::write(&folder.path().join(output.golden()), &examples)?;
    }
    drop((original, quantized));

    let gain = Gain::measure(before, &after, &library, request.as_deref())?;
    table.splice(0..0, gain.into_rows());
    table.insert(2, compressed(before, &description, &after)?);
    let files = output.publish(folder.path())?;
    Ok(Report {
        rows: table,
        storage: method.storage(),
        weights,
        comparison,
        files,
    })
}

/// Error of a model without weights that can be stored.
fn nothing_to_store(weights: &QuantizedWeights) -> String {
    let mut text = "cannot quantize the model: it has no FP32 weight of 1024 or more numbers that a MatMul, Gemm, \
                    Conv, Gather, LSTM, GRU or RNN uses"
        .to_owned();
    if weights.left.is_empty() {
        let _ = write!(text, " (its operators: {})", weights.operators.join(", "));
    }
    for left in reasons(&weights.left) {
        let _ = write!(text, "; left alone: {left}");
    }
    text + "; nothing is written"
}

/// Runs both models. The inner error is that of the original model.
fn outputs(
    before: &dyn Session,
    after: &dyn Session,
    runs: &[Inputs],
) -> anyhow::Result<Result<Outputs, String>> {
    let mut outputs = Outputs {
        before: Vec::new(),
        after: Vec::new(),
    };
    for inputs in runs {
        match before.run(inputs, &[], &Cancel::default()) {
            Ok(found) => outputs.before.push(found),
            Err(error) => return Ok(Err(error.to_string())),
        }
        let found = after.run(inputs, &[], &Cancel::default());
        outputs.after.push(found.context(
            "the quantized model fails where the original does not; nothing is written",
        )?);
    }
    Ok(Ok(outputs))
}

fn compare(outputs: &Outputs, rows: &Rows, is_generated: bool) -> anyhow::Result<Comparison> {
    let mut found: Vec<(String, Deviation)> = Vec::new();
    for (before, after) in outputs.before.iter().zip(&outputs.after) {
        for (index, ((name, before), (_, after))) in before.iter().zip(after).enumerate() {
            if found.len() == index {
                found.push((name.clone(), Deviation::default()));
            }
            let added = found[index].1.add(before, after);
            added.map_err(|reason| {
                anyhow::anyhow!(
                    "output {name:?} of the quantized model differs: {reason}; nothing is written"
                )
            })?;
        }
    }
    let runs = rows.runs.len();
    let count: Option<usize> = rows.runs.iter().map(rows_of).sum();
    let inputs = match count {
        _ if is_generated => format!("{runs} generated inputs"),
        Some(count) => format!("{count} rows"),
        None => format!("{runs} inputs"),
    };
    let accuracy = match &rows.labels {
        Some(labels) => Some(Accuracy::of(outputs, labels)?),
        None => None,
    };
    Ok(Comparison::Compared {
        inputs,
        outputs: found,
        accuracy,
    })
}

impl Accuracy {
    fn of(outputs: &Outputs, labels: &[String]) -> anyhow::Result<Self> {
        let count = |runs: &[Inputs]| {
            let predicted: Option<Vec<Vec<String>>> = runs.iter().map(predicted).collect();
            let predicted = predicted.unwrap_or_default().concat();
            if predicted.len() != labels.len() {
                bail!(
                    "the rows have {} labels, and the model's outputs have {}",
                    labels.len(),
                    predicted.len()
                );
            }
            Ok(predicted
                .iter()
                .zip(labels)
                .filter(|(found, label)| found == label)
                .count())
        };
        Ok(Self {
            before: count(&outputs.before)?,
            after: count(&outputs.after)?,
            rows: labels.len(),
        })
    }
}

/// Predicted labels: of the output that has labels, or else of the first with scores.
fn predicted(outputs: &Inputs) -> Option<Vec<String>> {
    let values = || outputs.iter().map(|(_, value)| value);
    let named = values().find(|value| deviation::has_named_labels(value));
    let value: Option<&Value> =
        named.or_else(|| values().find(|it| deviation::labels(it).is_some()));
    deviation::labels(value?)
}

/// Fails if a difference exceeds the maximum, or if it is unknown.
fn check(comparison: &Comparison, most: Option<f64>) -> anyhow::Result<()> {
    let Some(most) = most else {
        return Ok(());
    };
    match comparison {
        Comparison::NotCompared(reason) => Err(rejected(format!(
            "cannot check --max-difference: the model cannot be run on generated inputs ({reason}); give rows with \
             --data; nothing is written"
        ))),
        Comparison::Compared { outputs, .. } => {
            for (name, deviation) in outputs {
                if deviation.largest > most {
                    return Err(rejected(format!(
                        "output {name:?} differs by up to {:.1e}, and --max-difference allows {most:.1e}; nothing is \
                         written",
                        deviation.largest
                    )));
                }
            }
            Ok(())
        }
    }
}

/// Median times of a run.
fn time(before: &dyn Session, after: &dyn Session, inputs: &Inputs) -> anyhow::Result<Row> {
    let start = Instant::now();
    let mut times = (Vec::new(), Vec::new());
    while times.0.len() < 3 || (times.0.len() < RUNS && start.elapsed() < TIME_FOR_RUNS) {
        for (session, times) in [(before, &mut times.0), (after, &mut times.1)] {
            let start = Instant::now();
            session.run(inputs, &[], &Cancel::default())?;
            times.push(start.elapsed());
        }
    }
    Ok(Row {
        name: "one run",
        before: units::milliseconds(median(times.0)),
        after: units::milliseconds(median(times.1)),
    })
}

/// Sizes when compressed with Zstandard.
fn compressed(
    before: &Path,
    description: &model_sidecar::onnx::Description,
    after: &Path,
) -> anyhow::Result<Row> {
    let size = |file: &Path| {
        let content = fs::read(file)?;
        let mut to = vec![0; zstd_safe::compress_bound(content.len())];
        let size = zstd_safe::compress(&mut to[..], &content, ZSTD_LEVEL).map_err(|code| {
            anyhow::anyhow!(
                "cannot compress the model: {}",
                zstd_safe::get_error_name(code)
            )
        })?;
        anyhow::Ok(size as u64)
    };
    let mut all = size(before)?;
    for file in &description.external {
        all += size(&before.with_file_name(file.as_str()))?;
    }
    Ok(Row {
        name: "with zstd",
        before: units::bytes(all),
        after: units::bytes(size(after)?),
    })
}

/// Weights that stay, grouped by reason: the total bytes, and the largest of them.
fn reasons(left: &[LeftAlone]) -> Vec<String> {
    let mut groups: Vec<(&str, Vec<&LeftAlone>)> = Vec::new();
    for weight in left {
        match groups
            .iter_mut()
            .find(|(reason, _)| *reason == weight.reason)
        {
            Some((_, group)) => group.push(weight),
            None => groups.push((&weight.reason, vec![weight])),
        }
    }
    let text = |(reason, group): (&str, Vec<&LeftAlone>)| {
        let bytes = units::bytes(group.iter().map(|weight| weight.bytes).sum());
        match group.as_slice() {
            [one] => format!("{} ({bytes}): {reason}", one.name),
            [first, rest @ ..] => {
                format!("{} and {} more ({bytes}): {reason}", first.name, rest.len())
            }
            [] => String::new(),
        }
    };
    groups.into_iter().map(text).collect()
}

impl Report {
    /// Report as JSON.
    pub(super) fn to_json(&self) -> serde_json::Value {
        let table: serde_json::Map<String, serde_json::Value> = self
            .rows
            .iter()
            .filter(|row| !row.name.is_empty())
            .map(|row| {
                (
                    row.name.to_owned(),
                    json!({"before": row.before, "after": row.after}),
                )
            })
            .collect();
        let left = self.weights.left.iter();
        let left: Vec<_> = left
            .map(|it| json!({"name": it.name, "bytes": it.bytes, "reason": it.reason}))
            .collect();
        let (outputs, accuracy) = match &self.comparison {
            Comparison::Compared {
                outputs, accuracy, ..
            } => {
                let each = outputs
                    .iter()
                    .map(|(name, it)| (name.clone(), it.to_json()));
                (Some(each.collect::<serde_json::Map<_, _>>()), *accuracy)
            }
            Comparison::NotCompared(_) => (None, None),
        };
        json!({
            "gain": table,
            "stored_as": self.storage.name(),
            "stored_weights": self.weights.stored.len(),
            "left_alone": left,
            "outputs": outputs,
            "accuracy": accuracy.map(|it| json!({
                "before": it.before, "after": it.after, "rows": it.rows
            })),
            "files": self.files,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        let stored = &self.weights.stored;
        let (bytes, now) = stored.iter().fold((0, 0), |(bytes, now), weight| {
            (bytes + weight.bytes, now + weight.stored_bytes)
        });
        writeln!(
            f,
            "{} weights stored as {}: {} instead of {}",
            stored.len(),
            self.storage.name(),
            units::bytes(now),
            units::bytes(bytes)
        )?;
        for left in reasons(&self.weights.left) {
            writeln!(f, "left alone: {left}")?;
        }
        writeln!(f, "{}", self.comparison)?;
        let sizes = self.files.iter().map(|file| {
            let size = fs::metadata(file).map_or(0, |metadata| metadata.len());
            format!("wrote {} ({})", file.display(), units::bytes(size))
        });
        f.write_str(&sizes.collect::<Vec<_>>().join("\n"))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCompared(reason) => write!(
                f,
                "outputs were NOT compared: the model cannot be run on inputs generated from its signature \
                 ({reason}); give rows with --data; accuracy not measured"
            ),
            Self::Compared {
                inputs,
                outputs,
                accuracy,
            } => {
                for (name, deviation) in outputs {
                    writeln!(f, "output {name} on {inputs}: {deviation}")?;
                }
                match accuracy {
                    Some(it) => write!(
                        f,
                        "accuracy: {} of {} rows before, {} after",
                        it.before, it.rows, it.after
                    ),
                    None => f.write_str("accuracy not measured: --data with labels measures it"),
                }
            }
        }
    }
}
