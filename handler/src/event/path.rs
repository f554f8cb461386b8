//! Extraction of the sidecar's path from the path of an event.
//!
//! Gateways prepend segments: the stage, and the base path of a custom domain's API mapping. API
//! Gateway gives the matched resource (or route) with its parameters, which shows where the
//! function's own path begins. For all other events [`BasePath`] names the prefix to remove.

use std::collections::BTreeMap;
use std::sync::Arc;

use percent_encoding::{percent_decode, percent_decode_str};

/// Path parameters by name.
pub(super) type Parameters = BTreeMap<String, Option<String>>;

/// The path in `MODEL_BASE_PATH`: removed from paths that begin with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BasePath(Arc<str>);

impl BasePath {
    /// Base path of this text, without leading and trailing slashes.
    #[must_use]
    pub fn new(text: &str) -> Self {
        match text.trim().trim_matches('/') {
            "" => Self::default(),
            inner => Self(format!("/{inner}").into()),
        }
    }

    /// The part of `path` after the base path, or all of it if it does not begin with it.
    fn strip<'a>(&self, path: &'a str) -> &'a str {
        if self.0.is_empty() {
            return path;
        }
        let expected: Vec<u8> = percent_decode_str(&self.0).collect();
        prefix_end(path, &expected)
            .map(|end| &path[end..])
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))
            .unwrap_or(path)
    }
}

/// Fields of an event that determine the function's own part of its path.
#[derive(Debug, Default)]
pub(super) struct Mapping<'a> {
    /// Template of the matched resource or route, such as `/{proxy+}`.
    pub(super) resource: Option<&'a str>,
    /// Values of the template's parameters.
    pub(super) parameters: Parameters,
    /// `true` if the matched path is the API's root, below a custom domain's base path.
    pub(super) is_mapped_root: bool,
    /// Stage, if API Gateway keeps it in the path.
    pub(super) stage: Option<&'a str>,
}

impl Mapping<'_> {
    /// The sidecar's path within `path`.
    pub(super) fn local<'a>(&self, path: &'a str, base_path: &BasePath) -> &'a str {
        if self.is_mapped_root {
            return "/";
        }
        let staged = without_stage(path, self.stage);
        let local = if staged.len() < path.len() {
            // Without a custom domain the stage comes first.
            staged
        } else {
            self.resource
                .and_then(|resource| substitute(resource, &self.parameters))
                .and_then(|resource| suffix(path, &resource))
                .unwrap_or(path)
        };
        base_path.strip(local)
    }
}

/// The resource with its parameters substituted; `None` unless it is a path and all are known.
fn substitute(resource: &str, parameters: &Parameters) -> Option<String> {
    let mut pieces = resource.split('{');
    let mut path = pieces.next()?.to_owned();
    for piece in pieces {
        let (name, behind) = piece.split_once('}')?;
        let name = name.strip_suffix('+').unwrap_or(name);
        let value = parameters.get(name)?.as_deref()?;
        // AWS's sample events contain `"proxy": "/path/to/resource"`.
        path.push_str(value.trim_start_matches('/'));
        path.push_str(behind);
    }
    path.starts_with('/').then_some(path)
}

/// The end of `path` that equals `resource` after decoding escapes, ignoring a trailing slash of
/// either. AWS does not document which of the two is decoded, and gateways differ.
fn suffix<'a>(path: &'a str, resource: &str) -> Option<&'a str> {
    let decode = |text: &str| -> Vec<u8> {
        percent_decode_str(text.strip_suffix('/').unwrap_or(text)).collect()
    };
    let (whole, expected) = (decode(path), decode(resource));
    if expected.is_empty() {
        return None;
    }
    let before = whole.strip_suffix(&expected[..])?;
    let rest = &path[prefix_end(path, before)?..];
    rest.starts_with('/').then_some(rest)
}

/// Length of the prefix of `path` whose decoded bytes are `expected`.
fn prefix_end(path: &str, expected: &[u8]) -> Option<usize> {
    let bytes = path.as_bytes();
    let mut at = 0;
    for wanted in expected {
        let rest = bytes.get(at..)?;
        if percent_decode(rest).next()? != *wanted {
            return None;
        }
        at += if is_escape(rest) { 3 } else { 1 };
    }
    path.is_char_boundary(at).then_some(at)
}

fn is_escape(bytes: &[u8]) -> bool {
    matches!(bytes, [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// Removes `/{stage}`: API Gateway keeps every stage but `$default` in the path of an HTTP API.
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

#[cfg(test)]
mod tests;
