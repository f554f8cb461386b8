//! Paths and queries, as AWS writes them and as a request line wants them.
//!
//! AWS is not of one mind whether a path is decoded: a Function URL and a load balancer hand it over
//! as the client sent it, an HTTP API decodes what it calls `rawPath`. So escapes that are there
//! stay, and what may not stand in a request line gets one.

use std::fmt::Write as _;

use http::Method;

/// `path?query`, with what may not stand there escaped, the stage taken off, and `POST /` sent to
/// `/predict`.
pub(super) fn build(method: &Method, path: &str, stage: Option<&str>, query: &str) -> String {
    let mut path = clean(without_stage(path, stage), |byte| {
        byte != b'?' && byte != b'#'
    });
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    if path == "/" && method == Method::POST {
        path.push_str("predict");
    }
    let query = clean(query, |byte| byte != b'#');
    if query.is_empty() {
        path
    } else {
        format!("{path}?{query}")
    }
}

/// Takes `/{stage}` off the front: API Gateway leaves it there for every stage but `$default`.
fn without_stage<'a>(path: &'a str, stage: Option<&str>) -> &'a str {
    let Some(stage) = stage.filter(|stage| !stage.is_empty() && *stage != "$default") else {
        return path;
    };
    match path
        .strip_prefix('/')
        .and_then(|rest| rest.strip_prefix(stage))
    {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => path,
    }
}

/// Escapes one segment of a path, or one name or value of a query, wholly.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            escape(&mut encoded, byte);
        }
    }
    encoded
}

/// Escapes what may not stand in a request line at all, and leaves escapes that are there already.
fn clean(text: &str, allowed: impl Fn(u8) -> bool) -> String {
    let bytes = text.as_bytes();
    let mut cleaned = String::with_capacity(text.len());
    for (at, &byte) in bytes.iter().enumerate() {
        let plain = match byte {
            b'%' => bytes
                .get(at + 1..at + 3)
                .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => false,
            _ => byte.is_ascii_graphic() && allowed(byte),
        };
        if plain {
            cleaned.push(byte.into());
        } else {
            escape(&mut cleaned, byte);
        }
    }
    cleaned
}

fn escape(into: &mut String, byte: u8) {
    // Writing to a string cannot fail.
    let _ = write!(into, "%{byte:02X}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn post(path: &str, stage: Option<&str>, query: &str) -> String {
        build(&Method::POST, path, stage, query)
    }

    #[test]
    fn the_stage_comes_off_and_only_the_stage() {
        assert_eq!(post("/prod/predict", Some("prod"), ""), "/predict");
        assert_eq!(post("/prod", Some("prod"), ""), "/predict");
        assert_eq!(post("/prod/", Some("prod"), ""), "/predict");
        assert_eq!(post("/production/x", Some("prod"), ""), "/production/x");
        assert_eq!(post("/predict", Some("$default"), ""), "/predict");
        assert_eq!(post("/predict", None, ""), "/predict");
        assert_eq!(post("/predict", Some(""), ""), "/predict");
    }

    #[test]
    fn the_root_means_predict_for_post_alone() {
        assert_eq!(post("", None, "a=1"), "/predict?a=1");
        assert_eq!(build(&Method::GET, "/", None, ""), "/");
    }

    #[test]
    fn escapes_stay_and_what_needs_one_gets_it() {
        assert_eq!(
            post("/models/a%20b/predict", None, ""),
            "/models/a%20b/predict"
        );
        assert_eq!(
            post("/models/a b/predict", None, ""),
            "/models/a%20b/predict"
        );
        assert_eq!(
            post("/models/50%/x?y#z", None, ""),
            "/models/50%25/x%3Fy%23z"
        );
        assert_eq!(post("/models/Žižkov", None, ""), "/models/%C5%BDi%C5%BEkov");
        assert_eq!(post("/p", None, "a=b c&d=%7B\"#"), "/p?a=b%20c&d=%7B%22%23");
        assert_eq!(encode("a/b?c d"), "a%2Fb%3Fc%20d");
    }

    proptest! {
        /// Whatever a caller writes, the outcome stands in a request line and keeps its path a path.
        #[test]
        fn every_path_and_query_makes_a_valid_target(path in any::<String>(), query in any::<String>()) {
            let target = post(&path, None, &query);
            let uri: http::Uri = target.parse().unwrap();
            prop_assert_eq!(uri.path_and_query().unwrap().as_str(), &target);
            prop_assert_eq!(uri.query().unwrap_or_default().is_empty(), query.is_empty());
        }

        /// Escaping a second time changes nothing.
        #[test]
        fn a_clean_path_stays_as_it_is(path in any::<String>()) {
            let once = post(&path, None, "");
            prop_assert_eq!(post(&once, None, ""), once);
        }
    }
}
