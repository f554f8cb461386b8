//! Header `Server-Timing`: the time spent in each stage of a request, in milliseconds.
//!
//! The first response of a version that requests had to wait for also has the steps of its load. Each has the parameter
//! `end`, in milliseconds since the Unix epoch, since Init may have loaded the version long before the request.
//!
//! Format: <https://www.w3.org/TR/server-timing/>.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderValue;

use super::headers::SERVER_TIMING;
use super::response::ApiResponse;
use super::statistics::InferenceTimes;
use crate::clock::Timestamp;
use crate::models::{LoadSteps, LoadedModel};

/// Adds the header to a response of this version.
pub(super) fn with_server_timing(
    mut response: ApiResponse,
    times: &InferenceTimes,
    loaded: &LoadedModel,
) -> ApiResponse {
    let mut text = Vec::with_capacity(96);
    for (stage, time) in [
        ("queue", times.queue),
        ("decode", times.decode),
        ("infer", times.infer),
        ("encode", times.encode),
    ] {
        write_entry(&mut text, stage, time);
    }
    if let Some(steps) = loaded.take_steps() {
        write_steps(&mut text, &steps, loaded.loaded_at);
    }
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(text)) {
        response.headers_mut().insert(&SERVER_TIMING, value);
    }
    response
}

/// Appends the steps of a load that ended at this time.
fn write_steps(out: &mut Vec<u8>, steps: &LoadSteps, ended: Timestamp) {
    let after_load = steps.warm_up.unwrap_or_default();
    let after_fetch = steps.load + after_load;
    for (step, time, after) in [
        ("fetch", steps.fetch, after_fetch),
        ("load", Some(steps.load), after_load),
        ("warm_up", steps.warm_up, Duration::ZERO),
    ] {
        if let Some(time) = time {
            write_entry(out, step, time);
            let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            out.extend_from_slice(b";end=");
            let end = ended.0.saturating_sub(after);
            out.extend_from_slice(itoa::Buffer::new().format(end).as_bytes());
        }
    }
}

fn write_entry(out: &mut Vec<u8>, stage: &str, time: Duration) {
    if !out.is_empty() {
        out.extend_from_slice(b", ");
    }
    out.extend_from_slice(stage.as_bytes());
    out.extend_from_slice(b";dur=");
    write_ms(out, time);
}

/// Appends a time in milliseconds, with three decimals. Formatting it with `write!` takes 1 % of a small request.
fn write_ms(out: &mut Vec<u8>, time: Duration) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(micros / 1000).as_bytes());
    // The leading 1 keeps the zeros of the decimals.
    let decimals = digits.format(1000 + micros % 1000);
    out.push(b'.');
    out.extend_from_slice(decimals.as_bytes().get(1..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_a_load_end_one_after_the_other() {
        let mut text = Vec::new();
        let steps = LoadSteps {
            fetch: Some(Duration::from_micros(812_345)),
            load: Duration::from_millis(95),
            warm_up: Some(Duration::from_millis(5)),
        };
        write_steps(&mut text, &steps, Timestamp(10_000));
        let expected =
            "fetch;dur=812.345;end=9900, load;dur=95.000;end=9995, warm_up;dur=5.000;end=10000";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn a_version_from_the_cache_was_not_fetched() {
        let mut text = b"encode;dur=0.010".to_vec();
        let steps = LoadSteps {
            fetch: None,
            load: Duration::from_millis(95),
            warm_up: None,
        };
        write_steps(&mut text, &steps, Timestamp(10_000));
        let expected = "encode;dur=0.010, load;dur=95.000;end=10000";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
