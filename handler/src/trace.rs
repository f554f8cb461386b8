//! Traces of the calls to the sidecar, for X-Ray and OpenTelemetry.
//!
//! Lambda owns the segment of an invocation. For a sampled invocation, the handler adds independent subsegments to it.
//! Each call is one, with the stages that the sidecar reports. Each step of the load that a cold start waited for is
//! another. [`Traced`] notes a call, and [`Tracer::flush`] converts and sends it, after the response was posted. An
//! invocation that is not sampled costs one look at its trace headers.
//!
//! ```text
//! Handler ─▶ Traced<T> ─▶ T: Transport
//!               └─▶ Tracer ─▶ xray ─▶ daemon (UDP)
//!                       └───▶ otlp ─▶ collector (HTTP)
//! server ─▶ Exporter::begin ─────▲
//! ```
//!
//! OpenTelemetry gets the same calls as spans, in the trace that the caller's `traceparent` names, or else X-Ray's.
//! The sidecar's server also has spans for requests with a `traceparent` from a function with code of its own.
//!
//! A trace never delays or fails an invocation. A document that cannot be sent at once is lost, as are spans that a
//! collector does not accept.

mod context;
mod daemon;
mod otlp;
mod record;
mod stages;
mod text;
mod xray;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;

use crate::failure::Failure;
use crate::transport::{SidecarResponse, TimeLimit, Transport};
use daemon::Daemon;
pub use otlp::{Exporter, OtlpSettingError, OtlpSettings, ServedCall};
use record::{CallOutcome, CallRecord, PendingCall};

/// Maximum time of the last export of spans, at a shutdown. Lambda's shutdown has 2 s for all processes.
pub const LAST_EXPORT: Duration = Duration::from_millis(300);

/// Variable with the address of the X-Ray daemon, which Lambda sets for the function's process.
pub const DAEMON_ADDRESS: &str = "AWS_XRAY_DAEMON_ADDRESS";

/// Maximum number of calls between two flushes. A batch of messages can make thousands, and a trace holds 500 KB.
const MAX_CALLS: usize = 100;

/// Collects the calls of sampled invocations, and sends them.
#[derive(Debug)]
pub struct Tracer {
    daemon: Option<Daemon>,
    exporter: Option<Exporter>,
    calls: Mutex<Vec<CallRecord>>,
}

impl Tracer {
    /// Returns a tracer for the X-Ray daemon at the address in [`DAEMON_ADDRESS`], `IP:PORT`, and for a collector. A
    /// host name of the daemon is ignored, since it would need a look-up. Returns `None` without a receiver.
    #[must_use]
    pub fn new(daemon_address: Option<&str>, exporter: Option<Exporter>) -> Option<Arc<Self>> {
        let tracer = Self {
            daemon: daemon_address.and_then(Daemon::at),
            exporter,
            calls: Mutex::default(),
        };
        let has_receiver = tracer.daemon.is_some() || tracer.exporter.is_some();
        has_receiver.then(|| Arc::new(tracer))
    }

    /// Sends the calls since the last flush. Never waits.
    pub fn flush(&self) {
        let calls = std::mem::take(&mut *self.calls());
        if let Some(daemon) = &self.daemon {
            for document in calls.iter().flat_map(xray::documents) {
                daemon.send(&document);
            }
        }
        if let Some(exporter) = &self.exporter {
            exporter.export(calls);
        }
    }

    /// Sends the calls since the last flush, and waits at most `limit` until all spans are exported; for a shutdown.
    pub async fn drain(&self, limit: Duration) {
        self.flush();
        if let Some(exporter) = &self.exporter {
            exporter.drain(limit).await;
        }
    }

    fn begin(&self, request: &Request<Bytes>) -> Option<PendingCall> {
        let sampler = self.exporter.as_ref().map(Exporter::sampler);
        PendingCall::of_client(request, self.daemon.is_some(), sampler)
    }

    fn record(&self, call: CallRecord) {
        let mut calls = self.calls();
        if calls.len() < MAX_CALLS {
            calls.push(call);
        }
    }

    fn calls(&self) -> MutexGuard<'_, Vec<CallRecord>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Transport whose calls are traced.
#[derive(Clone, Debug)]
pub struct Traced<T> {
    inner: T,
    tracer: Option<Arc<Tracer>>,
}

impl<T> Traced<T> {
    /// Traces the calls of `inner`; without a tracer, only passes them on.
    #[must_use]
    pub fn new(inner: T, tracer: Option<Arc<Tracer>>) -> Self {
        Self { inner, tracer }
    }
}

impl<T: Transport> Transport for Traced<T> {
    async fn exchange(
        &self,
        request: Request<Bytes>,
        limit: TimeLimit,
    ) -> Result<SidecarResponse, Failure> {
        let begun = self.tracer.as_deref().and_then(|tracer| {
            let call = tracer.begin(&request)?;
            Some((tracer, call))
        });
        let result = self.inner.exchange(request, limit).await;
        if let Some((tracer, call)) = begun {
            let outcome = match &result {
                Ok(response) => {
                    let length = u64::try_from(response.body.len()).ok();
                    CallOutcome::of_response(response.status, &response.headers, length)
                }
                Err(failure) => CallOutcome::of_failure(failure),
            };
            tracer.record(call.end(outcome));
        }
        result
    }
}

#[cfg(test)]
mod tests;
