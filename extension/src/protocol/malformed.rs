//! Diagnosis of a body that is not the expected JSON object, for its sender.
//!
//! Used only after an error was found. The message names the actual format if it is recognized, and the remedy.

mod body_format;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::str::Utf8Error;

use serde::de::IgnoredAny;
use serde_json::error::Category;

use super::BadRequest;
use crate::excerpt::{Excerpt, Quoting};
pub(super) use body_format::in_place_of_elements;

/// Byte order mark that many Windows tools write before UTF-8. JSON readers may skip it (RFC 8259, 8.1).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Tokens that many serializers write and JSON lacks, with the replacement.
const NON_JSON_TOKENS: [(&str, &str); 9] = [
    ("NaN", NUMBERS),
    ("Infinity", NUMBERS),
    ("nan", NUMBERS),
    ("inf", NUMBERS),
    ("NAN", NUMBERS),
    ("None", "write null"),
    ("True", "write true"),
    ("False", "write false"),
    ("undefined", "write null"),
];

/// Replacements of numbers that JSON lacks.
const NUMBERS: &str = "write null for NaN, and \"Infinity\" or \"-Infinity\" as a string";

/// Returns `body` without a leading byte order mark.
pub(super) fn without_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// Checks that `body` begins with an object and is valid UTF-8. `what` is the expected request, as in "an inference
/// request".
pub(super) fn check_object<'a>(body: &'a [u8], what: &str) -> Result<&'a str, BadRequest> {
    let wrong = |problem: String| BadRequest(format!("not {what}: {problem}"));
    let text = without_byte_order_mark(body);
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(wrong(not_an_object(text)));
    }
    // The whole body, including ignored fields.
    std::str::from_utf8(text).map_err(|error| {
        let before = body.len() - text.len();
        wrong(not_utf8(body, before, error))
    })
}

/// Describes a body that does not begin with an object.
fn not_an_object(text: &[u8]) -> String {
    let begins = String::from_utf8_lossy(text.get(..200).unwrap_or(text));
    let begins = begins.trim_start();
    // In a recognized format, the first characters are not informative.
    match body_format::of(text) {
        Some(format) => format!("expected a JSON object, found {format}"),
        None => format!(
            "expected a JSON object, but the body begins with {:?}",
            Excerpt(begins)
        ),
    }
}

/// Describes the first byte that is not UTF-8; `before` bytes precede the text in `body`.
fn not_utf8(body: &[u8], before: usize, error: Utf8Error) -> String {
    let position = before + error.valid_up_to();
    let byte = body.get(position).copied().unwrap_or_default();
    format!("byte {position} (0x{byte:02x}) is not valid UTF-8")
}

/// Returns the error of a request, expected to be `what`, if its text is not valid JSON.
pub(super) fn of(body: &[u8], what: &str) -> Option<BadRequest> {
    let text = std::str::from_utf8(without_byte_order_mark(body)).ok()?;
    let read = serde_json::from_str::<IgnoredAny>(text);
    read.err().map(|found| error(what, text, &found))
}

/// Returns the reason why a body is not valid JSON; `None` if it is.
pub(super) fn reason(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(without_byte_order_mark(body)).ok()?;
    let read = serde_json::from_str::<IgnoredAny>(text);
    read.err().map(|error| message(text, &error))
}

/// Returns the error of a request, expected to be `what`, whose `text` is not valid JSON or has unknown fields.
pub(super) fn error(what: &str, text: &str, error: &serde_json::Error) -> BadRequest {
    let message = message(text, error);
    if message.starts_with("trailing characters") {
        return BadRequest(format!("the body must be a single JSON object: {message}"));
    }
    BadRequest(format!("not {what}: {message}"))
}

/// Returns the message of `error` about `text`, with a remedy if there is one.
fn message(text: &str, error: &serde_json::Error) -> String {
    let mut message = Quoting(error).to_string();
    let position = offset(text, error);
    let hint = match error.classify() {
        Category::Syntax => hint(text.as_bytes(), position),
        Category::Eof => Some("the body ends before the JSON value is complete".to_owned()),
        Category::Data | Category::Io => None,
    };
    if let Some(hint) = hint {
        let _ = write!(message, "; {hint}");
    }
    message
}

/// Returns the position in `text` of the error.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    let line = error.line().saturating_sub(1);
    let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    (before + error.column().saturating_sub(1)).min(text.len())
}

/// Returns a remedy for the invalid JSON at `position` of `text`, if there is one.
#[cold]
pub(super) fn hint(text: &[u8], position: usize) -> Option<String> {
    if let Some(hint) = non_json_token(token(text, position)) {
        return Some(hint);
    }
    let rest = text.get(position..).unwrap_or_default();
    let rest = rest.trim_ascii_start();
    match rest.first()? {
        0 => Some("a NUL character (byte 0x00) is not allowed in JSON".to_owned()),
        b'{' | b'[' if is_whole(text.get(..position)?) => Some(
            "another JSON value follows: a request is a single object, and JSON Lines are not supported"
                .to_owned(),
        ),
        _ if is_whole(text.get(..position)?) => None,
        b'\'' => Some(
            "names and strings must be in double quotes; in Python, use json.dumps".to_owned(),
        ),
        _ if is_name_expected(text.get(..position)?) => Some(
            "names must be in double quotes, which a shell removes unless they are quoted".to_owned(),
        ),
        _ => None,
    }
}

/// Returns the remedy for a token that many serializers write and JSON lacks, if `text` begins with one.
pub(super) fn non_json_token(text: &[u8]) -> Option<String> {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let end = text.iter().position(|byte| !is_word(byte));
    let word = &text[..end.unwrap_or(text.len())];
    let (token, instead) = NON_JSON_TOKENS
        .into_iter()
        .find(|(token, _)| token.as_bytes() == word)?;
    Some(format!("{token} is not JSON; {instead}"))
}

/// Returns the token at `position`.
fn token(text: &[u8], position: usize) -> &[u8] {
    let position = position.min(text.len());
    let stands_before = |byte: &u8| b"[{,: \n\r\t".contains(byte);
    let start = text[..position].iter().rposition(stands_before);
    text.get(start.map_or(0, |start| start + 1)..)
        .unwrap_or_default()
}

/// Returns `true` if `before` is a complete JSON value.
fn is_whole(before: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(without_byte_order_mark(before)).is_ok()
}

/// Returns `true` if a field's name comes next.
fn is_name_expected(before: &[u8]) -> bool {
    matches!(before.trim_ascii_end().last(), Some(b'{'))
}
