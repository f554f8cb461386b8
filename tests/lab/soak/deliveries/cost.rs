//! Deliveries of metrics by one environment under steady traffic, without faults: their number and their size.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::member::count;
use super::{BUCKET, KEY, model};
use crate::cloudwatch::{CloudWatch, Datapoint, Filter, emf};
use crate::lambda::{Clock, Function, State};
use crate::reference::WINE;
use crate::s3::S3Server;

/// Traffic of one environment for an hour.
#[derive(Clone, Copy, Debug)]
pub struct SteadyTraffic {
    /// Time between two requests, a part of an hour.
    pub pause: Duration,
    /// Value of `MODEL_METRICS`.
    pub metrics: &'static str,
    /// Value of `MODEL_METRICS_SET`.
    pub set: &'static str,
}

/// Cost of an hour of deliveries.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryCost {
    /// Requests to the function.
    pub requests: f64,
    /// Calls of `PutMetricData`.
    pub calls: f64,
    /// Bytes of their bodies, compressed.
    pub call_bytes: f64,
    /// Lines in Embedded Metric Format.
    pub lines: f64,
    /// Bytes of these lines.
    pub log_bytes: f64,
    /// Metrics that `CloudWatch` charges for: combinations of name and dimensions.
    pub metrics: f64,
}

impl SteadyTraffic {
    /// Runs the traffic. The start of the environment is part of the hour.
    pub async fn measure(self) -> Result<DeliveryCost> {
        let s3 = S3Server::start().await?;
        s3.put(BUCKET, KEY, model(0)?);
        let cloudwatch = CloudWatch::start().await?;
        let function = Function::staged()?
            .envs(s3.env())
            .envs(cloudwatch.env())
            .env("MODEL_URI", format!("s3://{BUCKET}/{KEY}"))
            .env("MODEL_NAME", "wine")
            .env("MODEL_PORT", "0")
            .env("MODEL_METRICS", self.metrics)
            .env("MODEL_METRICS_SET", self.set)
            .timeout(Duration::from_secs(30))
            .init_limit(Duration::from_secs(60))
            .max_environments(1)
            .clock(Clock::Jumps)
            .start()
            .await?;
        let mut requests = 0;
        let mut passed = Duration::ZERO;
        while passed < Duration::from_hours(1) {
            function
                .answer(&json!({ "features": WINE.rows[..1] }))
                .await?;
            requests += 1;
            let environment = function
                .environment()
                .context("no environment was created")?;
            environment.wait_until(State::Idle).await?;
            environment.freeze().await?;
            environment.let_pass(self.pause).await?;
            s3.let_pass();
            cloudwatch.let_pass(self.pause);
            passed += self.pause;
        }
        let calls = cloudwatch.requests();
        let log = function.log().lines();
        let mut datapoints = cloudwatch.datapoints(&Filter::all());
        let (mut lines, mut log_bytes) = (0, 0);
        for line in &log {
            if let Some(extracted) = emf::datapoints(line) {
                datapoints.extend(extracted.map_err(anyhow::Error::msg)?);
                lines += 1;
                log_bytes += line.len();
            }
        }
        Ok(DeliveryCost {
            requests: count(requests),
            calls: count(calls.len()),
            call_bytes: count(calls.iter().map(|call| call.bytes).sum()),
            lines: count(lines),
            log_bytes: count(log_bytes),
            metrics: count(metrics(&datapoints)),
        })
    }
}

/// Number of combinations of name and dimensions.
fn metrics(datapoints: &[Datapoint]) -> usize {
    let metrics = datapoints.iter().map(|one| (&one.name, &one.dimensions));
    metrics.collect::<BTreeSet<_>>().len()
}
