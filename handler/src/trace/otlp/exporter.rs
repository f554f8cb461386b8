//! Export of spans in the background, one export at a time.
//!
//! Calls that end during an export are the next one. So the memory is bounded by [`MAX_CALLS`] calls in the queue and
//! as many in the export; further calls are lost. An export that fails is sent again at once, since the reason can be a
//! freeze. Then it is sent with the next calls, and is lost after [`MAX_ATTEMPTS`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::client::{ExportError, send};
use super::sampler::Sampler;
use super::{OtlpSettings, body};
use crate::trace::MAX_CALLS;
use crate::trace::record::{CallOutcome, CallRecord, PendingCall};

/// Maximum time of an attempt.
const MAX_TIME: Duration = Duration::from_secs(2);
/// Maximum number of attempts for an export.
const MAX_ATTEMPTS: u8 = 3;

/// Exports spans to a collector. Clones share the queue.
#[derive(Clone, Debug)]
pub struct Exporter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: OtlpSettings,
    /// Runtime of the exports.
    runtime: Handle,
    queue: Mutex<Queue>,
    /// Wakes those that wait for the end of the exports.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    calls: Vec<CallRecord>,
    /// Failed export, to be sent before the calls.
    failed: Option<Export>,
    is_exporting: bool,
    /// Number of calls that were lost since an export succeeded.
    lost: usize,
    /// `true` once a failure was logged, until an export succeeds.
    is_failing: bool,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.failed.is_none()
    }
}

/// Body of a request.
#[derive(Debug)]
struct Export {
    body: Bytes,
    calls: usize,
    attempts: u8,
}

impl Exporter {
    /// Returns an exporter whose exports run on this runtime. Nothing is opened before the first export.
    #[must_use]
    pub fn new(settings: OtlpSettings, runtime: Handle) -> Self {
        Self(Arc::new(Shared {
            settings,
            runtime,
            queue: Mutex::default(),
            ended: Notify::new(),
        }))
    }

    /// Notes the start of a request that a server in this process receives; `None` if it has no trace context, or is
    /// not sampled.
    #[must_use]
    pub fn begin<B>(&self, request: &Request<B>) -> Option<ServedCall> {
        let call = PendingCall::of_server(request, self.sampler())?;
        Some(ServedCall {
            call,
            exporter: self.clone(),
        })
    }

    pub(in crate::trace) fn sampler(&self) -> &Sampler {
        &self.0.settings.sampler
    }

    /// Begins to export the sampled ones of these calls, and what is left of earlier ones. Never waits.
    pub(in crate::trace) fn export(&self, calls: Vec<CallRecord>) {
        let mut queue = self.0.queue();
        for call in calls
            .into_iter()
            .filter(|record| record.call.otlp.is_some())
        {
            if queue.calls.len() < MAX_CALLS {
                queue.calls.push(call);
            } else {
                queue.lost += 1;
            }
        }
        if queue.is_exporting || queue.is_empty() {
            return;
        }
        queue.is_exporting = true;
        drop(queue);
        self.0.runtime.spawn(Arc::clone(&self.0).run());
    }

    /// Waits at most `limit` until all calls are exported; for a shutdown.
    pub async fn drain(&self, limit: Duration) {
        self.export(Vec::new());
        let ended = async {
            loop {
                let ended = self.0.ended.notified();
                if !self.0.queue().is_exporting {
                    return;
                }
                ended.await;
            }
        };
        let _ = tokio::time::timeout(limit, ended).await;
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Exports until nothing is left, or an export fails again.
    async fn run(self: Arc<Self>) {
        while let Some(mut export) = self.next() {
            export.attempts += 1;
            let sending = send(&self.settings, export.body.clone());
            let sent = tokio::time::timeout(MAX_TIME, sending).await;
            let result = sent.unwrap_or(Err(ExportError::Timeout));
            if !self.settle(export, result) {
                break;
            }
        }
        self.ended.notify_waiters();
    }

    /// Returns the next export; `None` marks the end of the exports.
    fn next(&self) -> Option<Export> {
        let mut queue = self.queue();
        if let Some(failed) = queue.failed.take() {
            return Some(failed);
        }
        if queue.calls.is_empty() {
            queue.is_exporting = false;
            return None;
        }
        let calls = std::mem::take(&mut queue.calls);
        drop(queue);
        Some(Export {
            body: body(&calls, &self.settings.resource).into(),
            calls: calls.len(),
            attempts: 0,
        })
    }

    /// Handles the result of an attempt; returns `false` if the exports end here.
    fn settle(&self, export: Export, result: Result<(), ExportError>) -> bool {
        let endpoint = &self.settings.endpoint;
        let mut queue = self.queue();
        let problem = match result {
            Ok(()) => {
                let lost = std::mem::take(&mut queue.lost);
                if std::mem::take(&mut queue.is_failing) || lost > 0 {
                    tracing::info!(
                        "exports spans to {endpoint}; the spans of {lost} calls were lost before"
                    );
                }
                return true;
            }
            Err(problem) => problem,
        };
        let Export {
            calls, attempts, ..
        } = export;
        let is_first = attempts == 1;
        if problem.is_transient() && attempts < MAX_ATTEMPTS {
            queue.failed = Some(export);
            queue.is_exporting = is_first;
            return is_first;
        }
        queue.lost += calls;
        if std::mem::replace(&mut queue.is_failing, true) {
            tracing::debug!("cannot export the spans of {calls} calls to {endpoint}: {problem}");
        } else {
            tracing::warn!(
                "cannot export spans to {endpoint}: {problem}; further failures are logged at DEBUG"
            );
        }
        true
    }
}

/// Request that a server in this process has received.
#[derive(Debug)]
pub struct ServedCall {
    call: PendingCall,
    exporter: Exporter,
}

impl ServedCall {
    /// Notes the response, and begins to export the call. Must be called within a runtime, whose other tasks precede
    /// the export.
    pub fn end(self, status: StatusCode, headers: &HeaderMap, length: Option<u64>) {
        let Self { call, exporter } = self;
        let record = call.end(CallOutcome::of_response(status, headers, length));
        tokio::spawn(async move { exporter.export(vec![record]) });
    }
}

#[cfg(test)]
mod tests;
