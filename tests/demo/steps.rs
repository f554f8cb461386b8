//! Steps of the demo in order. Each announces, acts and verifies.

mod bump;
mod cold_start;
mod end;
mod freeze;
mod servers;

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use lab::cloudwatch::CloudWatch;
use tokio::sync::watch;

use crate::console::Console;
use crate::lambda::Lambda;
use crate::traffic::ResponseTally;
use crate::wine::{PredictResponse, Predictions, Wines, cultivar};

/// Wines shown individually, one of each cultivar.
const SHOWN: [usize; 3] = [0, 62, 142];

/// State passed from step to step.
pub(crate) struct Demo {
    wines: Wines,
    tally: watch::Sender<ResponseTally>,
    /// Number of requests outside the traffic, to the function that sends metrics.
    asked: u64,
    /// Names of the versions that responded, oldest first.
    versions: Vec<String>,
    /// The function, from the cold start on.
    lambda: Option<Lambda>,
    /// The same function with another clock, from the freeze on.
    other: Option<Lambda>,
}

impl Demo {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            wines: Wines::read()?,
            tally: watch::Sender::default(),
            asked: 0,
            versions: Vec::new(),
            lambda: None,
            other: None,
        })
    }

    /// All running functions.
    pub(crate) fn lambdas(&self) -> impl Iterator<Item = &Lambda> {
        self.lambda.iter().chain(&self.other)
    }

    /// Runs all steps, and returns the CloudWatch with their metrics.
    pub(crate) async fn run(&mut self, console: &mut Console) -> Result<Arc<CloudWatch>> {
        console.heading(
            "Model Sidecar demo",
            "The extension and the handler as deployed, on an emulated Lambda platform that \
             starts, freezes and ends them, with an emulated S3 and CloudWatch.",
        );
        let (s3, cloudwatch) = servers::start(console).await?;
        self.cold_start(console, &s3, &cloudwatch).await?;
        self.predictions(console).await?;
        self.bump(console, &s3).await?;
        self.freeze(console, &s3, &cloudwatch).await?;
        let late = self.shutdown(console, &s3, &cloudwatch).await?;
        self.metrics(console, &cloudwatch, late)?;
        Ok(Arc::new(cloudwatch))
    }

    fn lambda(&self) -> Result<&Lambda> {
        self.lambda.as_ref().context("no function runs")
    }

    async fn predictions(&mut self, console: &mut Console) -> Result<()> {
        console.step(
            "Predictions on real rows",
            "All of scikit-learn's 178 wines are sent through Lambda; the predictions are compared \
             with scikit-learn's predict_proba.",
        );
        let all: Vec<usize> = (0..self.wines.len()).collect();
        let first = self.versions[0].clone();
        let answer = self.ask(&all, &first).await?;
        let largest = answer.compare(&self.wines.v1, &all)?;
        console.head(&format!(
            "{:>5} {:>9} {:>11} {:>13} {:>14}",
            "wine", "cultivar", "prediction", "probability", "scikit-learn"
        ));
        for wine in SHOWN {
            let label = answer.prediction[wine];
            console.row(&format!(
                "{wine:>5} {:>9} {label:>11} {:>13.6} {:>14.6}",
                cultivar(wine),
                answer.probabilities[wine][label],
                self.wines.v1.probabilities[wine][label]
            ));
        }
        let right = right(&self.wines.v1);
        console.verified(&format!(
            "all {} in one request: every label equals scikit-learn's ({right} are the true \
             cultivar), and no probability differs by more than {largest:.0e}",
            all.len()
        ));
        Ok(())
    }

    /// One invocation, whose response must come from `version`.
    async fn ask(&mut self, wines: &[usize], version: &str) -> Result<PredictResponse> {
        let answer = self.lambda()?.ask(&self.wines.request(wines)).await?;
        ensure!(
            answer.model_version == version,
            "version {} responded, not {version}",
            answer.model_version
        );
        self.asked += 1;
        Ok(answer)
    }
}

/// Number of wines for which scikit-learn's model finds the true cultivar.
fn right(reference: &Predictions) -> usize {
    let labels = reference.labels.iter().enumerate();
    labels
        .filter(|(wine, label)| cultivar(*wine) == **label)
        .count()
}

/// A time in milliseconds.
fn ms(time: std::time::Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
