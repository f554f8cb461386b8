//! `rotel`, an independent collector of OpenTelemetry: it decodes what arrives, and prints each span.

use std::collections::BTreeMap;

use crate::artifacts::{self, ArtifactError};
use crate::log_capture::NoSuchLine;
use crate::ports::{NoFreePort, Port};
use crate::process::{Process, StartError};

/// `rotel` did not start.
#[derive(Debug, thiserror::Error)]
pub enum RotelError {
    /// It must be fetched first.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// No port is free.
    #[error(transparent)]
    NoFreePort(#[from] NoFreePort),
    /// The process cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It exited, or never reported readiness.
    #[error(transparent)]
    Stillborn(#[from] NoSuchLine),
}

/// Running collector with a receiver of OTLP over HTTP.
#[derive(Debug)]
pub struct Rotel {
    process: Process,
    http: Port,
    _grpc: Port,
}

/// Span as the collector prints it: fields and attributes by their names.
pub type PrintedSpan = BTreeMap<String, String>;

impl Rotel {
    /// Starts a collector, which is killed when it is dropped.
    ///
    /// # Errors
    /// [`RotelError`] if it cannot be started.
    pub async fn start() -> Result<Self, RotelError> {
        let (http, grpc) = (Port::lease()?, Port::lease()?);
        let address = |port: &Port| format!("127.0.0.1:{}", port.number());
        let process = Process::of(artifacts::rotel()?)
            .arg("start")
            .arg("--exporter=blackhole")
            .arg("--debug-log=traces")
            .arg("--debug-log-verbosity=detailed")
            .arg(format!("--otlp-http-endpoint={}", address(&http)))
            .arg(format!("--otlp-grpc-endpoint={}", address(&grpc)))
            .start()?;
        process.wait_for("Starting Rotel").await?;
        Ok(Self {
            process,
            http,
            _grpc: grpc,
        })
    }

    /// URL of the receiver, for `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http.number())
    }

    /// Waits until a line contains `text`.
    ///
    /// # Errors
    /// [`NoSuchLine`] if it does not arrive.
    pub async fn wait_for(&self, text: &str) -> Result<String, NoSuchLine> {
        self.process.wait_for(text).await
    }

    /// Spans that have been printed.
    #[must_use]
    pub fn spans(&self) -> Vec<PrintedSpan> {
        let mut spans: Vec<PrintedSpan> = Vec::new();
        for line in self.process.log().lines() {
            // The lines of a resource belong to no span: their entry has no trace id.
            if line.starts_with("Span #") || line.starts_with("ResourceSpans #") {
                spans.push(PrintedSpan::new());
            }
            let line = line.trim().trim_start_matches("-> ");
            if let (Some(span), Some((name, value))) = (spans.last_mut(), line.split_once(':')) {
                span.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
        spans.retain(|span| span.contains_key("Trace ID"));
        spans
    }
}
