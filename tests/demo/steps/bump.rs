//! Overwrites the object under traffic.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lab::s3::S3Server;

use super::servers::put;
use super::{Demo, SHOWN};
use crate::console::{Console, grouped};
use crate::traffic::{ResponseTally, Traffic};
use crate::wine;

/// Required number of correct responses of each version over Lambda, and over the socket.
const ENOUGH: [u64; 2] = [20, 100];

impl Demo {
    pub(super) async fn bump(&mut self, console: &mut Console, s3: &S3Server) -> Result<()> {
        console.step(
            "A new version under traffic",
            "One caller invokes continuously, with a freeze between invocations; two more send \
             requests to the sidecar's socket. The object is overwritten with version 2, a \
             small forest. Every response is verified.",
        );
        let lambda = self.lambda()?;
        let process = lambda.sidecar()?;
        let traffic = Traffic {
            lambda,
            wines: &self.wines,
            first: &self.versions[0],
            tally: &self.tally,
        };
        let script = async {
            let enough = |tally: &ResponseTally, version: usize| {
                tally.lambda[version] >= ENOUGH[0] && tally.socket[version] >= ENOUGH[1]
            };
            traffic.reaches(|tally| enough(tally, 0)).await?;
            Box::pin(put(s3, wine::V2)).await?;
            let uploaded = Instant::now();
            traffic.reaches(|tally| tally.of(1) > 0).await?;
            let took = uploaded.elapsed();
            traffic.reaches(|tally| enough(tally, 1)).await?;
            Ok(took)
        };
        let progress = || {
            let tally = self.tally.borrow();
            format!(
                "responses of version 1: {}, of version 2: {}, failed: {}",
                grouped(tally.of(0)),
                grouped(tally.of(1)),
                tally.failed
            )
        };
        let took = console.during(progress, traffic.during(script)).await?;

        let tally = self.tally.borrow().clone();
        console.head(&format!(
            "{:<14} {:>14} {:>14}",
            "responses", "of version 1", "of version 2"
        ));
        for (transport, [first, second]) in [("Lambda", tally.lambda), ("the socket", tally.socket)]
        {
            let (first, second) = (grouped(first), grouped(second));
            console.row(&format!("{transport:<14} {first:>14} {second:>14}"));
        }
        let second = tally.second.clone().context("version 2 has no name")?;
        console.verified(&format!(
            "version 2 ({second}) responded {:.2} s after the upload; {} requests, {} failed, and \
             no caller got version 1 after version 2",
            took.as_secs_f64(),
            grouped(tally.answered() + tally.failed),
            tally.failed
        ));
        let after = lambda.sidecar()?;
        ensure!(
            after == process,
            "the sidecar was restarted: process {after}, before {process}"
        );
        self.versions.push(second.clone());
        let answer = self.ask(&SHOWN, &second).await?;
        answer.compare(&self.wines.v2, &SHOWN)?;
        let (wine, label) = (SHOWN[1], answer.prediction[1]);
        let before = self.wines.v1.labels[wine];
        console.verified(&format!(
            "the same process, {process}, now predicts {label} ({:.6}) for wine {wine}, and {before} \
             ({:.6}) before: equal to scikit-learn with both versions",
            answer.probabilities[1][label], self.wines.v1.probabilities[wine][before]
        ));
        Ok(())
    }
}
