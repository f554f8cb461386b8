//! The object is overwritten while requests go on.

use std::time::Instant;

use anyhow::{Result, ensure};
use lab::s3::S3Server;

use super::servers::put;
use super::{Demo, SHOWN};
use crate::story::{Story, grouped};
use crate::traffic::Tally;
use crate::wine::{self, cultivar};

/// Right answers of each version that are wanted from Lambda, and from the socket.
const ENOUGH: u64 = 100;
const ON_THE_SOCKET: usize = 3;

impl Demo {
    pub(super) async fn bump(&mut self, story: &mut Story, s3: &S3Server) -> Result<()> {
        story.step(
            "A new version, under traffic",
            "One caller invokes the function without a pause, three more ask over the sidecar's \
             socket. Meanwhile the object is overwritten with version 2, a small forest with other \
             answers. Every answer is checked, and must be wholly of one version.",
        );
        let running = self.running()?;
        let traffic = self.traffic(running);
        let script = async {
            let enough = |tally: &Tally, version: usize| {
                tally.lambda[version] >= ENOUGH && tally.socket[version] >= ENOUGH
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
                "version 1 has answered {} requests, version 2 has answered {}, failed: {}",
                grouped(tally.of(0)),
                grouped(tally.of(1)),
                tally.failed
            )
        };
        let took = story
            .during(progress, traffic.during(ON_THE_SOCKET, script))
            .await?;

        let tally = self.tally.borrow().clone();
        story.head(&format!(
            "{:<14} {:>14} {:>14}",
            "answers", "by version 1", "by version 2"
        ));
        for (way, [first, second]) in [("Lambda", tally.lambda), ("the socket", tally.socket)] {
            let (first, second) = (grouped(first), grouped(second));
            story.row(&format!("{way:<14} {first:>14} {second:>14}"));
        }
        let second = tally.second.clone().unwrap_or_default();
        story.holds(&format!(
            "{:.2} s after the upload the first answer came from version {second}; of {} requests \
             {} failed, and no caller got version 1 after version 2",
            took.as_secs_f64(),
            grouped(tally.answered() + tally.failed),
            tally.failed
        ));
        ensure!(
            running.lambda.processes("model-sidecar") == running.processes,
            "the sidecar was started again: process {:?}, before {:?}",
            running.lambda.processes("model-sidecar"),
            running.processes
        );
        story.holds(&format!(
            "it is the same process, {}: nothing was started again",
            running.processes[0]
        ));
        self.compare_versions(story, &second).await
    }

    /// The shown wines again, beside what version 1 said of them.
    async fn compare_versions(&mut self, story: &Story, second: &str) -> Result<()> {
        let answer = self.ask(&SHOWN, second).await?;
        answer.compare(&self.wines.v2, &SHOWN)?;
        story.head(&format!(
            "{:>5} {:>9} {:>14} {:>14}",
            "wine", "cultivar", "version 1", "version 2"
        ));
        let says = |label: usize, probabilities: &[f64; 3]| {
            format!("{label} ({:.6})", probabilities[label])
        };
        for (at, &wine) in SHOWN.iter().enumerate() {
            let first = says(
                self.wines.v1.labels[wine],
                &self.wines.v1.probabilities[wine],
            );
            let second = says(answer.prediction[at], &answer.probabilities[at]);
            story.row(&format!(
                "{wine:>5} {:>9} {first:>14} {second:>14}",
                cultivar(wine)
            ));
        }
        story.holds("the same wines through Lambda again: scikit-learn's answers of version 2");
        Ok(())
    }
}
