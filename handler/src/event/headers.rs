//! Selection of the caller's headers to forward.

use std::collections::BTreeMap;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::{Envelope, field};
use crate::failure::Failure;
use crate::headers::is_hop_by_hop;
use crate::invocation;

/// Maximum number of header values in an event. The sidecar accepts fewer, and responds with 431.
const MAX_HEADERS: usize = 1_000;

/// Header names and their values as in events; either may be null.
type Single = BTreeMap<String, Option<String>>;
type Multi = BTreeMap<String, Option<Vec<String>>>;

/// Headers of the caller. Excluded are the headers of its connection, headers that are set again
/// for the body, and headers reserved for the platform.
///
/// A name or value that is invalid in HTTP is dropped: no gateway forwards one.
pub(super) fn read(envelope: &Envelope) -> Result<HeaderMap, Failure> {
    let mut all = HeaderMap::new();
    let multi: Option<Multi> = field::typed(
        "multiValueHeaders",
        "an object of lists of strings, or null",
        envelope.multi_value_headers,
    )?;
    if let Some(multi) = multi.filter(|multi| !multi.is_empty()) {
        for (name, values) in multi {
            for value in values.into_iter().flatten() {
                append(&mut all, &name, &value)?;
            }
        }
    } else {
        let single: Option<Single> =
            field::typed("headers", "an object of strings, or null", envelope.headers)?;
        for (name, value) in single.unwrap_or_default() {
            append(&mut all, &name, &value.unwrap_or_default())?;
        }
    }

    let cookies: Option<Vec<String>> =
        field::typed("cookies", "a list of strings, or null", envelope.cookies)?;
    if let Some(cookies) = cookies.filter(|cookies| !cookies.is_empty()) {
        append(&mut all, header::COOKIE.as_str(), &cookies.join("; "))?;
    }

    for name in named_by_connection(&all) {
        all.remove(name);
    }
    all.remove(header::CONNECTION);
    Ok(all)
}

fn append(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), Failure> {
    let (Ok(name), Ok(value)) = (
        HeaderName::from_bytes(name.as_bytes()),
        HeaderValue::from_bytes(value.as_bytes()),
    ) else {
        return Ok(());
    };
    // `connection` is kept until the headers that it names are known.
    if name == header::CONNECTION || !(is_hop_by_hop(&name) || is_ours(&name)) {
        if headers.len() >= MAX_HEADERS {
            return Err(Failure::BadRequest(format!(
                "the event has more than {MAX_HEADERS} header values"
            )));
        }
        headers.append(name, value);
    }
    Ok(())
}

/// Headers that the call to the sidecar sets itself. `expect` is included because the body is
/// already available.
fn is_ours(name: &HeaderName) -> bool {
    *name == header::HOST
        || *name == header::CONTENT_LENGTH
        || *name == header::EXPECT
        || *name == invocation::DEADLINE
        || *name == invocation::REQUEST_ID
        || *name == invocation::TRACE_ID
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect()
}
