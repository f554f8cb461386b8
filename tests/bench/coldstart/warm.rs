//! Requests to warm sidecars: the plain model, and the model with int8 weights, which the sidecar expands at load.
//!
//! Each round starts new processes, because processes differ by a few percent: one with int8 weights between two
//! without. The second plain one shows that noise. All take turns of a few requests with one row, so that other load of
//! the machine affects them equally.

use std::fmt;

use anyhow::{Context as _, Result};
use lab::s3::S3Server;

use super::contenders::{BUCKET, ColdstartArtifacts, Contender};
use super::models::Model;
use crate::figures::{Figures, Goal, percentile};
use crate::inference::client;
use crate::turns::{MeasuredSidecar, Turns};

/// Name of this part in `--setting`.
pub(super) const NAME: &str = "warm";
/// The model.
pub(super) const MODEL: &str = "tabular-100mb";
/// Rounds, each with new processes.
const ROUNDS: usize = 5;
/// Requests to a process in a round.
const TURNS: Turns = Turns {
    unmeasured: 5,
    count: 40,
    requests: 5,
};
/// Processes of a round.
const CONTENDERS: [Contender; 3] = [Contender::Sidecar, Contender::Int8, Contender::Sidecar];
/// Maximum ratio of the p50 with int8 weights to the plain model's.
const QUANTIZED: f64 = 1.1;

/// Medians of a model's requests in milliseconds, by round and process.
pub(super) struct WarmRequests {
    label: &'static str,
    rounds: Vec<[f64; 3]>,
}

impl WarmRequests {
    /// Measures a model that also exists quantized, from `s3`.
    pub(super) async fn measure(
        artifacts: &ColdstartArtifacts,
        model: &Model,
        s3: &S3Server,
    ) -> Result<Self> {
        let request = client::post("/predict", "", Model::event().to_string().as_bytes());
        let mut rounds = Vec::new();
        for round in 1..=ROUNDS {
            println!("{NAME}, {}: {round} of {ROUNDS}", model.name);
            let mut all = Vec::new();
            for contender in CONTENDERS {
                let mut one = start(artifacts, contender, model, s3).await?;
                contender
                    .check(model, &one.response(&request)?)
                    .with_context(|| format!("{NAME}, {}", contender.label()))?;
                all.push(one);
            }
            tokio::task::block_in_place(|| TURNS.take(&mut all, &request)).context(model.name)?;
            let mut medians = Vec::new();
            for one in all {
                medians.push(percentile(&one.end().await?, 50.0) / 1e3);
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

async fn start(
    artifacts: &ColdstartArtifacts,
    contender: Contender,
    model: &Model,
    s3: &S3Server,
) -> Result<MeasuredSidecar> {
    let uri = format!("s3://{BUCKET}/{}", contender.key(model));
    let variables = [("MODEL_URI", &*uri), ("MODEL_METRICS", "none")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    MeasuredSidecar::start(&artifacts.sidecar(), &artifacts.library(), s3, variables).await
}
