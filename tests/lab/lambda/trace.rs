//! What went over an environment's Runtime and Extensions APIs, call by call.

use std::time::Duration;

use http::{Method, StatusCode};

/// How many bytes of a body are kept.
const KEPT: usize = 1024;

/// One call of the API and its answer. An event is the answer of a call of `next`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiCall {
    /// Who called: an extension's name, `runtime`, or `unknown` for a caller that did not say.
    pub from: String,
    /// The method.
    pub method: Method,
    /// The path.
    pub path: String,
    /// The beginning of what was sent.
    pub request: String,
    /// When it came, since the environment was made.
    pub asked: Duration,
    /// When it was answered, since the environment was made. `None` while it waits, and for ever
    /// when the caller died waiting.
    pub answered: Option<Duration>,
    /// The answer's status.
    pub status: Option<StatusCode>,
    /// The beginning of the answer's body.
    pub response: String,
}

impl ApiCall {
    /// The type of the event that the call brought, `INVOKE` or `SHUTDOWN` to an extension;
    /// `None` when it brought none.
    #[must_use]
    pub fn event(&self) -> Option<String> {
        let json: serde_json::Value = serde_json::from_str(&self.response).ok()?;
        json.get("eventType")?.as_str().map(str::to_owned)
    }
}

/// The beginning of a body, as text.
pub(super) fn abbreviated(body: &[u8]) -> String {
    let kept = body.get(..KEPT).unwrap_or(body);
    let mut text = String::from_utf8_lossy(kept).trim_end().to_owned();
    if body.len() > KEPT {
        text.push('…');
    }
    text
}
