//! Conversion of AWS's paths and queries to a request target.
//!
//! AWS is inconsistent in decoding paths. A function URL and a load balancer pass a path as the
//! client sent it; an HTTP API decodes its `rawPath`. Existing escapes are therefore kept, and
//! characters that are invalid in a request line are escaped.

use http::Method;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

/// Bytes that are invalid anywhere in a request line. `%` is not included: see [`clean`].
const REQUEST_LINE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
/// Bytes that are invalid in a query: `#` would end it.
const QUERY: &AsciiSet = &REQUEST_LINE.add(b'#');
/// Bytes that are invalid in a path: `?` would end it as well.
const PATH: &AsciiSet = &QUERY.add(b'?');
/// Bytes that are invalid in a single segment, name or value: all but RFC 3986's unreserved ones.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// `path?query`, escaped for a request line; `POST /` is sent to `/predict`.
pub(super) fn build(method: &Method, path: &str, query: &str) -> String {
    let mut path = clean(path, PATH);
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    if path == "/" && method == Method::POST {
        path.push_str("predict");
    }
    let query = clean(query, QUERY);
    if query.is_empty() {
        path
    } else {
        format!("{path}?{query}")
    }
}

/// Escapes one segment of a path, or one name or value of a query, completely.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Escapes the bytes of `set`, and each `%` that begins no escape. Existing escapes are kept.
fn clean(text: &str, set: &'static AsciiSet) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for (at, piece) in text.split('%').enumerate() {
        if at > 0 {
            let hex = piece.as_bytes().get(..2);
            let is_escape = hex.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
            cleaned.push_str(if is_escape { "%" } else { "%25" });
        }
        cleaned.extend(utf8_percent_encode(piece, set));
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn post(path: &str, query: &str) -> String {
        build(&Method::POST, path, query)
    }

    #[test]
    fn the_root_means_predict_for_post_alone() {
        assert_eq!(post("", "a=1"), "/predict?a=1");
        assert_eq!(build(&Method::GET, "/", ""), "/");
    }

    #[test]
    fn existing_escapes_are_kept_and_missing_ones_added() {
        assert_eq!(post("/models/a%20b/predict", ""), "/models/a%20b/predict");
        assert_eq!(post("/models/a b/predict", ""), "/models/a%20b/predict");
        assert_eq!(post("/models/50%/x?y#z", ""), "/models/50%25/x%3Fy%23z");
        assert_eq!(post("/models/Žižkov", ""), "/models/%C5%BDi%C5%BEkov");
        assert_eq!(post("/p", "a=b c&d=%7B\"#"), "/p?a=b%20c&d=%7B%22%23");
        assert_eq!(encode("a/b?c d"), "a%2Fb%3Fc%20d");
    }

    proptest! {
        /// The result is valid in a request line, and its path remains a path, for any input.
        #[test]
        fn every_path_and_query_makes_a_valid_target(path in any::<String>(), query in any::<String>()) {
            let target = post(&path, &query);
            let uri: http::Uri = target.parse().unwrap();
            prop_assert_eq!(uri.path_and_query().unwrap().as_str(), &target);
            prop_assert_eq!(uri.query().unwrap_or_default().is_empty(), query.is_empty());
        }

        /// Escaping is idempotent.
        #[test]
        fn a_clean_path_stays_as_it_is(path in any::<String>()) {
            let once = post(&path, "");
            prop_assert_eq!(post(&once, ""), once);
        }
    }
}
