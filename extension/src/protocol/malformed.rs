//! What is wrong with a body that is not the JSON object that it should be, in words for its sender.
//!
//! Asked only once something is wrong. The sender sees which format came, where that can be told, and what to send.

mod format;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::str::Utf8Error;

use serde::de::IgnoredAny;
use serde_json::error::Category;

use super::BadRequest;
use crate::excerpt::{Excerpt, Quoting};
pub(super) use format::in_place_of_elements;

/// The byte order mark that many tools of Windows write before UTF-8; JSON's readers may skip it (RFC 8259, 8.1).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Tokens that many serialisers write and JSON lacks, and what JSON has instead.
const NO_JSON: [(&str, &str); 9] = [
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

/// The forms of numbers that JSON lacks.
const NUMBERS: &str = "write null for NaN, and \"Infinity\" or \"-Infinity\" as a string";

/// `body` without a byte order mark before it.
pub(super) fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body)
}

/// Makes sure that an object begins `body`, which is to be `what`, as in "an inference request", and that all of it is
/// text.
pub(super) fn check_object<'a>(body: &'a [u8], what: &str) -> Result<&'a str, BadRequest> {
    let wrong = |problem: String| BadRequest(format!("not {what}: {problem}"));
    let text = without_mark(body);
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(wrong(no_object(text)));
    }
    // All of it, also what is skipped.
    std::str::from_utf8(text).map_err(|error| {
        let before = body.len() - text.len();
        wrong(no_text(body, before, error))
    })
}

/// The words for what came in the place of an object.
fn no_object(text: &[u8]) -> String {
    let begins = String::from_utf8_lossy(text.get(..200).unwrap_or(text));
    let begins = begins.trim_start();
    // In a body that shows its format by itself, nothing can be read from the first characters.
    match format::of(text) {
        Some(format) => format!("JSON with an object is expected, and {format}"),
        None => format!(
            "JSON with an object is expected, and the body begins with {:?}",
            Excerpt(begins)
        ),
    }
}

/// The place and the value of the first byte that is not text; `before` bytes precede the text in `body`.
fn no_text(body: &[u8], before: usize, error: Utf8Error) -> String {
    let place = before + error.valid_up_to();
    let byte = body.get(place).copied().unwrap_or_default();
    format!("byte {place} is 0x{byte:02x}, where JSON is UTF-8")
}

/// The error of a request, which is to be `what`, whose text is not JSON; `None` where it is.
pub(super) fn of(body: &[u8], what: &str) -> Option<BadRequest> {
    let text = std::str::from_utf8(without_mark(body)).ok()?;
    let read = serde_json::from_str::<IgnoredAny>(text);
    read.err().map(|found| error(what, text, &found))
}

/// The reason why a body is not JSON; `None` where it is.
pub(super) fn reason(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(without_mark(body)).ok()?;
    let read = serde_json::from_str::<IgnoredAny>(text);
    read.err().map(|error| words(text, &error))
}

/// The error of a request, which is to be `what`, whose `text` is no JSON or has fields that are none of it.
pub(super) fn error(what: &str, text: &str, error: &serde_json::Error) -> BadRequest {
    let words = words(text, error);
    if words.starts_with("trailing characters") {
        return BadRequest(format!("the body is not one JSON object alone: {words}"));
    }
    BadRequest(format!("not {what}: {words}"))
}

/// The words of `error` about `text`, and how to mend it, where that can be told.
fn words(text: &str, error: &serde_json::Error) -> String {
    let mut words = Quoting(error).to_string();
    let place = offset(text, error);
    let hint = match error.classify() {
        Category::Syntax => hint(text.as_bytes(), place),
        Category::Eof => Some("the body ends before its JSON does".to_owned()),
        Category::Data | Category::Io => None,
    };
    if let Some(hint) = hint {
        let _ = write!(words, ": {hint}");
    }
    words
}

/// The position in `text` at which the error was found.
fn offset(text: &str, error: &serde_json::Error) -> usize {
    let line = error.line().saturating_sub(1);
    let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    (before + error.column().saturating_sub(1)).min(text.len())
}

/// The hint that mends what is not JSON at `place` of `text`, where that can be told.
#[cold]
pub(super) fn hint(text: &[u8], place: usize) -> Option<String> {
    if let Some(token) = no_json(token(text, place)) {
        return Some(token);
    }
    let rest = text.get(place..).unwrap_or_default();
    let rest = rest.trim_ascii_start();
    match rest.first()? {
        0 => Some("a NUL character (byte 0x00) stands here, which JSON does not have".to_owned()),
        b'{' | b'[' if is_whole(text.get(..place)?) => Some(
            "another JSON value follows: one object is a request, and JSON Lines are not read"
                .to_owned(),
        ),
        _ if is_whole(text.get(..place)?) => None,
        b'\'' => Some(
            "names and strings stand in double quotes; in Python json.dumps writes them".to_owned(),
        ),
        _ if is_name_expected(text.get(..place)?) => Some(
            "names stand in double quotes, which a shell removes unless they are quoted".to_owned(),
        ),
        _ => None,
    }
}

/// The hint for a token that many serialisers write and JSON lacks, if `text` begins with one.
pub(super) fn no_json(text: &[u8]) -> Option<String> {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let end = text.iter().position(|byte| !is_word(byte));
    let word = &text[..end.unwrap_or(text.len())];
    let (token, instead) = NO_JSON
        .into_iter()
        .find(|(token, _)| token.as_bytes() == word)?;
    Some(format!("{token} is not JSON; {instead}"))
}

/// The token that was being read at `place`.
fn token(text: &[u8], place: usize) -> &[u8] {
    let place = place.min(text.len());
    let stands_before = |byte: &u8| b"[{,: \n\r\t".contains(byte);
    let start = text[..place].iter().rposition(stands_before);
    text.get(start.map_or(0, |start| start + 1)..)
        .unwrap_or_default()
}

/// Returns true if `before` ends in an object that has been closed.
fn is_whole(before: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(without_mark(before)).is_ok()
}

/// Returns true if a field's name is what comes next.
fn is_name_expected(before: &[u8]) -> bool {
    matches!(before.trim_ascii_end().last(), Some(b'{'))
}
