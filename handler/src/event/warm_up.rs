//! Warm-up events, which keep an execution environment warm: they succeed once the model is ready,
//! and run no inference.

use bytes::Bytes;
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::unsupported::Fields;
use super::{Call, field};

/// RFC 7240. The sidecar's health check waits for its models if this header is set, at most until
/// the deadline.
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Lambda's maximum timeout.
const WAIT: HeaderValue = HeaderValue::from_static("wait=900");

/// Returns `true` for a warm-up: a scheduled event, an event of the Serverless Framework's plugin,
/// or `warmer: true`. A scheduled event with an input is not a warm-up.
pub(super) fn is_warm_up(fields: &Fields) -> bool {
    let is = |name: &str, text: &str| {
        field::lenient_text(fields.get(name).copied()).as_deref() == Some(text)
    };
    let is_scheduled = is("detail-type", "Scheduled Event")
        && (is("source", "aws.events") || is("source", "aws.scheduler"));
    let is_warmer = fields.get("warmer").is_some_and(|raw| raw.get() == "true");
    is_scheduled || is_warmer || is("source", "serverless-plugin-warmup")
}

/// The call that returns when every model is ready, or at the deadline.
pub(super) fn call() -> Call {
    Call {
        method: Method::GET,
        target: "/v2/health/ready".to_owned(),
        headers: HeaderMap::from_iter([(PREFER, WAIT)]),
        body: Bytes::new(),
    }
}

#[cfg(test)]
mod tests;
