//! Trace of the calls to an environment's Runtime and Extensions APIs.

use std::time::Duration;

use http::{Method, StatusCode};

/// Maximum number of recorded bytes of a body.
const KEPT: usize = 1024;

/// One API call and its response. An event is the response to a call of `next`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiCall {
    /// Caller: an extension's name, `runtime`, or `unknown` for a caller without an identifier.
    pub from: String,
    /// Method.
    pub method: Method,
    /// Path.
    pub path: String,
    /// Beginning of the request body.
    pub request: String,
    /// Time of the call since the environment was created.
    pub asked: Duration,
    /// Time of the response since the environment was created. `None` while the call is pending,
    /// and if the caller died before the response.
    pub answered: Option<Duration>,
    /// Status of the response.
    pub status: Option<StatusCode>,
    /// Beginning of the response body.
    pub response: String,
}

impl ApiCall {
    /// Type of the delivered event, `INVOKE` or `SHUTDOWN` for an extension; `None` without an
    /// event.
    #[must_use]
    pub fn event(&self) -> Option<String> {
        let json: serde_json::Value = serde_json::from_str(&self.response).ok()?;
        json.get("eventType")?.as_str().map(str::to_owned)
    }
}

/// Beginning of a body as text.
pub(super) fn abbreviated(body: &[u8]) -> String {
    let kept = body.get(..KEPT).unwrap_or(body);
    let mut text = String::from_utf8_lossy(kept).trim_end().to_owned();
    if body.len() > KEPT {
        text.push('…');
    }
    text
}
