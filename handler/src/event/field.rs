//! Fields of an event, parsed from their JSON form when they are needed.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::failure::Failure;

/// Value of an optional field; an error for a wrong type names the field.
pub(super) fn typed<T: DeserializeOwned>(
    name: &str,
    allowed: &str,
    raw: Option<&RawValue>,
) -> Result<Option<T>, Failure> {
    raw.map(|raw| serde_json::from_str(raw.get()).map_err(|_| mistyped(name, allowed, raw)))
        .transpose()
}

/// A string field, borrowed from the event unless it contains escapes.
pub(super) fn text<'a>(
    name: &str,
    raw: Option<&'a RawValue>,
) -> Result<Option<Cow<'a, str>>, Failure> {
    let Some(raw) = raw else { return Ok(None) };
    let inner = raw
        .get()
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('\\') => Ok(Some(Cow::Borrowed(inner))),
        _ => serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|_| mistyped(name, "a string or null", raw)),
    }
}

/// A string field that is not essential: `None` if it is not a string.
pub(super) fn lenient_text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    text("", raw).unwrap_or_default()
}

fn mistyped(name: &str, allowed: &str, raw: &RawValue) -> Failure {
    let value = excerpt(raw.get());
    Failure::BadRequest(format!("event field {name} must be {allowed}, not {value}"))
}

/// Beginning of a value, short enough for an error message.
pub(crate) fn excerpt(text: &str) -> Cow<'_, str> {
    const MAX_EXCERPT: usize = 60;
    if text.len() <= MAX_EXCERPT {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(MAX_EXCERPT);
    Cow::Owned(format!("{}…", &text[..end]))
}
