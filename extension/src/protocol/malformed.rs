//! What is wrong with a body that is not the JSON that it should be, in words for its sender.

use std::fmt::Write as _;

/// What many serialisers write although JSON has no such token.
const NO_JSON: [&str; 4] = ["NaN", "Infinity", "nan", "inf"];

/// What `error` found in `body`: a byte that is no text is named with its place, since the parser does not, and of a
/// number that JSON has no form for it is said what to write instead.
pub(super) fn words(body: &[u8], error: &serde_json::Error) -> String {
    if let Err(error) = std::str::from_utf8(body) {
        let place = error.valid_up_to();
        let byte = body.get(place).copied().unwrap_or_default();
        return format!("byte {place} is 0x{byte:02x}, where JSON is UTF-8");
    }
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
fn token<'a>(body: &'a [u8], error: &serde_json::Error) -> &'a str {
    let line = error.line().saturating_sub(1);
    let before: usize = body
        .split_inclusive(|&byte| byte == b'\n')
        .take(line)
        .map(<[u8]>::len)
        .sum();
    let at = (before + error.column().saturating_sub(1)).min(body.len());
    let stands_before = |byte: &u8| b"[{,: \n\r\t".contains(byte);
    let start = body[..at].iter().rposition(stands_before);
    let token = &body[start.map_or(0, |start| start + 1)..];
    let token = std::str::from_utf8(token).unwrap_or_default();
    token.strip_prefix('-').unwrap_or(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &[u8]) -> String {
        let error = serde_json::from_slice::<serde_json::Value>(body).unwrap_err();
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
            let said = of(body.as_bytes());
            assert!(said.contains("write null for NaN"), "{body}: {said}");
        }
        for body in ["[1, x]", "[1 2]", "{\"NaN\": }", "[", "[-]", ""] {
            let said = of(body.as_bytes());
            assert!(!said.contains("NaN"), "{body}: {said}");
        }
    }

    #[test]
    fn a_byte_that_is_no_text_is_named_with_its_place() {
        assert_eq!(
            of(b"{\"a\": \"\xe9t\xe9\"}"),
            "byte 7 is 0xe9, where JSON is UTF-8"
        );
        assert_eq!(of(b"\xff"), "byte 0 is 0xff, where JSON is UTF-8");
    }
}
