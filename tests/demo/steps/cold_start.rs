//! Cold start: the first event starts all processes.

use std::time::Instant;

use anyhow::{Context as _, Result};
use lab::cloudwatch::CloudWatch;
use lab::lambda::Report;
use lab::s3::S3Server;

use super::{Demo, ms};
use crate::console::Console;
use crate::lambda::{BUCKET, EVERY, KEY, Lambda, Monotonic, field};
use crate::timeline::Ready;

impl Demo {
    pub(super) async fn cold_start(
        &mut self,
        console: &mut Console,
        s3: &S3Server,
        cloudwatch: &CloudWatch,
    ) -> Result<()> {
        console.step(
            "A cold start",
            "With the first event Lambda starts the layer's sidecar, which downloads and loads the \
             model, and the handler, which forwards the event to the sidecar.",
        );
        console.paragraph(&format!(
            "MODEL_URI=s3://{BUCKET}/{KEY} MODEL_REFRESH_INTERVAL={EVERY}"
        ));
        let lambda = Lambda::start(s3, Monotonic::StandsStill, cloudwatch.env()).await?;
        let lambda = &*self.lambda.insert(lambda);
        let begun = Instant::now();
        let event = self.wines.request(&[0]);
        let starting = || "Lambda starts the sidecar and the handler".to_owned();
        let answer = console.during(starting, lambda.ask(&event)).await?;
        let waited = begun.elapsed();
        self.asked += 1;
        answer.compare(&self.wines.v1, &[0])?;

        let is_ready = |line: &str| field(line, "message").is_some_and(|text| text == "ready");
        let log = lambda.function.log();
        let line = log.wait_for_line("the sidecar's \"ready\"", is_ready);
        let ready = Ready::read(&line.await?)?;
        ready.draw(console);
        let reports = lambda.function.wait_for_reports(1).await?;
        let report = reports.first().context("no report")?;
        print(report, console);
        console.verified(&format!(
            "ready after {:.1} ms, correct response after {}, including the start of all \
             processes; both in an unoptimised build",
            ready.total_ms,
            ms(waited)
        ));
        self.versions.push(answer.model_version);
        Ok(())
    }
}

/// Prints the REPORT line of Lambda's log, without the invocation's id.
fn print(report: &Report, console: &Console) {
    let line = report.line();
    let fields: Vec<&str> = line.trim_end().split('\t').skip(1).collect();
    let text = format!("REPORT {}", fields.join(", \t"));
    console.pieces(text.split(" \t"));
}
