//! `modelctl check`: loads a model as the sidecar does, and reports what a publisher should know.

mod findings;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use model_sidecar::engine::{DimensionNames, Engine as _};
use model_sidecar::onnx::{Description, Format, Outline};
use model_sidecar::tensor::{Port, Signature};
use serde_json::{Value, json};

use crate::changes::counted;
use crate::console::Console;
use crate::context::Context;
use crate::failure::rejected;
use crate::load::{self, Took};
use crate::publish::{describe, signature_json};
use crate::{inputs, library, units};

/// Number of measured loads, after one that brings the files into memory.
const LOADS: usize = 3;
/// Memory of a function apart from the model, in bytes: the runtime, the handler and the sidecar.
const REST: u64 = 96 << 20;
/// Least and greatest memory of a function in MB.
const FUNCTION: (u64, u64) = (128, 10_240);

/// Load a model as the sidecar does, and report what matters
///
/// Reports inputs, outputs, operators, time and memory of a load and of a run. Suggests the memory
/// of a function, and names what will not work. The model is run on inputs generated from its signature, unless
/// --input gives some.
#[derive(clap::Args)]
#[command(after_help = "Example:
  modelctl check model.onnx --dim x.0=4")]
pub(crate) struct Arguments {
    /// The model's file
    model: PathBuf,
    #[command(flatten)]
    inputs: inputs::InputOptions,
    #[command(flatten)]
    library: library::Library,
}

/// Measurements of a model, and what it was found to be.
struct Report {
    signature: Signature,
    outline: Outline,
    files: usize,
    bytes: u64,
    took: Took,
    /// Reason for which the model was loaded and not run.
    not_run: Option<String>,
    findings: Vec<String>,
}

/// Checks the model.
pub(crate) fn run(
    arguments: &Arguments,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Value> {
    let model = &arguments.model;
    let description = describe(model)?;
    let library = arguments.library.find()?;
    let outline = match description.format {
        Format::Onnx => Outline::read(&File::open(model)?)?,
        Format::Ort => Outline::default(),
    };
    let bytes = size(model, &description)?;
    let engine = context.engine(&library)?;
    let session = engine.load(model, Some(&description)).map_err(|error| {
        rejected(format!(
            "cannot load {}: {error}{}",
            model.display(),
            findings::remedy(&error.to_string())
        ))
    })?;
    let signature = session.signature().clone();
    drop(session);
    let names = arguments.inputs.dimension_names(engine, model)?;
    let (took, not_run) = measured(arguments, &signature, &names, &library)?;
    let report = Report {
        findings: findings::of(&signature, &outline, bytes),
        signature,
        outline,
        files: 1 + description.external.len(),
        bytes,
        took,
        not_run,
    };
    report.show(console);
    Ok(report.to_json())
}

/// Size of all files of the model in bytes.
fn size(model: &Path, description: &Description) -> anyhow::Result<u64> {
    let mut bytes = std::fs::metadata(model)?.len();
    for path in &description.external {
        let file = model.with_file_name(path.as_str());
        let there = std::fs::metadata(&file).map_err(|error| {
            rejected(format!(
                "cannot use {}: its data file {} cannot be read: {error}",
                model.display(),
                file.display()
            ))
        })?;
        bytes += there.len();
    }
    Ok(bytes)
}

/// Measures loads and runs. Without valid inputs, loads alone, with the reason.
fn measured(
    arguments: &Arguments,
    signature: &Signature,
    names: &DimensionNames,
    library: &Path,
) -> anyhow::Result<(Took, Option<String>)> {
    let model = &arguments.model;
    let all = match arguments.inputs.read(signature, names) {
        Ok(all) => all,
        // A sequence or a map cannot be generated.
        Err(error) if arguments.inputs.is_default() => {
            return Ok((measure(model, library, None)?, Some(format!("{error:#}"))));
        }
        Err(error) => return Err(error),
    };
    if let Some(file) = arguments.inputs.files.first() {
        return Ok((measure(model, library, Some(file))?, None));
    }
    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let request = folder.path().join("input.json");
    inputs::write(&request, all.first().context("no input was generated")?)?;
    match measure(model, library, Some(&request)) {
        Ok(took) => Ok((took, None)),
        // Generated inputs may be invalid, such as indices outside of a table.
        Err(error) => Ok((measure(model, library, None)?, Some(format!("{error:#}")))),
    }
}

impl Report {
    fn show(&self, console: &Console) {
        let Self { took, bytes, .. } = self;
        show_signature(console, &self.signature);
        show_outline(console, &self.outline);
        let files = counted(self.files, "file");
        console.line(format_args!(
            "size         {} in {files}",
            units::bytes(*bytes)
        ));
        console.line(format_args!(
            "load         {}",
            units::milliseconds(took.load)
        ));
        if let (Some(first), Some(warm)) = (took.first_run, took.warm_run) {
            console.line(format_args!(
                "run          {} warm, {} the first time",
                short(warm),
                short(first)
            ));
        }
        let not_run = if self.not_run.is_some() {
            ", without a run"
        } else {
            ""
        };
        console.line(format_args!(
            "peak memory  {}{not_run}",
            units::bytes(took.peak_bytes)
        ));
        console.line(format_args!(
            "function     {} MB or more: the peak and {} for the rest; {} MB for reloads alongside the active version",
            suggested_memory(took.peak_bytes),
            units::bytes(REST),
            suggested_memory(took.peak_bytes + bytes)
        ));
        if let Some(reason) = &self.not_run {
            console.line(format_args!(
                "the model was NOT run: {reason}; give valid inputs with --input, or other lengths with --dim"
            ));
        }
        for finding in &self.findings {
            console.line(format_args!("note: {finding}"));
        }
    }

    fn to_json(&self) -> Value {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        json!({
            "signature": signature_json(&self.signature),
            "ir_version": self.outline.ir_version,
            "opsets": self.outline.opsets,
            "operators": self.outline.operators,
            "files": self.files,
            "bytes": self.bytes,
            "load_ms": milliseconds(self.took.load),
            "first_run_ms": self.took.first_run.map(milliseconds),
            "warm_run_ms": self.took.warm_run.map(milliseconds),
            "peak_bytes": self.took.peak_bytes,
            "memory_mb": suggested_memory(self.took.peak_bytes),
            "not_run": self.not_run,
            "notes": self.findings,
        })
    }
}

/// Median load of several, each in a process of its own.
fn measure(model: &Path, library: &Path, request: Option<&Path>) -> anyhow::Result<Took> {
    load::measure(model, library, request)?;
    let mut all = Vec::new();
    for _ in 0..LOADS {
        all.push(load::measure(model, library, request)?);
    }
    all.sort_by_key(|took| took.load);
    all.get(LOADS / 2).copied().context("no load was measured")
}

/// Time of a run, which may be microseconds.
fn short(time: Duration) -> String {
    if time < Duration::from_millis(1) {
        return format!("{} µs", time.as_micros());
    }
    units::milliseconds(time)
}

/// Memory of a function in MB, for this peak of the sidecar.
fn suggested_memory(peak: u64) -> u64 {
    let megabytes = (peak + REST).div_ceil(1 << 20);
    megabytes.next_multiple_of(64).clamp(FUNCTION.0, FUNCTION.1)
}

fn show_signature(console: &Console, signature: &Signature) {
    let show = |side: &str, ports: &[Port]| {
        for port in ports {
            console.line(format_args!("{side:<12} {} {}", port.name, port.kind));
        }
    };
    show("input", &signature.inputs);
    show("output", &signature.outputs);
}

fn show_outline(console: &Console, outline: &Outline) {
    if outline.operators.is_empty() {
        return;
    }
    let opsets = outline.opsets.iter();
    let opsets = opsets.map(|(domain, version)| format!("{domain} {version}"));
    console.line(format_args!(
        "opset        {}; IR version {}",
        opsets.collect::<Vec<_>>().join(", "),
        outline.ir_version
    ));
    let mut operators: Vec<_> = outline.operators.iter().collect();
    operators.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let operators = operators
        .iter()
        .map(|(name, count)| format!("{name} {count}"));
    console.line(format_args!(
        "operators    {}",
        operators.collect::<Vec<_>>().join(", ")
    ));
}
