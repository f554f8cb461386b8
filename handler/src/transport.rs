//! Way from the handler to the sidecar: its Unix socket, or its router if the handler runs in the sidecar's process.

use std::future::Future;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode};
use tokio::time::Instant;

use crate::event::{Call, excerpt};
use crate::failure::Failure;
use crate::invocation::Invocation;

/// Token that the sidecar requires with `MODEL_TOKEN=session`.
pub const TOKEN: HeaderName = HeaderName::from_static("x-model-token");

/// Marks a request from outside the execution environment, for which the sidecar disables
/// management calls unless `MODEL_REMOTE_OPERATIONS` allows them.
pub const REMOTE: HeaderName = HeaderName::from_static("x-model-remote");

/// Complete response of the sidecar.
#[derive(Debug)]
pub struct SidecarResponse {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// Connection to the sidecar.
pub trait Transport: Sync {
    /// Sends a request and waits for its complete response, within `limit`.
    ///
    /// A response with any status is `Ok`.
    fn exchange(
        &self,
        request: Request<Bytes>,
        limit: TimeLimit,
    ) -> impl Future<Output = Result<SidecarResponse, Failure>> + Send;
}

/// Time of one call, which ends before Lambda stops its invocation.
#[derive(Clone, Copy, Debug)]
pub struct TimeLimit {
    started: Instant,
    allowed: Duration,
}

impl TimeLimit {
    /// Returns the limit of a call that starts now and has this time.
    #[must_use]
    pub fn starting_now(allowed: Duration) -> Self {
        Self {
            started: Instant::now(),
            allowed,
        }
    }

    /// Time at which the call must end.
    #[must_use]
    pub fn end(self) -> Instant {
        self.started + self.allowed
    }

    /// Time since the start of the call.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.started.elapsed()
    }

    /// Failure of a call that has reached its limit.
    #[must_use]
    pub fn passed(self) -> Failure {
        Failure::Timeout {
            allowed: self.allowed,
        }
    }
}

/// Sends one call within the invocation's time, and waits for its complete response.
pub(crate) async fn send(
    transport: &impl Transport,
    call: Call,
    invocation: &Invocation,
) -> Result<SidecarResponse, Failure> {
    let limit = TimeLimit::starting_now(invocation.deadline.allows(SystemTime::now()));
    let mut request = request(call, invocation)?;
    let headers = request.headers_mut();
    // The caller's own values of these two headers are not forwarded.
    headers.insert(REMOTE, HeaderValue::from_static("true"));
    headers.remove(TOKEN);
    transport.exchange(request, limit).await
}

fn request(call: Call, invocation: &Invocation) -> Result<Request<Bytes>, Failure> {
    let mut request = Request::new(call.body);
    *request.method_mut() = call.method;
    *request.uri_mut() = call.target.parse().map_err(|error| {
        let target = excerpt(&call.target);
        Failure::BadRequest(format!("{target:?} is not a path to call: {error}"))
    })?;
    *request.headers_mut() = call.headers;
    invocation.describe(request.headers_mut());
    Ok(request)
}
