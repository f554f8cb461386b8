//! `modelctl optimize`: converts a model to the files that load fastest, the same on any CPU.
//!
//! ONNX Runtime optimises the graph once, here, so that no start has to. Weights go to a file of
//! their own, which is mapped into memory instead of being read. The model is marked, so that the
//! sidecar loads it unchanged. The output is written only after both models returned the same
//! outputs for the same inputs. The gain is measured: each load runs in a process of its own, as in
//! the sidecar.

mod agree;
mod gain;
mod output;
mod quantize;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use model_sidecar::engine::{DimensionNames, OnnxRuntime};
use model_sidecar::onnx::{AtLoad, Description, Format, OptimisationMark};
use serde_json::json;
use tempfile::TempDir;

use crate::console::Console;
use crate::{inputs, library, units};
use agree::Comparison;
use gain::Gain;
use output::OutputFiles;
use quantize::Quantize;

/// Minimum size of an external tensor, because each is opened and mapped separately.
const MIN_TENSOR: u64 = 1 << 10;

/// Minimum size of an external data file: below this, mapping saves less time than a further
/// request to S3 takes.
const MIN_DATA: u64 = 4 << 20;

/// Optimise a model ahead of time, so that it loads faster
///
/// Writes OUT, or OUT/MODEL.onnx if OUT is a folder, and its weights to MODEL.onnx.data in the same
/// folder (a small model stays one file). The outputs of both models are compared first; if they
/// differ, nothing is written.
#[derive(clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "Example:\n  modelctl optimize model.onnx -o out"
)]
pub(crate) struct Arguments {
    /// The model
    model: PathBuf,
    /// Output path: a file that ends in .onnx, or a folder
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Replace existing files
    #[arg(long)]
    force: bool,
    /// Priority: `start` leaves no work to the load, `balance` leaves packing weights, `runs` also
    /// the layout of convolutions. The more is left, the faster the runs
    #[arg(long, value_enum, default_value = "start")]
    favour: Favour,
    /// Maximum difference of a number, relative to the number, or to 1 if it is smaller [default:
    /// 1e-4; for FP16 and BF16 1e-2]
    #[arg(long, value_name = "PART", value_parser = tolerance)]
    tolerance: Option<f64>,
    /// Store weights in a smaller type, which the sidecar expands while it loads them; the graph
    /// stays as it is
    #[arg(long, value_enum, value_name = "TYPE", conflicts_with_all = ["favour", "tolerance"])]
    quantize: Option<Quantize>,
    /// Maximum absolute difference of a quantized model's outputs; beyond it nothing is written
    #[arg(long, value_name = "NUMBER", value_parser = tolerance, requires = "quantize")]
    max_difference: Option<f64>,
    /// Rows on which a quantized model is compared: .csv with a header, .json or .npy. The column
    /// `label`, or the list `labels`, has true labels, for the accuracy
    #[arg(long, value_name = "FILE", requires = "quantize", conflicts_with_all = ["files", "dimensions"])]
    data: Option<PathBuf>,
    #[command(flatten)]
    inputs: inputs::InputOptions,
    #[command(flatten)]
    library: library::Library,
}

#[derive(Clone, Copy, ValueEnum)]
enum Favour {
    Start,
    Balance,
    Runs,
}

fn tolerance(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|part: &f64| part.is_finite() && *part >= 0.0)
        .ok_or_else(|| "expected a number of at least 0, such as 1e-4".to_owned())
}

/// Rewrite of a model: its parts before the first file is written.
struct Rewrite {
    description: Description,
    output: OutputFiles,
    library: PathBuf,
    engine: OnnxRuntime,
    folder: TempDir,
    /// New model in the temporary folder.
    after: PathBuf,
}

impl Rewrite {
    fn prepare(arguments: &Arguments) -> anyhow::Result<Self> {
        let before = &arguments.model;
        let description = describe(before)?;
        let output =
            OutputFiles::resolve(&arguments.output, before, &description, arguments.force)?;
        let library = arguments.library.find()?;
        let engine = library::open(&library)?;
        let folder = output.temporary_folder()?;
        let after = folder.path().join(&output.name);
        Ok(Self {
            description,
            output,
            library,
            engine,
            folder,
            after,
        })
    }
}

/// Optimises the model, and prints the gain.
pub(crate) fn run(arguments: &Arguments, console: &Console) -> anyhow::Result<serde_json::Value> {
    if let Some(method) = arguments.quantize {
        let report = quantize::run(arguments, method)?;
        console.line(&report);
        return Ok(report.to_json());
    }
    let before = &arguments.model;
    let Rewrite {
        output,
        library,
        engine,
        folder,
        after,
        ..
    } = Rewrite::prepare(arguments)?;

    let names = optimise(&engine, before, &after, &output)?;
    mark(&after, &library, arguments.favour)?;

    let comparison = agree::compare(
        &engine,
        before,
        &after,
        &names,
        &arguments.inputs,
        arguments.tolerance,
    )?;
    let request = match &comparison {
        Comparison::Agree { first, .. } if arguments.inputs.files.is_empty() => {
            let file = folder.path().join(format!("{}.input.json", output.name));
            inputs::write(&file, first)?;
            Some(file)
        }
        _ => arguments.inputs.files.first().cloned(),
    };
    let gain = Gain::measure(before, &after, &library, request.as_deref())?;

    let written = output.publish(folder.path())?;
    console.line(&gain);
    if let Comparison::Agree { runs, .. } = &comparison {
        console.line(runs);
    }
    console.line(&comparison);
    let other = match arguments.favour {
        Favour::Start => Some("--favour balance, or runs,"),
        Favour::Balance => Some("--favour runs"),
        Favour::Runs => None,
    };
    if let (Comparison::Agree { slower: true, .. }, Some(other)) = (&comparison, other) {
        console.line(format_args!(
            "runs are slower than before; {other} makes a model that runs faster and loads slower"
        ));
    }
    for file in &written {
        let size = units::bytes(fs::metadata(file)?.len());
        console.line(format_args!("wrote {} ({size})", file.display()));
    }
    Ok(json!({
        "gain": gain.to_json(),
        "comparison": comparison.to_string(),
        "files": written,
    }))
}

/// Reads the model's description, and rejects a model that must not be optimised.
fn describe(model: &Path) -> anyhow::Result<Description> {
    let name = model.display();
    let file = File::open(model).with_context(|| format!("cannot open {name}"))?;
    if !file.metadata()?.is_file() {
        bail!("{name} is not a file");
    }
    let description = Description::read(&file).with_context(|| name.to_string())?;
    if description.format == Format::Ort {
        bail!(
            "{name} is in ONNX Runtime's own format, which is already optimised; give the original .onnx file"
        );
    }
    if description.weight_storage().is_some() {
        bail!("{name} is already quantized; give the original model");
    }
    if let Some(mark) = description.mark() {
        bail!(
            "{name} is already optimised (by {}); give the original model",
            mark.by
        );
    }
    Ok(description)
}

/// Writes the optimised model, with an external data file if it has enough data.
fn optimise(
    engine: &OnnxRuntime,
    before: &Path,
    after: &Path,
    output: &OutputFiles,
) -> anyhow::Result<DimensionNames> {
    let write = |least| {
        engine.optimise(before, after, &output.data, least).map_err(|error| {
            let text = error.to_string();
            let error = anyhow::Error::from(error);
            // ONNX Runtime's error messages for an unknown operator.
            if text.contains("not a registered function/op") || text.contains("No Op registered for") {
                error.context(
                    "the model has operators that ONNX Runtime does not know; one with custom operators cannot be \
                     optimised here",
                )
            } else {
                error
            }
        })
    };
    let data = after.with_file_name(&output.data);
    let names = write(MIN_TENSOR)?;
    if fs::metadata(&data).map_or(0, |data| data.len()) < MIN_DATA {
        write(MIN_DATA)?;
        // The data file stays empty.
        match fs::remove_file(&data) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(names)
}

/// Appends the mark, and verifies that it can be read.
fn mark(model: &Path, library: &Path, favour: Favour) -> anyhow::Result<()> {
    let mark = OptimisationMark {
        by: format!("{}, extended", library::version(library)),
        at_load: match favour {
            Favour::Start => AtLoad::Map,
            Favour::Balance => AtLoad::AsItIs,
            Favour::Runs => AtLoad::Optimise,
        },
    };
    let mut file = OpenOptions::new().append(true).open(model)?;
    file.write_all(&mark.bytes())?;
    let read = Description::read(&File::open(model)?)?;
    if read.mark() != Some(mark) {
        bail!("the mark of the optimised model cannot be read back");
    }
    Ok(())
}
