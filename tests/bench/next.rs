//! `make bench-next`: how long an extension that has nothing to do holds up an invocation.
//!
//! Two times of the lab's. *INVOKE to next*: from the lab's answer to an extension's `next` to that
//! extension's next call. `PostRuntimeExtensions`, as AWS reports it: from the runtime's call of
//! `next` to the last extension's, zero when the extension was first.
//!
//! Beside the sidecar run, in turns, its alternatives: an extension that does nothing at all, which
//! is the floor that lab and machine set, and none. The function is the lab's probe, which calls
//! nobody; in one more the handler has the sidecar predict. All run twice: frozen and thawed around
//! each invocation, as on Lambda, where every process has to be woken first, and left awake.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::lambda::{Builder, Function};
use lab::s3::S3Server;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::figures::{Figures, Goal, percentile};
use lab::reference::WINE;

const PROBE: &str = "probe";
const SIDECAR: &str = "model-sidecar";
/// In turns of so many, so that whatever else the machine does meets them all.
const TURN: usize = 50;
/// What the platform is promised. Source: this project's goals.
const GOAL_MS: f64 = 1.0;

/// The alternatives, in the order of the table.
const KINDS: [(&str, Option<&str>); 4] = [
    ("the sidecar", Some(SIDECAR)),
    ("the sidecar, predicting", Some(SIDECAR)),
    ("an extension that does nothing", Some(PROBE)),
    ("no extension", None),
];

/// One alternative.
struct Contender {
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
        "From INVOKE to `next` with nothing due, {invocations} invocations each; dev builds, on this machine."
    );
    let folders = Folders::new()?;
    let s3 = S3Server::start().await?;
    let file = lab::artifacts::workspace().join("tests/models/wine-v1.onnx");
    s3.put("models", "wine.onnx", std::fs::read(file)?);
    let contenders = contenders(&folders, &s3).await?;
    // The first has an Init in it.
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
    ensure!(s3.requests().len() == checks, "something was due");
    let mut times = Vec::new();
    for contender in &contenders {
        times.push(contender.times(invocations).await?);
    }
    tell(&contenders, &times);
    let mut figures = Figures::of("next");
    let (frozen, awake) = times.split_at(KINDS.len());
    for (who, times) in [("sidecar", &frozen[0]), ("sidecar, predicting", &frozen[1])] {
        let name = format!("{who}: PostRuntimeExtensions p99");
        let tail = percentile(&times.post_runtime, 99.0);
        figures.hold(name, tail, "ms", Goal::Below(GOAL_MS));
    }
    judge(&mut figures, "frozen between", frozen);
    judge(&mut figures, "left awake", awake);
    figures.end()
}

/// The sidecar, which is not called, beside its alternatives.
fn judge(figures: &mut Figures, when: &str, times: &[Times]) {
    let [sidecar, _, floor, none] = times else {
        unreachable!("as many as there are kinds");
    };
    for percent in [50.0, 99.0] {
        let [ours, least] = [sidecar, floor].map(|times| percentile(&times.to_next, percent));
        let name = format!("{when}: INVOKE to next p{percent}, more than the floor");
        figures.hold(name, ours - least, "ms", Goal::Below(GOAL_MS));
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

fn tell(contenders: &[Contender], times: &[Times]) {
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

/// All kinds, first those that are frozen.
async fn contenders(folders: &Folders, s3: &S3Server) -> Result<Vec<Contender>> {
    let mut all = Vec::new();
    for frozen in [true, false] {
        for (kind, (name, extension)) in KINDS.into_iter().enumerate() {
            let (builder, event) = recipe(kind, folders, s3)?;
            let builder = builder
                .timeout(Duration::from_secs(30))
                .most_environments(1);
            let when = if frozen {
                "frozen between"
            } else {
                "left awake"
            };
            all.push(Contender {
                name: format!("{name}, {when}"),
                extension,
                function: builder.freeze_when_idle(frozen).start().await?,
                event,
            });
        }
    }
    Ok(all)
}

/// What a kind is made of, and what it is asked.
fn recipe(kind: usize, folders: &Folders, s3: &S3Server) -> Result<(Builder, Value)> {
    let probe = folders.function();
    let with_sidecar = |function: &Path| {
        anyhow::Ok(
            Function::of(lab::artifacts::layer()?, function)
                .envs(s3.env())
                .env("MODEL_URI", "s3://models/wine.onnx")
                .env("MODEL_PORT", "0")
                .env("MODEL_METRICS", "emf")
                // Longer than this takes: nothing is due.
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

impl Contender {
    async fn invoke(&self) -> Result<()> {
        let answer = self.function.answer(&self.event).await?;
        let right = answer.get("echo").is_some() || answer.get("prediction").is_some();
        ensure!(right, "{}: {answer}", self.name);
        Ok(())
    }

    /// The times of all invocations but the first.
    async fn times(&self, invocations: usize) -> Result<Times> {
        let reports = self.function.wait_for_reports(invocations + 1).await?;
        let reports = reports.iter().skip(1);
        let environment = self.function.environment().context("it is gone")?;
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
                let answered = pair[0].answered.context("an event that was not given")?;
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
            "{}: {} INVOKE events in place of {expected}",
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

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
