//! Traces of the calls to the sidecar, for X-Ray.
//!
//! Lambda owns the segment of an invocation. For a sampled invocation, the handler adds independent subsegments to it.
//! Each call is one, with the stages that the sidecar reports. Each step of the load that a cold start waited for is
//! another. [`Traced`] notes a call, and [`Tracer::flush`] converts and sends it, after the response was posted. An
//! invocation that is not sampled costs one look at its trace header.
//!
//! ```text
//! Handler ─▶ Traced<T> ─▶ T: Transport
//!               └─▶ Tracer ─▶ xray ─▶ daemon (UDP)
//! ```
//!
//! A trace never delays or fails an invocation: a document that cannot be sent at once is lost.

mod context;
mod daemon;
mod record;
mod stages;
mod xray;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::Request;

use crate::failure::Failure;
use crate::transport::{SidecarResponse, TimeLimit, Transport};
use daemon::Daemon;
use record::{CallRecord, PendingCall};

/// Variable with the address of the X-Ray daemon, which Lambda sets for the function's process.
pub const DAEMON_ADDRESS: &str = "AWS_XRAY_DAEMON_ADDRESS";

/// Maximum number of calls between two flushes. A batch of messages can make thousands, and a trace holds 500 KB.
const MAX_CALLS: usize = 100;

/// Collects the calls of sampled invocations, and sends them.
#[derive(Debug)]
pub struct Tracer {
    daemon: Daemon,
    calls: Mutex<Vec<CallRecord>>,
}

impl Tracer {
    /// Returns a tracer for the X-Ray daemon at the address in [`DAEMON_ADDRESS`], `IP:PORT`. Returns `None` without
    /// an address, and for a host name, which would need a look-up.
    #[must_use]
    pub fn new(daemon_address: Option<&str>) -> Option<Arc<Self>> {
        let daemon = Daemon::at(daemon_address?)?;
        Some(Arc::new(Self {
            daemon,
            calls: Mutex::default(),
        }))
    }

    /// Sends the calls since the last flush. Never waits.
    pub fn flush(&self) {
        let calls = std::mem::take(&mut *self.calls());
        for call in calls {
            for document in xray::documents(&call) {
                self.daemon.send(&document);
            }
        }
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
        let Some((tracer, call)) = self
            .tracer
            .as_deref()
            .and_then(|tracer| Some((tracer, PendingCall::begin(&request)?)))
        else {
            return self.inner.exchange(request, limit).await;
        };
        let result = self.inner.exchange(request, limit).await;
        tracer.record(call.end(&result));
        result
    }
}

#[cfg(test)]
mod tests;
