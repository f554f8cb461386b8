//! The first event starts everything, and is answered.

use std::time::Instant;

use anyhow::{Result, ensure};
use lab::cloudwatch::CloudWatch;
use lab::rie::ExecutionEnvironment;
use lab::s3::S3Server;

use super::{BUCKET, Demo, KEY, Running, field};
use crate::metrics::{FUNCTION, MODEL};
use crate::story::Story;
use crate::timeline::Ready;
use crate::wine::Answer;

/// Short, so that nobody has to wait a minute.
const EVERY: &str = "1s";

impl Demo {
    pub(super) async fn cold_start(
        &mut self,
        story: &mut Story,
        s3: &S3Server,
        cloudwatch: &CloudWatch,
    ) -> Result<()> {
        story.step(
            "A cold start",
            "An execution environment with the layer at /opt and the handler at /var/task. The first \
             event makes Lambda start both: the sidecar fetches and loads the model, then the \
             handler's request is answered.",
        );
        let uri = format!("s3://{BUCKET}/{KEY}");
        story.say(&format!(
            "MODEL_URI={uri} MODEL_REFRESH_INTERVAL={EVERY} MODEL_METRICS_INTERVAL={EVERY}"
        ));
        let builder = ExecutionEnvironment::staged()?
            .envs(s3.env())
            .envs(cloudwatch.env())
            .env("AWS_LAMBDA_FUNCTION_NAME", FUNCTION)
            .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .env("MODEL_URI", uri)
            .env("MODEL_NAME", MODEL)
            .env("MODEL_REFRESH_INTERVAL", EVERY)
            .env("MODEL_METRICS_INTERVAL", EVERY)
            // The sandbox shares this machine's network, where the port may be taken.
            .env("MODEL_PORT", "0")
            .timeout_seconds(10)
            .memory_mb(1769);
        let lambda = builder.start().await?;
        let running = self.running.insert(Running {
            lambda,
            version: String::new(),
            processes: Vec::new(),
        });
        let lambda = &running.lambda;

        let begun = Instant::now();
        let event = self.wines.request(&[0]);
        let starting = || "Lambda starts the sidecar and the handler".to_owned();
        let answer = story.during(starting, lambda.answer(&event)).await?;
        let waited = begun.elapsed();
        self.asked += 1;
        let answer = Answer::read(answer.to_string().as_bytes())?;
        answer.compare(&self.wines.v1, &[0])?;

        let is_ready = |line: &str| field(line, "message").is_some_and(|text| text == "ready");
        let line = lambda.wait_for_line("the sidecar's \"ready\"", is_ready);
        let ready = Ready::read(&line.await?)?;
        ready.draw(story);
        story.say(
            "ONNX Runtime opens on a thread of its own, beside what follows; loading waits for it \
             where it is not open yet. These are the unoptimised build's times.",
        );

        running.processes = lambda.processes("model-sidecar");
        ensure!(
            running.processes.len() == 1,
            "not one sidecar runs, but the processes {:?}",
            running.processes
        );
        running.version = answer.model_version;
        story.holds(&format!(
            "the sidecar was ready after {:.0} ms, and the caller had a right answer after {} ms, \
             starts of all processes included; version {}, process {}",
            ready.total_ms,
            waited.as_millis(),
            running.version,
            running.processes[0]
        ));
        Ok(())
    }
}
