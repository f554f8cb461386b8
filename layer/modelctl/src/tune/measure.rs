//! Cold starts and warm requests at one memory size, in the lab.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use indicatif::ProgressBar;
use lab::lambda::{Function, Report, Status};
use lab::link::Link;
use lab::s3::S3Server;
use lab::statistics::percentile;
use tempfile::TempDir;

/// Longer than the slowest cold start.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Requests after a cold start that are not measured.
const UNMEASURED: u32 = 5;
const BUCKET: &str = "models";
/// File in `/tmp` with the server's authority.
const AUTHORITY: &str = "authority.pem";

/// Numbers of starts and requests at each size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) cold_starts: u32,
    pub(super) requests: u32,
}

/// Result of a size.
pub(super) enum Outcome {
    Measured(Measured),
    /// The function failed, for example without enough memory.
    Failed(String),
}

/// Figures of a size. Times are in milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) memory_mb: u32,
    /// Median time from the call to the response of a cold start.
    pub(super) cold: f64,
    /// Median duration of Init.
    pub(super) init: f64,
    /// Mean billed time of a cold start, with Init.
    pub(super) cold_billed: f64,
    /// Median time from the call to the response of a warm request.
    pub(super) warm_p50: f64,
    /// 99th percentile.
    pub(super) warm_p99: f64,
    /// Mean billed time of a warm request.
    pub(super) warm_billed: f64,
    /// Peak memory of an environment in MB, as reported.
    pub(super) peak_mb: u64,
}

/// S3 with the model, a link to it, and the programs.
pub(super) struct Lab {
    s3: S3Server,
    link: Link,
    layer: PathBuf,
    function: PathBuf,
    model: String,
    events: Vec<Bytes>,
}

impl Lab {
    /// Starts S3 with these files, of which the first is the model.
    pub(super) async fn start(
        layer: &Path,
        function: &Path,
        files: Vec<(String, PathBuf)>,
        events: Vec<Vec<u8>>,
    ) -> anyhow::Result<Self> {
        for program in [
            layer.join("extensions/model-sidecar"),
            function.join("bootstrap"),
        ] {
            ensure!(
                program.is_file(),
                "cannot measure: {} is missing; run `make layer`, or give --layer and --function",
                program.display()
            );
        }
        let s3 = S3Server::start_tls()
            .await
            .context("cannot start the lab's S3")?;
        let model = files.first().map(|(name, _)| name.clone());
        let model = model.context("the model has no files")?;
        for (name, path) in files {
            let content = std::fs::read(&path);
            let content = content.with_context(|| format!("cannot read {}", path.display()))?;
            s3.put(BUCKET, &name, content);
        }
        let link = Link::of_environment(&s3).await;
        let link = link.context("cannot start the lab's link")?;
        Ok(Self {
            s3,
            link,
            layer: layer.to_owned(),
            function: function.to_owned(),
            model,
            events: events.into_iter().map(Bytes::from).collect(),
        })
    }

    /// Starts an environment whose figures are dropped.
    pub(super) async fn warm_up(
        &self,
        memory_mb: u32,
        progress: &ProgressBar,
    ) -> anyhow::Result<()> {
        let function = self.make(memory_mb).await?;
        // A size at which the function fails is found when it is measured.
        let _ = self.invoke(&function, 0).await?;
        function.shutdown().await;
        progress.inc(1);
        Ok(())
    }

    /// Measures a memory size.
    pub(super) async fn measure(
        &self,
        memory_mb: u32,
        counts: Sizes,
        progress: &ProgressBar,
    ) -> anyhow::Result<Outcome> {
        let (mut cold, mut init, mut cold_billed) = (Vec::new(), Vec::new(), Vec::new());
        let mut last = None;
        let mut peak_mb = 0;
        for _ in 0..counts.cold_starts {
            if let Some(function) = last.take() {
                Function::shutdown(&function).await;
            }
            let function = self.make(memory_mb).await?;
            let (latency, report) = match self.invoke(&function, 0).await? {
                Ok(response) => response,
                Err(reason) => return Ok(Outcome::Failed(reason)),
            };
            cold.push(milliseconds(latency));
            init.push(milliseconds(report.init.unwrap_or_default()));
            cold_billed.push(milliseconds(report.billed));
            peak_mb = peak_mb.max(report.max_memory_mb);
            last = Some(function);
            progress.inc(1);
        }
        let function = last.context("at least one cold start")?;
        let (mut warm, mut warm_billed) = (Vec::new(), Vec::new());
        for number in 1..=UNMEASURED + counts.requests {
            let (latency, report) = match self.invoke(&function, number as usize).await? {
                Ok(response) => response,
                Err(reason) => return Ok(Outcome::Failed(reason)),
            };
            peak_mb = peak_mb.max(report.max_memory_mb);
            if number > UNMEASURED {
                warm.push(milliseconds(latency));
                warm_billed.push(milliseconds(report.billed));
                progress.inc(1);
            }
        }
        function.shutdown().await;
        Ok(Outcome::Measured(Measured {
            memory_mb,
            cold: percentile(&cold, 50.0),
            init: percentile(&init, 50.0),
            cold_billed: mean(&cold_billed),
            warm_p50: percentile(&warm, 50.0),
            warm_p99: percentile(&warm, 99.0),
            warm_billed: mean(&warm_billed),
            peak_mb,
        }))
    }

    /// Creates a function of a memory size, without environments.
    async fn make(&self, memory_mb: u32) -> anyhow::Result<Function> {
        let tmp = TempDir::new().context("cannot create a temporary folder")?;
        let authority = self.s3.authority().unwrap_or_default();
        let file = tmp.path().join(AUTHORITY);
        std::fs::write(&file, authority)
            .with_context(|| format!("cannot write {}", file.display()))?;
        let inside = format!("/tmp/{AUTHORITY}");
        Function::of(&self.layer, &self.function)
            .envs(self.s3.env())
            .env("AWS_ENDPOINT_URL_S3", self.link.url_of(&self.s3))
            .env("SSL_CERT_FILE", &inside)
            .env("AWS_CA_BUNDLE", &inside)
            .env("MODEL_URI", format!("s3://{BUCKET}/{}", self.model))
            .env("MODEL_METRICS", "emf")
            .tmp(Arc::new(tmp))
            .timeout(TIMEOUT)
            .memory_mb(memory_mb)
            .limit_resources(true)
            .max_environments(1)
            .start()
            .await
            .context("cannot start the lab's platform")
    }

    /// Invokes a function for the `number`th time. Returns the time to the response, and the report of the whole
    /// invocation, or the reason why the function failed.
    async fn invoke(
        &self,
        function: &Function,
        number: usize,
    ) -> anyhow::Result<Result<(Duration, Report), String>> {
        let event = self.events[number % self.events.len()].clone();
        let started = Instant::now();
        let invocation = function.invoke_raw(event).await;
        let latency = started.elapsed();
        if let Some(error) = invocation.function_error() {
            return Ok(Err(format!("{}: {}", error.error_type, error.message)));
        }
        let reports = function.wait_for_reports(number + 1).await?;
        let Some(report) = reports.into_iter().nth(number) else {
            bail!("cannot measure: the lab has no report of an invocation");
        };
        Ok(match &report.status {
            Status::Success => Ok((latency, report)),
            Status::Timeout => Err("it exceeded the timeout".to_owned()),
            Status::Error(kind) => Err(kind.clone()),
        })
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mean(values: &[f64]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    let count = values.len() as f64;
    values.iter().sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_that_of_all_values() {
        assert!((mean(&[3.0, 1.0, 2.0, 4.0]) - 2.5).abs() < 1e-12);
    }
}
