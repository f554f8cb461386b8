//! Headers of a request: the deadline, the length of its JSON, and how long its caller prefers to wait.

use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HeaderMap};

use super::context::ServerContext;
use super::error::ApiError;
use super::headers::{DEADLINE, DEADLINE_NAME, HEADER_LENGTH_NAME};
use super::limits::{DEADLINE_MARGIN, MAX_WAIT};
use crate::clock::Deadline;
use crate::protocol::v2::HEADER_LENGTH;

/// Returns the deadline of the request, or else of the invocation, less [`DEADLINE_MARGIN`].
pub(super) fn deadline(headers: &HeaderMap, context: &ServerContext) -> Result<Deadline, ApiError> {
    let now = context.clock.now();
    let Some(value) = headers.get(&DEADLINE_NAME) else {
        let invocation = context
            .status
            .invocation_deadline()
            .filter(|deadline| !deadline.remaining(now).is_zero());
        return Ok(invocation.map_or_else(
            || Deadline::after(now, MAX_WAIT),
            |d| d.less(DEADLINE_MARGIN),
        ));
    };
    let ms = value
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| ApiError::InvalidHeader {
            name: DEADLINE,
            value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
            expected: "milliseconds since the Unix epoch",
        })?;
    Ok(Deadline::at_unix_ms(ms).less(DEADLINE_MARGIN))
}

/// Returns the number of bytes of the body that are JSON; tensors in binary may follow them. `None` without the header.
pub(super) fn header_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let Some(value) = headers.get(&HEADER_LENGTH_NAME) else {
        return Ok(None);
    };
    let text = value.to_str().ok();
    let length = text.and_then(|text| text.parse().ok());
    // Read as binary, JSON would pass for numbers.
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|value| {
        let essence = value.to_str().ok().and_then(|text| text.split(';').next());
        essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
    });
    let expected = match length {
        Some(0) if is_json => {
            "the number of bytes of the body that are JSON, since content-type is application/json (a body without \
             JSON is application/octet-stream)"
        }
        Some(_) => return Ok(length),
        None => "the number of bytes of the body that are JSON",
    };
    Err(ApiError::InvalidHeader {
        name: HEADER_LENGTH,
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
        expected,
    })
}

/// Returns the preference `wait` of RFC 7240: the time that the caller would wait for a better response.
pub(super) fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("prefer").iter();
    let mut preferences = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    preferences.find_map(|preference| {
        let preference = preference.split(';').next()?;
        let (name, seconds) = preference.split_once('=')?;
        let seconds = seconds.trim().trim_matches('"').parse().ok()?;
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        is_wait.then(|| Duration::from_secs(seconds))
    })
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    #[test]
    fn a_preference_for_waiting_is_found_among_others() {
        let wait = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(HeaderName::from_static("prefer"), value.parse().unwrap());
            }
            preferred_wait(&headers).map(|wait| wait.as_secs())
        };
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&["wait=900"]), Some(900));
        assert_eq!(wait(&["respond-async, Wait = \"7\"; x=1"]), Some(7));
        assert_eq!(wait(&["return=minimal", "wait=0"]), Some(0));
        for other in ["wait", "wait=soon", "wait=-1", "await=3", "respond-async"] {
            assert_eq!(wait(&[other]), None, "{other}");
        }
    }
}
