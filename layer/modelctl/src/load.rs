//! `modelctl load`, an internal command: loads one model in a process of its own, optionally runs
//! it some times, and prints time and peak memory. Mapped weights enter memory only when they are used,
//! so a peak without a run would be too low.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use model_sidecar::engine::{Cancel, Engine as _};
use serde::{Deserialize, Serialize};

use crate::{inputs, library};

/// Number of runs after the first one.
const WARM_RUNS: usize = 5;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    model: PathBuf,
    /// Run the model on this request
    #[arg(long)]
    input: Option<PathBuf>,
    #[command(flatten)]
    library: library::Library,
}

/// Measurements of a load.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Took {
    pub(crate) load: Duration,
    /// The first run, and the median of some more; `None` without an input.
    pub(crate) first_run: Option<Duration>,
    pub(crate) warm_run: Option<Duration>,
    /// Peak memory of the process, ONNX Runtime's own included.
    pub(crate) peak_bytes: u64,
}

/// Loads the model, and prints the measurements for [`measure`].
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<serde_json::Value> {
    let engine = library::open(&arguments.library.find()?)?;
    let start = Instant::now();
    let session = engine.load(&arguments.model, None)?;
    let load = start.elapsed();
    let mut runs = Vec::new();
    if let Some(file) = &arguments.input {
        let inputs = inputs::read(file, session.signature())?;
        for _ in 0..=WARM_RUNS {
            let start = Instant::now();
            session.run(&inputs, &[], &Cancel::default())?;
            runs.push(start.elapsed());
        }
    }
    let first_run = runs.first().copied();
    let warm = runs.get_mut(1..).unwrap_or_default();
    warm.sort_unstable();
    let took = Took {
        load,
        first_run,
        warm_run: warm.get(warm.len() / 2).copied(),
        peak_bytes: peak_bytes()?,
    };
    println!("{}", serde_json::to_string(&took)?);
    Ok(serde_json::Value::Null)
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
        .context("cannot start this program as a child process")?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "loading the model in a child process failed ({}): {}",
            output.status,
            stderr.trim()
        );
    }
    serde_json::from_slice(&output.stdout).context("cannot parse the output of the child process")
}

fn peak_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|figure| figure.split_ascii_whitespace().next()?.parse::<u64>().ok());
    Ok(kilobytes.context("/proc/self/status has no VmHWM")? * 1024)
}
