//! `modelctl check`: loads a model as the sidecar does, and reports what a publisher should know.

mod findings;

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use model_sidecar::engine::Engine as _;
use model_sidecar::onnx::{Format, Outline};
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
  modelctl check model.onnx --dim batch=1")]
pub(crate) struct Arguments {
    /// The model's file
    model: PathBuf,
    #[command(flatten)]
    inputs: inputs::InputOptions,
    #[command(flatten)]
    library: library::Library,
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
    let mut bytes = std::fs::metadata(model)?.len();
    for path in &description.external {
        let file = model.with_file_name(path.as_str());
        let there = std::fs::metadata(&file);
        bytes += there
            .map_err(|error| {
                rejected(format!(
                    "cannot use {}: its data file {} is not there: {error}",
                    model.display(),
                    file.display()
                ))
            })?
            .len();
    }
    let engine = context.engine(&library)?;
    let session = engine.load(model, Some(&description)).map_err(|error| {
        rejected(format!(
            "cannot load {}: {error}{}",
            model.display(),
            findings::remedy(&error.to_string())
        ))
    })?;
    let signature = session.signature();
    let findings = findings::of(signature, &outline, bytes);

    let folder = tempfile::tempdir().context("cannot create a temporary folder")?;
    let request = folder.path().join("input.json");
    let names = Vec::new();
    let (request, not_run) = match arguments.inputs.read(signature, &names) {
        Ok(all) if arguments.inputs.files.is_empty() => {
            inputs::write(&request, &all[0])?;
            (Some(request), None)
        }
        Ok(_) => (arguments.inputs.files.first().cloned(), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    };
    let measured = measure(model, &library, request.as_deref());
    let (took, not_run) = match measured {
        Ok(took) => (took, not_run),
        // Generated inputs may be invalid, such as indices outside of a table.
        Err(error) if arguments.inputs.files.is_empty() => {
            (measure(model, &library, None)?, Some(format!("{error:#}")))
        }
        Err(error) => return Err(error),
    };
    let memory = suggested_memory(took.peak_bytes);

    show_signature(console, signature);
    show_outline(console, &outline);
    let files = counted(1 + description.external.len(), "file");
    console.line(format_args!(
        "size         {} in {files}",
        units::bytes(bytes)
    ));
    console.line(format_args!(
        "load         {}",
        units::milliseconds(took.load)
    ));
    if let (Some(first), Some(warm)) = (took.first_run, took.warm_run) {
        console.line(format_args!(
            "run          {} warm, {} the first time",
            units::milliseconds(warm),
            units::milliseconds(first)
        ));
    }
    console.line(format_args!(
        "peak memory  {}{}",
        units::bytes(took.peak_bytes),
        if not_run.is_some() {
            ", without a run"
        } else {
            ""
        }
    ));
    console.line(format_args!(
        "function     {memory} MB or more (the peak and {}); for reloads alongside the active version, \
         {} MB",
        units::bytes(REST),
        suggested_memory(took.peak_bytes + bytes)
    ));
    if let Some(reason) = &not_run {
        console.line(format_args!(
            "the model was NOT run: {reason}; give valid inputs with --input, or other lengths with --dim"
        ));
    }
    for finding in &findings {
        console.line(format_args!("note: {finding}"));
    }
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(json!({
        "signature": signature_json(signature),
        "ir_version": outline.ir_version,
        "opsets": outline.opsets,
        "operators": outline.operators,
        "files": 1 + description.external.len(),
        "bytes": bytes,
        "load_ms": milliseconds(took.load),
        "first_run_ms": took.first_run.map(milliseconds),
        "warm_run_ms": took.warm_run.map(milliseconds),
        "peak_bytes": took.peak_bytes,
        "memory_mb": memory,
        "not_run": not_run,
        "notes": findings,
    }))
}

/// Median load of several, each in a process of its own.
fn measure(
    model: &std::path::Path,
    library: &std::path::Path,
    request: Option<&std::path::Path>,
) -> anyhow::Result<Took> {
    load::measure(model, library, request)?;
    let mut all = Vec::new();
    for _ in 0..LOADS {
        all.push(load::measure(model, library, request)?);
    }
    all.sort_by_key(|took| took.load);
    all.get(LOADS / 2).copied().context("no load was measured")
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
