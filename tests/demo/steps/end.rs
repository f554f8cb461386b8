//! Shutdown, and CloudWatch's final metrics.

use std::time::Instant;

use anyhow::{Result, ensure};
use lab::cloudwatch::CloudWatch;
use lab::s3::S3Server;
use serde_json::Value;

use super::servers::asked_of_s3;
use super::{Demo, ms};
use crate::console::{Console, grouped};
use crate::lambda::{Lambda, field};
use crate::metrics;

impl Demo {
    /// Returns the number of inferences that CloudWatch received in the shutdown.
    pub(super) async fn shutdown(
        &mut self,
        console: &mut Console,
        s3: &S3Server,
        cloudwatch: &CloudWatch,
    ) -> Result<u64> {
        console.step(
            "Clean shutdown",
            "Each sidecar gets 2 s to flush its metrics to CloudWatch and exit.",
        );
        let before = metrics::whole(metrics::inferences(cloudwatch));
        let mut ends = Vec::new();
        for lambda in self.lambdas() {
            let ending = || "Lambda shuts the environment down".to_owned();
            ends.push(console.during(ending, end(lambda)).await?);
        }
        console.verified(&format!(
            "each exited by itself, {}, and removed its socket; the logs contain no warning, no \
             error and no unsent metric",
            ends.join(" and ")
        ));
        asked_of_s3(console, s3)?;
        Ok(metrics::whole(metrics::inferences(cloudwatch)) - before)
    }

    pub(super) fn metrics(
        &self,
        console: &mut Console,
        cloudwatch: &CloudWatch,
        late: u64,
    ) -> Result<()> {
        console.step(
            "Metrics in CloudWatch",
            "Sent in parallel with the first invocation after the hour, and at SHUTDOWN.",
        );
        metrics::table(cloudwatch, console)?;
        metrics::check(cloudwatch)?;
        let sent = self.asked + self.tally.borrow().answered();
        let known = metrics::whole(metrics::inferences(cloudwatch));
        ensure!(
            known == sent,
            "CloudWatch has {known} inferences instead of {sent}"
        );
        let apart = metrics::minutes_apart(cloudwatch)?;
        console.verified(&format!(
            "the number of inferences equals that of the requests, {} of them sent at SHUTDOWN. \
             Each is in its minute; the first and the last are {apart} minutes apart",
            grouped(late)
        ));
        console.verified("one cold start, two reloads, two downloads (the third version was still cached), and no error");
        Ok(())
    }
}

/// Shuts a function down; returns the text to print.
async fn end(lambda: &Lambda) -> Result<String> {
    let (process, socket) = (lambda.sidecar()?, lambda.socket()?);
    let environment = lambda.environment()?;
    let begun = Instant::now();
    let log = lambda.function.shutdown().await;
    let took = begun.elapsed();
    let lines = log.lines();
    let shut_down = lines
        .iter()
        .filter(|line| field(line, "message").is_some_and(|text| text == "shutting down"));
    let reasons: Vec<Value> = shut_down.filter_map(|line| field(line, "reason")).collect();
    ensure!(
        reasons == ["spindown"],
        "the sidecar logged these shutdowns: {reasons:?}"
    );
    // The sidecar removes its socket as its last action; after a kill it would remain.
    ensure!(
        !socket.exists(),
        "the sidecar was killed before it exited: its socket remains"
    );
    let left = environment.pids();
    ensure!(left.is_empty(), "processes remain: {left:?}");
    let bad = lines.iter().find(|line| {
        let level = field(line, "level");
        level.is_some_and(|level| level == "WARN" || level == "ERROR")
            || field(line, "_aws").is_some()
    });
    ensure!(bad.is_none(), "the log has a warning or an error: {bad:?}");
    Ok(format!("process {process} after {}", ms(took)))
}
