//! Requests to warm sidecars: the plain model, and the model with int8 weights, which the sidecar expands at load.
//!
//! Each round starts new processes, because processes differ by a few percent: one with int8 weights between two
//! without. The second plain one shows that noise. All take turns of a few requests with one row, so that other load of
//! the machine affects them equally.

use std::fmt;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lab::process::Process;
use lab::s3::S3Server;
use serde_json::Value;
use tempfile::TempDir;

use super::contenders::{BUCKET, ColdstartArtifacts, Contender};
use super::models::Model;
use crate::figures::{Figures, Goal, milliseconds, percentile};
use crate::inference::client::{self, Address, Client};

/// Name of this part in `--setting`.
pub(super) const NAME: &str = "warm";
/// The model.
pub(super) const MODEL: &str = "tabular-100mb";
/// Rounds, each with new processes.
const ROUNDS: usize = 5;
/// Turns of a process in a round.
const TURNS: usize = 40;
/// Requests of a turn.
const TURN: usize = 5;
/// Processes of a round.
const CONTENDERS: [Contender; 3] = [Contender::Sidecar, Contender::Int8, Contender::Sidecar];
/// Maximum ratio of the p50 with int8 weights to the plain model's.
const QUANTIZED: f64 = 1.1;

/// Medians of a model's requests in milliseconds, by round and process.
pub(super) struct WarmRequests {
    label: &'static str,
    rounds: Vec<[f64; 3]>,
}

/// A sidecar with one caller.
struct Measured {
    process: Process,
    client: Client,
    milliseconds: Vec<f64>,
    _folder: TempDir,
}

impl WarmRequests {
    /// Measures a model that also exists quantized, from `s3`.
    pub(super) async fn measure(
        artifacts: &ColdstartArtifacts,
        model: &Model,
        s3: &S3Server,
    ) -> Result<Self> {
        let mut rounds = Vec::new();
        for round in 1..=ROUNDS {
            println!("{NAME}, {}: {round} of {ROUNDS}", model.name);
            let mut all = Vec::new();
            for contender in CONTENDERS {
                all.push(Measured::start(artifacts, contender, model, s3).await?);
            }
            tokio::task::block_in_place(|| take_turns(&mut all, model))?;
            let mut medians = Vec::new();
            for one in all {
                medians.push(percentile(&one.milliseconds, 50.0));
                let status = one.process.terminate().await?;
                ensure!(status.success(), "the sidecar exited with {status}");
            }
            rounds.push([medians[0], medians[1], medians[2]]);
        }
        let label = model.label;
        Ok(Self { label, rounds })
    }

    /// Adds the figures.
    pub(super) fn judge(&self, figures: &mut Figures) {
        let label = self.label;
        let name = |of: &str| format!("warm, {label}: p50 {of}");
        figures.add(name("of a request"), self.median(plain), "ms");
        let int8 = self.median(|round| round[1]);
        figures.add(name("with int8 weights"), int8, "ms");
        let ratio = self.median(|round| round[1] / plain(round));
        let goal = Goal::AtMost(QUANTIZED);
        figures.add_with_goal(name("with int8 weights over plain"), ratio, "×", goal);
        let noise = self.median(|round| round[2] / round[0]);
        figures.add(name("of a second plain process over the first"), noise, "×");
    }

    /// Median of a value of each round.
    fn median(&self, of: impl Fn(&[f64; 3]) -> f64) -> f64 {
        let values: Vec<f64> = self.rounds.iter().map(of).collect();
        percentile(&values, 50.0)
    }
}

/// Mean of the p50 of both plain processes of a round.
fn plain(round: &[f64; 3]) -> f64 {
    f64::midpoint(round[0], round[2])
}

impl fmt::Display for WarmRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Requests to a warm sidecar, {}; p50 in ms by round",
            self.label
        )?;
        for (place, name) in ["plain", "int8 weights", "plain"].into_iter().enumerate() {
            write!(f, "\n  {name:16}")?;
            for round in &self.rounds {
                write!(f, "{:>8.2}", round[place])?;
            }
        }
        let ratio = self.median(|round| round[1] / plain(round));
        write!(f, "\n  int8 weights over plain: {ratio:.3} ×")
    }
}

impl Measured {
    async fn start(
        artifacts: &ColdstartArtifacts,
        contender: Contender,
        model: &Model,
        s3: &S3Server,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bench").tempdir()?;
        let socket = folder.path().join("socket");
        let process = Process::of(artifacts.sidecar())
            .envs(s3.env())
            .env("ORT_DYLIB_PATH", artifacts.library())
            .env(
                "MODEL_URI",
                format!("s3://{BUCKET}/{}", contender.key(model)),
            )
            .env("MODEL_THREADS", "1")
            .env("MODEL_SOCKET", &socket)
            .env("MODEL_PORT", "0")
            .env("MODEL_CACHE_DIR", folder.path().join("cache"))
            .env("MODEL_METRICS", "none")
            // Longer than the bench, so that no poll is due.
            .env("MODEL_REFRESH_INTERVAL", "1h")
            .start()?;
        process.wait_for(" ready ").await?;
        let mut client = Client::connect(&Address::Unix(socket))?;
        let body: Value = serde_json::from_slice(client.ask(&request())?)?;
        contender
            .check(model, &body)
            .with_context(|| format!("{NAME}, {}", contender.label()))?;
        Ok(Self {
            process,
            client,
            milliseconds: Vec::new(),
            _folder: folder,
        })
    }

    fn ask(&mut self, request: &[u8]) -> Result<()> {
        for _ in 0..TURN {
            let started = Instant::now();
            self.client.ask(request)?;
            self.milliseconds.push(milliseconds(started.elapsed()));
        }
        Ok(())
    }
}

/// Sends the requests in turns, whose order alternates. The first turn of each process is not measured.
fn take_turns(all: &mut [Measured], model: &Model) -> Result<()> {
    let request = request();
    for one in all.iter_mut() {
        one.ask(&request).context(model.name)?;
        one.milliseconds.clear();
    }
    for turn in 0..TURNS {
        for place in 0..all.len() {
            let place = if turn.is_multiple_of(2) {
                place
            } else {
                all.len() - 1 - place
            };
            all[place].ask(&request)?;
        }
    }
    Ok(())
}

/// A request with the event of the other contenders.
fn request() -> Vec<u8> {
    client::post("/predict", "", Model::event().to_string().as_bytes())
}
