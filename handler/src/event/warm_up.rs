//! Events that only keep an execution environment warm: they succeed once the model is ready, and nothing is inferred.

use bytes::Bytes;
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::unsupported::Fields;
use super::{Call, field};

/// RFC 7240. The sidecar's health check waits for its models with it, and never beyond the deadline.
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// As long as Lambda's longest timeout.
const WAIT: HeaderValue = HeaderValue::from_static("wait=900");

/// Returns whether an event with these fields is a warm-up: a schedule's own event, that of the plugin for the
/// Serverless Framework, or `warmer: true`. A schedule that sends something to infer is none.
pub(super) fn is_warm_up(fields: &Fields) -> bool {
    let is = |name: &str, text: &str| {
        field::lenient_text(fields.get(name).copied()).as_deref() == Some(text)
    };
    let is_scheduled = is("detail-type", "Scheduled Event")
        && (is("source", "aws.events") || is("source", "aws.scheduler"));
    let is_warmer = fields.get("warmer").is_some_and(|raw| raw.get() == "true");
    is_scheduled || is_warmer || is("source", "serverless-plugin-warmup")
}

/// The call that is answered when every model is ready, or when the deadline has come.
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
