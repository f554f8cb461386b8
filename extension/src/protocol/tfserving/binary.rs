//! `{"b64": "…"}`, TensorFlow Serving's form of a string that is given in base64.

use std::borrow::Cow;

use aws_smithy_types::base64;

use super::super::{BadRequest, json};
use super::Signature;

/// The one key of such an object.
const KEY: &str = "b64";

/// The same JSON with a string in the place of each string in base64. Everything else stays as it was written, since a
/// number that is parsed and written again may be another one.
pub(super) fn as_strings<'a>(
    json: &'a str,
    place: &str,
    signature: &Signature,
) -> Result<Cow<'a, str>, BadRequest> {
    // Where an input has this very name, an object with it is a column.
    if !json.contains("\"b64\"") || signature.input(KEY).is_some() {
        return Ok(Cow::Borrowed(json));
    }
    let mut text = String::with_capacity(json.len());
    let mut rest = json;
    let mut count = 0;
    while let Some(start) = rest.find(['{', '"']) {
        let (before, here) = rest.split_at(start);
        text.push_str(before);
        if let Some((encoded, length)) = object(here) {
            let wrong = |problem: &str| {
                BadRequest(format!(
                    "{place}: the value of {KEY:?} number {count}, from 0, {problem}"
                ))
            };
            let bytes = base64::decode(encoded).map_err(|_| wrong("is not base64"))?;
            let decoded = String::from_utf8(bytes).map_err(|_| {
                wrong("holds bytes that are not UTF-8, and a string of an ONNX model is UTF-8")
            })?;
            text.push_str(&serde_json::Value::from(decoded).to_string());
            count += 1;
            rest = &here[length..];
        } else {
            let length = if here.starts_with('"') {
                string(here)
            } else {
                1
            };
            text.push_str(&here[..length]);
            rest = &here[length..];
        }
    }
    text.push_str(rest);
    Ok(Cow::Owned(text))
}

/// What the object at the start of this JSON holds in base64, if it is such an object, and how long it is.
fn object(json: &str) -> Option<(String, usize)> {
    let mut at = 0;
    let mut skip = |token: &str| {
        let rest = &json[at..];
        at += rest.len() - rest.trim_start().len();
        json[at..].starts_with(token).then(|| at += token.len())?;
        Some(at)
    };
    skip("{")?;
    skip("\"b64\"")?;
    skip(":")?;
    let value = skip("\"")? - 1;
    let token = &json[value..value + string(&json[value..])];
    skip(&token[1..])?;
    let end = skip("}")?;
    Some((serde_json::from_str(token).ok()?, end))
}

/// How long the string is that this JSON begins with, quotes included.
fn string(json: &str) -> usize {
    json::string(json.as_bytes()).map_or(json.len(), <[u8]>::len)
}
