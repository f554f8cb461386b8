//! The steps, in their order. Each says what happens, does it, and checks what it says.

mod bump;
mod cold_start;
mod end;
mod servers;

use anyhow::{Context as _, Result, ensure};
use lab::rie::ExecutionEnvironment;
use serde_json::Value;
use tokio::sync::watch;

use crate::story::Story;
use crate::traffic::{Tally, Traffic};
use crate::wine::{Answer, Reference, Wines, cultivar};

const BUCKET: &str = "models";
const KEY: &str = "wine/model.onnx";
/// Wines shown one by one: of each cultivar two; the versions disagree about every other one.
const SHOWN: [usize; 6] = [0, 25, 62, 83, 142, 177];
/// What the steps hand on.
pub(crate) struct Demo {
    wines: Wines,
    tally: watch::Sender<Tally>,
    /// Requests answered outside the traffic.
    asked: u64,
    running: Option<Running>,
}

struct Running {
    lambda: ExecutionEnvironment,
    version: String,
    processes: Vec<i32>,
}

impl Demo {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            wines: Wines::read()?,
            tally: watch::Sender::default(),
            asked: 0,
            running: None,
        })
    }

    /// The environment, while there is one.
    pub(crate) fn lambda(&self) -> Option<&ExecutionEnvironment> {
        self.running.as_ref().map(|running| &running.lambda)
    }

    pub(crate) async fn run(&mut self, story: &mut Story) -> Result<()> {
        story.heading(
            "Model Sidecar, from nothing",
            "The extension and the handler as they are deployed, under AWS's Lambda emulator, beside \
             an S3 and a CloudWatch on this machine that check every request as AWS does.",
        );
        let s3 = servers::storage(story).await?;
        let cloudwatch = servers::monitoring(story).await?;
        self.cold_start(story, &s3, &cloudwatch).await?;
        self.predictions(story).await?;
        self.bump(story, &s3).await?;
        self.metrics(story, &cloudwatch).await?;
        self.shutdown(story, &s3, &cloudwatch).await
    }

    fn running(&self) -> Result<&Running> {
        self.running.as_ref().context("no environment runs")
    }

    async fn predictions(&mut self, story: &mut Story) -> Result<()> {
        story.step(
            "Predictions on real rows",
            "Some of scikit-learn's 178 wines, 13 measurements each, go through Lambda; the answers \
             are held against scikit-learn's own predict_proba.",
        );
        let all: Vec<usize> = (0..self.wines.len()).collect();
        let first = self.running()?.version.clone();
        let shown = self.ask(&SHOWN, &first).await?;
        shown.compare(&self.wines.v1, &SHOWN)?;
        story.head(&format!(
            "{:>5} {:>9} {:>11} {:>13} {:>14}",
            "wine", "cultivar", "prediction", "probability", "scikit-learn"
        ));
        for (at, &wine) in SHOWN.iter().enumerate() {
            let label = shown.prediction[at];
            story.row(&format!(
                "{wine:>5} {:>9} {label:>11} {:>13.6} {:>14.6}",
                cultivar(wine),
                shown.probabilities[at][label],
                self.wines.v1.probabilities[wine][label]
            ));
        }
        let answer = self.ask(&all, &first).await?;
        let largest = answer.compare(&self.wines.v1, &all)?;
        let right = right(&self.wines.v1);
        story.holds(&format!(
            "all {} wines in one request: every label is scikit-learn's ({right} are the true \
             cultivar), and no probability differs by more than {largest:.0e}",
            all.len()
        ));
        Ok(())
    }

    /// One invocation, which `version` must answer.
    async fn ask(&mut self, wines: &[usize], version: &str) -> Result<Answer> {
        let running = self.running()?;
        let answer = running.lambda.answer(&self.wines.request(wines)).await?;
        let answer = Answer::read(answer.to_string().as_bytes())?;
        ensure!(
            answer.model_version == version,
            "version {} answered, not {version}",
            answer.model_version
        );
        self.asked += 1;
        Ok(answer)
    }

    fn traffic<'a>(&'a self, running: &'a Running) -> Traffic<'a> {
        Traffic {
            lambda: &running.lambda,
            wines: &self.wines,
            first: &running.version,
            tally: &self.tally,
        }
    }
}

/// How many wines scikit-learn's model finds the true cultivar of.
fn right(reference: &Reference) -> usize {
    let labels = reference.labels.iter().enumerate();
    labels
        .filter(|(wine, label)| cultivar(*wine) == **label)
        .count()
}

/// A field of a line of the log that is a JSON object.
fn field(line: &str, name: &str) -> Option<Value> {
    serde_json::from_str::<Value>(line).ok()?.get(name).cloned()
}
