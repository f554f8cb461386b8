//! Header `content-type` of requests.
//!
//! The header is not required: many clients send none, or the default of curl. Bodies are parsed as JSON regardless,
//! and only the error of a body in another format names the header.

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use crate::excerpt::Excerpt;
use crate::protocol::{self, BadRequest};

/// Returns the `content-type` if it names another format than JSON.
pub(super) fn other_than_json(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers
        .get(CONTENT_TYPE)
        .filter(|value| *value != "application/json")?;
    let is_json = value.to_str().is_ok_and(|text| {
        let essence = text.split(';').next().unwrap_or_default().trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        is("application/json") || is("text/json") || essence.ends_with("+json")
    });
    (!is_json).then(|| value.clone())
}

/// Adds the `content-type` to the error of an invalid body, where the format may be the reason.
pub(super) fn explained(
    error: BadRequest,
    media_type: Option<&HeaderValue>,
    body: &[u8],
) -> BadRequest {
    let Some(media_type) = media_type else {
        return error;
    };
    let given = String::from_utf8_lossy(media_type.as_bytes());
    let lower = given.to_ascii_lowercase();
    // Formats of several objects: their first line is a valid object.
    let is_lines = ["jsonl", "ndjson", "json-seq"]
        .iter()
        .any(|it| lower.contains(it));
    if (protocol::begins_object(body) || body.trim_ascii().is_empty()) && !is_lines {
        return error;
    }
    BadRequest(format!(
        "{error}; header content-type is {:?}, expected application/json",
        Excerpt(&given)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(media_type: &'static str, body: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        let error = BadRequest("wrong".to_owned());
        explained(error, other_than_json(&headers).as_ref(), body.as_bytes()).0
    }

    #[test]
    fn an_error_names_a_content_type_other_than_json() {
        for (media_type, body) in [
            ("text/csv", "1,2"),
            ("text/csv; header=present", "5"),
            ("application/x-npy", "\u{93}NUMPY"),
            ("application/jsonlines", "{}\n{}"),
            ("application/x-ndjson", "{}\n{}"),
            ("application/x-www-form-urlencoded", "features=1"),
        ] {
            let words =
                format!("wrong; header content-type is {media_type:?}, expected application/json");
            assert!((of(media_type, body) == words), "{media_type}");
        }
        for (media_type, body) in [
            ("application/json", "[]"),
            ("Application/JSON; charset=utf-8", "1,2"),
            ("application/vnd.api+json", "5"),
            // The default of curl.
            ("application/x-www-form-urlencoded", "{\"features\": 1}"),
            ("text/plain", "\u{feff} {\"features\": 1}"),
            ("application/x-www-form-urlencoded", ""),
        ] {
            assert_eq!(of(media_type, body), "wrong", "{media_type}");
        }
    }
}
