//! What is wrong with a body that is not the JSON that it should be, in words for its sender.

use std::fmt::Write as _;
use std::str::Utf8Error;

use serde::de::IgnoredAny;

/// What many serialisers write although JSON has no such token.
const NO_JSON: [&str; 4] = ["NaN", "Infinity", "nan", "inf"];

/// Where the first byte stands that is no text, and which one it is.
pub(super) fn no_text(body: &[u8], error: Utf8Error) -> String {
    let place = error.valid_up_to();
    let byte = body.get(place).copied().unwrap_or_default();
    format!("byte {place} is 0x{byte:02x}, where JSON is UTF-8")
}

/// The reason why a body is not JSON; `None` where it is.
pub(super) fn of(body: &str) -> Option<String> {
    let read = serde_json::from_str::<IgnoredAny>(body);
    read.err().map(|error| words(body, &error))
}

/// What `error` found in `body`; of a number that JSON has no form for, what to write instead.
fn words(body: &str, error: &serde_json::Error) -> String {
    let mut words = error.to_string();
    let given = token(body, error);
    if let Some(token) = NO_JSON.into_iter().find(|token| given.starts_with(token)) {
        let _ = write!(
            words,
            ": {token} is not JSON; write null for NaN, and \"Infinity\" or \"-Infinity\" as a string"
        );
    }
    words
}

/// The token that was being read at the error's place, without its sign.
fn token<'a>(body: &'a str, error: &serde_json::Error) -> &'a str {
    let line = error.line().saturating_sub(1);
    let before: usize = body.split_inclusive('\n').take(line).map(str::len).sum();
    let at = (before + error.column().saturating_sub(1)).min(body.len());
    let stands_before = |byte: &u8| b"[{,: \n\r\t".contains(byte);
    let start = body.as_bytes()[..at].iter().rposition(stands_before);
    let token = body
        .get(start.map_or(0, |start| start + 1)..)
        .unwrap_or_default();
    token.strip_prefix('-').unwrap_or(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> String {
        let error = serde_json::from_str::<serde_json::Value>(body).unwrap_err();
        words(body, &error)
    }

    #[test]
    fn numbers_that_json_lacks_are_told_what_to_write_instead() {
        for body in [
            "{\"features\": [1, NaN]}",
            "{\"features\":\n [1,\n-Infinity]}",
            "[Infinity]",
            "[nan]",
            "[-inf, 1]",
        ] {
            let said = of(body);
            assert!(said.contains("write null for NaN"), "{body}: {said}");
        }
        for body in ["[1, x]", "[1 2]", "{\"NaN\": }", "[", "[-]", ""] {
            let said = of(body);
            assert!(!said.contains("NaN"), "{body}: {said}");
        }
    }

    #[test]
    fn a_byte_that_is_no_text_is_named_with_its_place() {
        for (body, words) in [
            (
                &b"{\"a\": \"\xe9t\xe9\"}"[..],
                "byte 7 is 0xe9, where JSON is UTF-8",
            ),
            (b"\xff", "byte 0 is 0xff, where JSON is UTF-8"),
        ] {
            let error = std::str::from_utf8(body).unwrap_err();
            assert_eq!(no_text(body, error), words);
        }
    }
}
