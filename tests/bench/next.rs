//! `make bench-next`: the delay that an idle extension adds to an invocation.
//!
//! Two times of the lab. *INVOKE to next*: from the lab's response to an extension's `next` to that
//! extension's following call. `PostRuntimeExtensions`, as AWS reports it: from the runtime's call
//! of `next` to the last extension's, zero if the extension was first.
//!
//! The sidecar takes turns with its alternatives: an extension that does nothing, which is the
//! lower bound of lab and machine, and no extension. The function is the lab's probe, which calls
//! nothing; in a further contender the handler calls the sidecar. All are measured twice: frozen
//! and thawed around each invocation, as on Lambda, where every process must be woken first, and
//! without freezes.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::lambda::{Builder, Function};
use lab::s3::S3Server;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::figures::{Figures, Goal, milliseconds, percentile};
use lab::reference::WINE;

const PROBE: &str = "probe";
const SIDECAR: &str = "model-sidecar";
/// Invocations per turn; contenders take turns, so that disturbances of the machine affect them
/// equally.
const TURN: usize = 50;
/// Goal of this project.
const GOAL_MS: f64 = 1.0;

/// The alternatives, in the order of the table.
const KINDS: [(&str, Option<&str>); 4] = [
    ("the sidecar", Some(SIDECAR)),
    ("the sidecar, predicting", Some(SIDECAR)),
    ("an extension that does nothing", Some(PROBE)),
    ("no extension", None),
];

/// One alternative.
struct Alternative {
    name: String,
    extension: Option<&'static str>,
    function: Function,
    event: Value,
}

/// Its times, in milliseconds.
struct Times {
    to_next: Vec<f64>,
    post_runtime: Vec<f64>,
    duration: Vec<f64>,
}

pub(crate) async fn run(invocations: usize) -> Result<ExitCode> {
    println!(
        "From INVOKE to `next` with nothing due, {invocations} invocations each; development builds, on this machine."
    );
    let folders = Folders::new()?;
    let s3 = S3Server::start().await?;
    let file = lab::artifacts::workspace().join("tests/models/wine-v1.onnx");
    s3.put("models", "wine.onnx", std::fs::read(file)?);
    let contenders = contenders(&folders, &s3).await?;
    // The first invocation includes an Init.
    for contender in &contenders {
        contender.invoke().await?;
    }
    let checks = s3.requests().len();
    for from in (0..invocations).step_by(TURN) {
        for contender in &contenders {
            for _ in from..invocations.min(from + TURN) {
                contender.invoke().await?;
            }
        }
    }
    ensure!(
        s3.requests().len() == checks,
        "the sidecar polled during the bench"
    );
    let mut times = Vec::new();
    for contender in &contenders {
        times.push(contender.times(invocations).await?);
    }
    print(&contenders, &times);
    let mut figures = Figures::of("next");
    let (frozen, awake) = times.split_at(KINDS.len());
    for (who, times) in [("sidecar", &frozen[0]), ("sidecar, predicting", &frozen[1])] {
        let name = format!("{who}: PostRuntimeExtensions p99");
        let tail = percentile(&times.post_runtime, 99.0);
        figures.add_with_goal(name, tail, "ms", Goal::Below(GOAL_MS));
    }
    judge(&mut figures, "frozen between", frozen);
    judge(&mut figures, "left awake", awake);
    figures.end()
}

/// Compares the sidecar, which is not called, with its alternatives.
fn judge(figures: &mut Figures, when: &str, times: &[Times]) {
    let [sidecar, _, floor, none] = times else {
        unreachable!("as many as there are kinds");
    };
    for percent in [50.0, 99.0] {
        let [ours, least] = [sidecar, floor].map(|times| percentile(&times.to_next, percent));
        let name = format!("{when}: INVOKE to next p{percent}, above the floor");
        figures.add_with_goal(name, ours - least, "ms", Goal::Below(GOAL_MS));
        let name = format!("{when}: INVOKE to next p{percent}, over the floor");
        figures.add(name, ours / least, "×");
        let [with, floor, without] =
            [sidecar, floor, none].map(|times| percentile(&times.duration, percent));
        let name = format!("{when}: Duration p{percent}, over the floor");
        figures.add(name, with / floor, "×");
        let name = format!("{when}: Duration p{percent}, over no extension");
        figures.add(name, with / without, "×");
    }
}

fn print(contenders: &[Alternative], times: &[Times]) {
    println!(
        "\n{:48}{:>22}{:>24}{:>22}\n{:48}{:>22}{:>24}{:>22}",
        "milliseconds",
        "INVOKE to next",
        "PostRuntimeExtensions",
        "Duration",
        "",
        "p50    p90    p99",
        "p50    p90    p99",
        "p50    p90    p99"
    );
    for (contender, times) in contenders.iter().zip(times) {
        let three = |values: &[f64]| {
            if values.is_empty() {
                return "-".to_owned();
            }
            let [low, middle, high] =
                [50.0, 90.0, 99.0].map(|percent| format!("{:7.3}", percentile(values, percent)));
            low + &middle + &high
        };
        println!(
            "{:48}{:>22}{:>24}{:>22}",
            contender.name,
            three(&times.to_next),
            three(&times.post_runtime),
            three(&times.duration)
        );
    }
}

/// All alternatives, the frozen ones first.
async fn contenders(folders: &Folders, s3: &S3Server) -> Result<Vec<Alternative>> {
    let mut all = Vec::new();
    for frozen in [true, false] {
        for (kind, (name, extension)) in KINDS.into_iter().enumerate() {
            let (builder, event) = recipe(kind, folders, s3)?;
            let builder = builder.timeout(Duration::from_secs(30)).max_environments(1);
            let when = if frozen {
                "frozen between"
            } else {
                "left awake"
            };
            all.push(Alternative {
                name: format!("{name}, {when}"),
                extension,
                function: builder.freeze_when_idle(frozen).start().await?,
                event,
            });
        }
    }
    Ok(all)
}

/// Configuration of a kind, and its event.
fn recipe(kind: usize, folders: &Folders, s3: &S3Server) -> Result<(Builder, Value)> {
    let probe = folders.function();
    let with_sidecar = |function: &Path| {
        anyhow::Ok(
            Function::of(lab::artifacts::layer()?, function)
                .envs(s3.env())
                .env("MODEL_URI", "s3://models/wine.onnx")
                .env("MODEL_PORT", "0")
                .env("MODEL_METRICS", "emf")
                // Longer than the bench, so that no poll is due.
                .env("MODEL_REFRESH_INTERVAL", "1h")
                .env("MODEL_METRICS_INTERVAL", "1h"),
        )
    };
    Ok(match kind {
        0 => (with_sidecar(&probe)?, json!({})),
        1 => (
            with_sidecar(&lab::artifacts::function()?)?,
            json!({ "features": WINE.rows[..9] }),
        ),
        2 => (Function::of(folders.layer_with_probe(), &probe), json!({})),
        _ => (Function::of(folders.layer_without(), &probe), json!({})),
    })
}

impl Alternative {
    async fn invoke(&self) -> Result<()> {
        let answer = self.function.answer(&self.event).await?;
        let right = answer.get("echo").is_some() || answer.get("prediction").is_some();
        ensure!(right, "{}: {answer}", self.name);
        Ok(())
    }

    /// Times of all invocations but the first.
    async fn times(&self, invocations: usize) -> Result<Times> {
        let reports = self.function.wait_for_reports(invocations + 1).await?;
        let reports = reports.iter().skip(1);
        let environment = self.function.environment().context("no environment")?;
        let trace = environment.trace();
        let calls: Vec<_> = trace
            .iter()
            .filter(|call| {
                Some(call.from.as_str()) == self.extension && call.path.ends_with("/event/next")
            })
            .collect();
        let mut to_next = Vec::new();
        for pair in calls.windows(2) {
            if pair[0].event().as_deref() == Some("INVOKE") {
                let answered = pair[0]
                    .answered
                    .context("an event that was not delivered")?;
                to_next.push(milliseconds(pair[1].asked.saturating_sub(answered)));
            }
        }
        let to_next = to_next.split_off(1.min(to_next.len()));
        let expected = if self.extension.is_some() {
            invocations
        } else {
            0
        };
        ensure!(
            to_next.len() == expected,
            "{}: {} INVOKE events instead of {expected}",
            self.name,
            to_next.len()
        );
        Ok(Times {
            to_next,
            post_runtime: reports
                .clone()
                .map(|report| milliseconds(report.post_runtime_extensions))
                .collect(),
            duration: reports
                .map(|report| milliseconds(report.duration))
                .collect(),
        })
    }
}

/// Layers and a function made of the lab's probe.
struct Folders(TempDir);

impl Folders {
    fn new() -> Result<Self> {
        let folders = Self(tempfile::Builder::new().prefix("bench").tempdir()?);
        let own = std::env::current_exe()?;
        let probe = own.with_file_name(PROBE);
        let extension = folders.layer_with_probe().join("extensions").join(PROBE);
        std::fs::create_dir(folders.layer_without())?;
        for to in [extension, folders.function().join("bootstrap")] {
            let mut install = Command::new("install");
            install.args(["-D", "-m", "755"]).arg(&probe).arg(&to);
            ensure!(
                install.status()?.success(),
                "cannot copy {}",
                probe.display()
            );
        }
        Ok(folders)
    }

    fn layer_with_probe(&self) -> PathBuf {
        self.0.path().join("with")
    }

    fn layer_without(&self) -> PathBuf {
        self.0.path().join("without")
    }

    fn function(&self) -> PathBuf {
        self.0.path().join("function")
    }
}
