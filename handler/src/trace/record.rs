//! Record of one call of a sampled invocation.
//!
//! A record shares the values of the request and the response. They are read after the response was posted.

use std::time::SystemTime;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use tokio::time::Instant;

use super::context::SampledTrace;
use crate::failure::Failure;
use crate::invocation::TRACE_ID;
use crate::transport::SidecarResponse;

/// Name of the model that a response is from.
const MODEL: HeaderName = HeaderName::from_static("x-model-name");
/// Name of the version that a response is from.
const VERSION: HeaderName = HeaderName::from_static("x-model-version");
/// Time of the call by stages.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Call that has begun.
pub(super) struct PendingCall {
    trace: SampledTrace,
    method: Method,
    uri: Uri,
    started: SystemTime,
    began: Instant,
}

/// Call that has ended.
#[derive(Debug)]
pub(super) struct CallRecord {
    pub(super) trace: SampledTrace,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) started: SystemTime,
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
        length: usize,
        model: Option<HeaderValue>,
        version: Option<HeaderValue>,
        server_timing: Option<HeaderValue>,
    },
    /// There was no response.
    Failure {
        error_type: &'static str,
        message: String,
    },
}

impl PendingCall {
    /// Notes the start of a call; `None` if its invocation is not sampled.
    pub(super) fn begin(request: &Request<Bytes>) -> Option<Self> {
        let header = request.headers().get(TRACE_ID)?.to_str().ok()?;
        Some(Self {
            trace: SampledTrace::read(header)?,
            method: request.method().clone(),
            uri: request.uri().clone(),
            started: SystemTime::now(),
            began: Instant::now(),
        })
    }

    /// Notes the end of the call.
    pub(super) fn end(self, result: &Result<SidecarResponse, Failure>) -> CallRecord {
        let outcome = match result {
            Ok(response) => {
                let header = |name: HeaderName| response.headers.get(name).cloned();
                CallOutcome::Response {
                    status: response.status,
                    length: response.body.len(),
                    model: header(MODEL),
                    version: header(VERSION),
                    server_timing: header(SERVER_TIMING),
                }
            }
            Err(failure) => CallOutcome::Failure {
                error_type: failure.error_type(),
                message: failure.to_string(),
            },
        };
        CallRecord {
            trace: self.trace,
            method: self.method,
            uri: self.uri,
            started: self.started,
            ended: self.started + self.began.elapsed(),
            outcome,
        }
    }
}
