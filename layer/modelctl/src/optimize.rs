//! `modelctl optimize`: from a model the files that start fastest, the same on any CPU.
//!
//! ONNX Runtime optimises the graph once, here, so that no start has to; weights go to a file of their own, which it
//! maps into memory instead of reading it; and the model is marked, so that the sidecar loads it as it is. Nothing is
//! written before the two models were run on the same inputs and agreed. What was gained is measured, never assumed:
//! each load in a process of its own, the way the sidecar does it.

mod agree;
mod gain;
mod place;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use model_sidecar::engine::{DimensionNames, OnnxRuntime};
use model_sidecar::onnx::{AtLoad, Description, Format, Mark};

use crate::{inputs, library, units};
use agree::Verdict;
use gain::Gain;
use place::Place;

/// Smaller tensors stay in the model: each that does not is opened and mapped by itself.
const MIN_TENSOR: u64 = 1 << 10;

/// Below this, weights stay in the model: mapping a file saves less than asking S3 for it takes.
const MIN_DATA: u64 = 4 << 20;

/// Optimise a model ahead of time, so that it starts faster
///
/// Writes OUT, or OUT/MODEL.onnx where OUT is a folder, and its weights beside it as MODEL.onnx.data (small models
/// stay one file). The outputs of both are compared first; when they differ, nothing is written.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// The model
    model: PathBuf,
    /// Where to write the optimised one: a file that ends in .onnx, or a folder
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Replace what is there
    #[arg(long)]
    force: bool,
    /// What counts more. Each leaves more to the load, for faster runs: `start` nothing, `balance` packing weights,
    /// `runs` also the layout of convolutions
    #[arg(long, value_enum, default_value = "start")]
    favour: Favour,
    /// How far numbers may be apart, as a part of the number, or of 1 if it is smaller [default: 1e-4; of FP16 and BF16 1e-2]
    #[arg(long, value_name = "PART", value_parser = tolerance)]
    tolerance: Option<f64>,
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
        .ok_or_else(|| "expected a number from 0 on, such as 1e-4".to_owned())
}

/// Does it, and says what was gained.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let before = &arguments.model;
    let description = describe(before)?;
    let place = Place::find(&arguments.output, before, &description, arguments.force)?;
    let library = arguments.library.find()?;
    let engine = library::open(&library)?;
    let folder = place.folder_beside()?;
    let after = folder.path().join(&place.name);

    let names = optimise(&engine, before, &after, &place)?;
    mark(&after, &library, arguments.favour)?;

    let verdict = agree::compare(
        &engine,
        before,
        &after,
        &names,
        &arguments.inputs,
        arguments.tolerance,
    )?;
    let request = match &verdict {
        Verdict::Agree { first, .. } if arguments.inputs.files.is_empty() => {
            let file = folder.path().join(format!("{}.input.json", place.name));
            inputs::write(&file, first)?;
            Some(file)
        }
        _ => arguments.inputs.files.first().cloned(),
    };
    let gain = Gain::measure(before, &after, &library, request.as_deref())?;

    let written = place.take(folder.path())?;
    println!("{gain}");
    if let Verdict::Agree { runs, .. } = &verdict {
        println!("{runs}");
    }
    println!("{verdict}");
    let other = match arguments.favour {
        Favour::Start => Some("--favour balance, or runs,"),
        Favour::Balance => Some("--favour runs"),
        Favour::Runs => None,
    };
    if let (Verdict::Agree { slower: true, .. }, Some(other)) = (&verdict, other) {
        println!(
            "runs are slower than before: {other} makes a model that runs faster, and loads less fast"
        );
    }
    for file in written {
        let size = units::bytes(fs::metadata(&file)?.len());
        println!("wrote {} ({size})", file.display());
    }
    Ok(())
}

/// Reads what the model says of itself, and refuses what is not to be optimised.
fn describe(model: &Path) -> anyhow::Result<Description> {
    let name = model.display();
    let file = File::open(model).with_context(|| format!("cannot open {name}"))?;
    if !file.metadata()?.is_file() {
        bail!("{name} is not a file");
    }
    let description = Description::read(&file).with_context(|| name.to_string())?;
    if description.format == Format::Ort {
        bail!(
            "{name} is in ONNX Runtime's own format, which is optimised already; give the .onnx file that it was made from"
        );
    }
    if let Some(mark) = description.mark() {
        bail!(
            "{name} is optimised already (by {}); give the model that it was made from",
            mark.by
        );
    }
    Ok(description)
}

/// Writes the optimised model, with its data in a file of its own if there is enough of it.
fn optimise(
    engine: &OnnxRuntime,
    before: &Path,
    after: &Path,
    place: &Place,
) -> anyhow::Result<DimensionNames> {
    let write = |least| {
        engine.optimise(before, after, &place.data, least).map_err(|error| {
            let text = error.to_string();
            let error = anyhow::Error::from(error);
            // ONNX Runtime's words for an operator that nobody registered.
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
    let data = after.with_file_name(&place.data);
    let names = write(MIN_TENSOR)?;
    if fs::metadata(&data).map_or(0, |data| data.len()) < MIN_DATA {
        write(MIN_DATA)?;
        // What is written to it is nothing.
        match fs::remove_file(&data) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(names)
}

/// Appends the mark, and sees that it is read.
fn mark(model: &Path, library: &Path, favour: Favour) -> anyhow::Result<()> {
    let mark = Mark {
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
