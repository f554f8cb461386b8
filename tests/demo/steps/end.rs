//! What CloudWatch has, while all runs and when it has ended.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lab::cloudwatch::CloudWatch;
use lab::s3::S3Server;
use serde_json::Value;

use super::servers::asked_of_s3;
use super::{Demo, field};
use crate::metrics::{self, FUNCTION, MODEL};
use crate::story::{Story, grouped};
use crate::traffic::socket;

impl Demo {
    pub(super) async fn metrics(
        &mut self,
        story: &mut Story,
        cloudwatch: &CloudWatch,
    ) -> Result<()> {
        story.step(
            "The metrics, as CloudWatch has them now",
            "The sidecar sends them beside an invocation, when they are due. Callers go on until the \
             reload has arrived.",
        );
        let running = self.running()?;
        let traffic = self.traffic(running);
        let arrived = async {
            let wait = cloudwatch.wait_until("ModelReloads", |data| {
                data.iter().any(|one| one.name == "ModelReloads")
            });
            wait.await.map(drop).map_err(Into::into)
        };
        let progress = || "waiting for the next flush".to_owned();
        story
            .during(progress, traffic.during(0, arrived))
            .await
            .context("the metric ModelReloads did not reach CloudWatch")?;
        metrics::table(cloudwatch, story)?;
        metrics::check(cloudwatch)?;
        story.holds(&format!(
            "one cold start, one reload, the bytes of both versions, no error of any kind; all under \
             FunctionName={FUNCTION}, ModelName={MODEL}"
        ));
        Ok(())
    }

    pub(super) async fn shutdown(
        &mut self,
        story: &mut Story,
        s3: &S3Server,
        cloudwatch: &CloudWatch,
    ) -> Result<()> {
        story.step(
            "A clean shutdown",
            "Lambda gives the sidecar SHUTDOWN and 2 s. It stops accepting, sends what CloudWatch \
             does not have yet, and ends.",
        );
        let running = self.running()?;
        let before = metrics::inferences(cloudwatch);
        let begun = Instant::now();
        let ending = || "Lambda shuts the environment down".to_owned();
        let log = story.during(ending, running.lambda.shutdown()).await?;
        let took = begun.elapsed();
        let lines = log.lines();
        let shut_down = lines
            .iter()
            .filter(|line| field(line, "message").is_some_and(|text| text == "shutting down"));
        let reasons: Vec<Value> = shut_down.filter_map(|line| field(line, "reason")).collect();
        ensure!(
            reasons == ["SandboxTerminated"],
            "the sidecar logged these shutdowns: {reasons:?}"
        );
        // The sidecar removes its socket as the very last thing; killed, it would have left it.
        ensure!(
            !socket(&running.lambda).exists(),
            "the sidecar was killed before it had ended: its socket is left"
        );
        story.holds(&format!(
            "SHUTDOWN came, and the sidecar ended by itself, its socket removed, in {} ms",
            took.as_millis()
        ));

        let sent = self.asked + self.tally.borrow().answered();
        let known = metrics::whole(metrics::inferences(cloudwatch));
        ensure!(
            known == sent,
            "CloudWatch has {known} inferences, and {sent} requests were answered"
        );
        let late = known - metrics::whole(before);
        story.holds(&format!(
            "with what the last flush brought ({}), CloudWatch has {} inferences, as many as requests \
             were answered",
            grouped(late),
            grouped(known)
        ));
        metrics::check(cloudwatch)?;
        let bad = lines.iter().find(|line| {
            let level = field(line, "level");
            level.is_some_and(|level| level == "WARN" || level == "ERROR")
                || field(line, "_aws").is_some()
        });
        ensure!(bad.is_none(), "the log tells of something wrong: {bad:?}");
        story.holds("no metric was left for the log, which has no warning and no error");
        asked_of_s3(story, s3)
    }
}
