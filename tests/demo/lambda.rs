//! Function of the demo: the staged layer and handler on the lab's platform, with a link of its own
//! to S3.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::lambda::{Clock, Environment, Function};
use lab::link::Link;
use lab::s3::S3Server;
use serde_json::Value;

use crate::metrics::{FUNCTION, MODEL};
use crate::wine::PredictResponse;

/// Bucket of the model.
pub(crate) const BUCKET: &str = "models";
pub(crate) const KEY: &str = "wine/model.onnx";
/// Poll interval: short, so that the demo does not wait a minute.
pub(crate) const EVERY: &str = "1s";
/// Memory size: one vCPU.
pub(crate) const MEMORY_MB: u32 = 1769;

/// Behaviour of an environment's monotonic clock while it is frozen.
#[derive(Clone, Copy)]
pub(crate) enum Monotonic {
    Jumps,
    StandsStill,
}

/// A function with at most one environment.
pub(crate) struct Lambda {
    pub(crate) function: Arc<Function>,
    pub(crate) link: Link,
    pub(crate) clock: Monotonic,
}

impl fmt::Display for Monotonic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Jumps => "jumps",
            Self::StandsStill => "stands still",
        })
    }
}

impl Lambda {
    /// Configures the function; nothing runs before the first invocation.
    pub(crate) async fn start(
        s3: &S3Server,
        clock: Monotonic,
        metrics: Vec<(String, String)>,
    ) -> Result<Self> {
        let link = Link::to_s3(s3).await?;
        let builder = Function::staged()?
            .envs(s3.env())
            .envs(metrics)
            .env("AWS_ENDPOINT_URL_S3", link.url())
            .env("AWS_LAMBDA_FUNCTION_NAME", FUNCTION)
            .env("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .env("MODEL_URI", format!("s3://{BUCKET}/{KEY}"))
            .env("MODEL_NAME", MODEL)
            .env("MODEL_METRICS_SET", "all")
            .env("MODEL_REFRESH_INTERVAL", EVERY)
            // The sandbox shares this machine's network, where the port may be taken.
            .env("MODEL_PORT", "0")
            .timeout(Duration::from_secs(10))
            .memory_mb(MEMORY_MB)
            // A caller may invoke again before the last invocation has ended, and must wait for
            // this environment instead of getting another.
            .max_environments(1)
            .clock(match clock {
                Monotonic::Jumps => Clock::Jumps,
                Monotonic::StandsStill => Clock::StandsStill,
            });
        let function = builder.start().await?;
        Ok(Self {
            function: Arc::new(function),
            link,
            clock,
        })
    }

    /// Response of one invocation.
    pub(crate) async fn ask(&self, request: &Value) -> Result<PredictResponse> {
        let answer = self.function.answer(request).await?;
        PredictResponse::read(answer.to_string().as_bytes())
    }

    /// Duration of the last invocation in the function, from the event on: without the platform's
    /// time for a thaw.
    pub(crate) fn took(&self) -> Result<Duration> {
        let trace = self.environment()?.trace();
        let mut calls = trace.iter().rev();
        let answer = calls.find(|call| call.path.ends_with("/response"));
        let answer = answer.context("no response was sent")?;
        let mut events = calls.filter(|call| call.path.ends_with("/invocation/next"));
        let event = events.next().and_then(|call| call.answered);
        let event = event.context("a response without an event")?;
        Ok(answer.asked.saturating_sub(event))
    }

    pub(crate) fn environment(&self) -> Result<Arc<Environment>> {
        let environment = self.function.environment();
        environment.context("no environment runs")
    }

    /// The sidecar's socket, as seen from outside the sandbox.
    pub(crate) fn socket(&self) -> Result<PathBuf> {
        Ok(self.environment()?.tmp().join("model-sidecar.sock"))
    }

    /// Process id of the only sidecar.
    pub(crate) fn sidecar(&self) -> Result<i32> {
        let processes = self.environment()?.processes("model-sidecar");
        ensure!(
            processes.len() == 1,
            "expected one sidecar process, found {processes:?}"
        );
        Ok(processes[0])
    }
}

/// A field of a log line that is a JSON object.
pub(crate) fn field(line: &str, name: &str) -> Option<Value> {
    serde_json::from_str::<Value>(line).ok()?.get(name).cloned()
}
