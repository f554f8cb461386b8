//! Record of one call of a sampled request.
//!
//! A record has a bounded size, and shares no buffer with the request or the response. It is converted after the
//! response was sent.

use std::time::SystemTime;

use http::header::{HeaderMap, HeaderName};
use http::{Request, StatusCode};
use tokio::time::Instant;

use super::context::{ParentContext, SampledTrace, SpanContext};
use super::otlp::Sampler;
use super::stages::Stages;
use super::text::shortened;
use crate::failure::Failure;
use crate::invocation::{REQUEST_ID, TRACE_ID};

/// Name of the model that a response is from.
const MODEL: HeaderName = HeaderName::from_static("x-model-name");
/// Name of the version that a response is from.
const VERSION: HeaderName = HeaderName::from_static("x-model-version");
/// Time of the call by stages.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// Maximum length of the times by stages, in bytes. The sidecar's have at most 400.
const MAX_TIMING: usize = 1024;

/// Side of a call that records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The handler, which calls the sidecar.
    Client,
    /// The sidecar, which a function with code of its own calls.
    Server,
}

/// Call that has begun.
#[derive(Debug)]
pub(super) struct PendingCall {
    pub(super) side: Side,
    /// Trace in X-Ray, if it samples the invocation.
    pub(super) xray: Option<SampledTrace>,
    /// Context for OpenTelemetry, if it samples the request.
    pub(super) otlp: Option<SpanContext>,
    /// ID of the invocation.
    pub(super) request_id: Option<String>,
    pub(super) method: String,
    /// Path without the query.
    pub(super) path: String,
    pub(super) started: SystemTime,
    began: Instant,
}

/// Call that has ended.
#[derive(Debug)]
pub(super) struct CallRecord {
    pub(super) call: PendingCall,
    pub(super) ended: SystemTime,
    pub(super) outcome: CallOutcome,
}

/// Result of a call.
#[derive(Debug)]
pub(super) enum CallOutcome {
    /// Response with any status.
    Response {
        status: StatusCode,
        /// Length of the body in bytes.
        length: Option<u64>,
        model: Option<String>,
        version: Option<String>,
        server_timing: Option<String>,
    },
    /// There was no response.
    Failure {
        error_type: &'static str,
        message: String,
    },
}

impl CallOutcome {
    /// Notes a response.
    pub(super) fn of_response(
        status: StatusCode,
        headers: &HeaderMap,
        length: Option<u64>,
    ) -> Self {
        let text = |name: HeaderName| headers.get(name)?.to_str().ok();
        Self::Response {
            status,
            length,
            model: text(MODEL).map(shortened),
            version: text(VERSION).map(shortened),
            server_timing: text(SERVER_TIMING)
                .filter(|timing| timing.len() <= MAX_TIMING)
                .map(str::to_owned),
        }
    }

    /// Notes that there was no response.
    pub(super) fn of_failure(failure: &Failure) -> Self {
        Self::Failure {
            error_type: failure.error_type(),
            message: shortened(&failure.to_string()),
        }
    }
}

impl PendingCall {
    /// Notes the start of the handler's call; `None` if neither X-Ray nor the sampler of OpenTelemetry samples it.
    pub(super) fn of_client<B>(
        request: &Request<B>,
        to_xray: bool,
        sampler: Option<&Sampler>,
    ) -> Option<Self> {
        let headers = request.headers();
        let xray = if to_xray {
            let header = headers.get(TRACE_ID).and_then(|value| value.to_str().ok());
            header.and_then(SampledTrace::read)
        } else {
            None
        };
        let otlp = sampler.and_then(|sampler| sampler.context(ParentContext::of(headers)));
        (xray.is_some() || otlp.is_some()).then(|| Self::new(request, Side::Client, xray, otlp))
    }

    /// Notes the start of a call that the sidecar receives; `None` if it has no context, or is not sampled.
    pub(super) fn of_server<B>(request: &Request<B>, sampler: &Sampler) -> Option<Self> {
        let parent = ParentContext::of(request.headers())?;
        let otlp = sampler.context(Some(parent))?;
        Some(Self::new(request, Side::Server, None, Some(otlp)))
    }

    fn new<B>(
        request: &Request<B>,
        side: Side,
        xray: Option<SampledTrace>,
        otlp: Option<SpanContext>,
    ) -> Self {
        let request_id = request.headers().get(REQUEST_ID);
        Self {
            side,
            xray,
            otlp,
            request_id: request_id
                .and_then(|value| value.to_str().ok())
                .map(shortened),
            method: shortened(request.method().as_str()),
            path: shortened(request.uri().path()),
            started: SystemTime::now(),
            began: Instant::now(),
        }
    }

    /// Notes the end of the call.
    pub(super) fn end(self, outcome: CallOutcome) -> CallRecord {
        CallRecord {
            ended: self.started + self.began.elapsed(),
            call: self,
            outcome,
        }
    }
}

impl CallRecord {
    /// Returns the stages that the response reports.
    pub(super) fn stages(&self) -> Stages {
        match &self.outcome {
            CallOutcome::Response {
                server_timing: Some(header),
                ..
            } => Stages::read(header, self.call.started, self.ended),
            _ => Stages::default(),
        }
    }
}
