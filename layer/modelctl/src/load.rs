//! `modelctl load`, which is not for people: loads one model in a process of its own, runs it once where it is told on
//! what, and says what that took. Weights that are mapped come into memory only when they are used, so a peak without
//! a run would promise too much.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use model_sidecar::engine::{Cancel, Engine as _};
use serde::{Deserialize, Serialize};

use crate::{inputs, library};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    model: PathBuf,
    /// Run it once on this
    #[arg(long)]
    input: Option<PathBuf>,
    #[command(flatten)]
    library: library::Library,
}

/// What a load took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Took {
    pub(crate) load: Duration,
    /// The most memory that the process ever had, ONNX Runtime's own included.
    pub(crate) peak_bytes: u64,
}

/// Loads the model, and prints what that took, for [`measure`].
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let engine = library::open(&arguments.library.find()?)?;
    let start = Instant::now();
    let session = engine.load(&arguments.model, None)?;
    let load = start.elapsed();
    if let Some(file) = &arguments.input {
        let inputs = inputs::read(file, session.signature())?;
        session.run(&inputs, &[], &Cancel::default())?;
    }
    let took = Took {
        load,
        peak_bytes: peak_bytes()?,
    };
    println!("{}", serde_json::to_string(&took)?);
    Ok(())
}

/// Loads the model in a new process, and runs it there on the request in `input`.
pub(crate) fn measure(model: &Path, library: &Path, input: Option<&Path>) -> anyhow::Result<Took> {
    let myself = std::env::current_exe().context("cannot find this program")?;
    let input = input.map(|file| [Path::new("--input"), file]);
    let output = Command::new(myself)
        .arg("load")
        .args(input.iter().flatten())
        .arg("--onnxruntime")
        .args([library, Path::new("--"), model])
        .stderr(Stdio::piped())
        .output()
        .context("cannot start this program again")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "loading it in a process of its own failed ({}): {}",
            output.status,
            said.trim()
        );
    }
    serde_json::from_slice(&output.stdout).context("what that process printed")
}

fn peak_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|figure| figure.split_ascii_whitespace().next()?.parse::<u64>().ok());
    Ok(kilobytes.context("/proc/self/status has no VmHWM")? * 1024)
}
