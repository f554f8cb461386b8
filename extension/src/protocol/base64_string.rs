//! TensorFlow Serving's form of a string in base64: `{"b64": "…"}`.

use super::json_reader::{self, JsonReader, after_space};

/// Returns `true` if a string in base64 begins at the reader's position, or an array whose first item is one.
pub(super) fn begins_here(reader: &JsonReader<'_>) -> bool {
    let (text, position) = reader.here();
    let start = if reader.is_array() {
        after_space(text, position + 1)
    } else {
        position
    };
    object(text.get(start..).unwrap_or_default()).is_some()
}

/// Returns the escaped string of an object with the single field `b64`, and the length of the object; `None` for any
/// other value.
pub(super) fn object(rest: &[u8]) -> Option<(&[u8], usize)> {
    let mut at = 0;
    let mut skip = |token: &[u8]| {
        at = after_space(rest, at);
        rest.get(at..)?
            .starts_with(token)
            .then(|| at += token.len())?;
        Some(at)
    };
    skip(b"{")?;
    skip(b"\"b64\"")?;
    skip(b":")?;
    let value = skip(b"\"")? - 1;
    let token = json_reader::string(&rest[value..])?;
    let end = after_space(rest, value + token.len());
    (rest.get(end) == Some(&b'}')).then_some((token, end + 1))
}
