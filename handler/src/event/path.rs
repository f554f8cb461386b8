//! The sidecar's path within the path of an event.
//!
//! Gateways put segments in front of it: the stage, and the base path under which a custom domain maps an API. API
//! Gateway names the resource (or route) that matched together with its parameters, which says where the function's
//! own path begins. For all other events [`BasePath`] names what to remove.

use std::collections::BTreeMap;
use std::sync::Arc;

use percent_encoding::{percent_decode, percent_decode_str};

/// The parameters of a path, by name.
pub(super) type Parameters = BTreeMap<String, Option<String>>;

/// The path that `MODEL_BASE_PATH` names: removed where an event's path begins with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BasePath(Arc<str>);

impl BasePath {
    /// The base path of this text; slashes at either end change nothing.
    #[must_use]
    pub fn new(text: &str) -> Self {
        match text.trim().trim_matches('/') {
            "" => Self::default(),
            inner => Self(format!("/{inner}").into()),
        }
    }

    /// The part of `path` behind the base path, or all of it where it does not begin so.
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

/// Everything in an event that says which part of its path the function's own path is.
#[derive(Debug, Default)]
pub(super) struct Mapping<'a> {
    /// The template of the resource or route that matched, such as `/{proxy+}`.
    pub(super) resource: Option<&'a str>,
    /// The values of the template's parameters.
    pub(super) parameters: Parameters,
    /// The path that matched is the API's root, under a custom domain's base path.
    pub(super) is_mapped_root: bool,
    /// The stage, where API Gateway leaves it in the path.
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
            // The stage is in front where no custom domain is.
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

/// The resource with its parameters' values; `None` unless it is a path and all of them are known.
fn substitute(resource: &str, parameters: &Parameters) -> Option<String> {
    let mut pieces = resource.split('{');
    let mut path = pieces.next()?.to_owned();
    for piece in pieces {
        let (name, behind) = piece.split_once('}')?;
        let name = name.strip_suffix('+').unwrap_or(name);
        let value = parameters.get(name)?.as_deref()?;
        // AWS's sample events write `"proxy": "/path/to/resource"`.
        path.push_str(value.trim_start_matches('/'));
        path.push_str(behind);
    }
    path.starts_with('/').then_some(path)
}

/// The end of `path` that is `resource` once escapes are decoded, without regard to a slash at the end of either.
/// AWS does not say which of the two it has decoded, and differs between gateways.
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

/// The place in `path` behind the bytes `expected`, which are compared with decoded escapes.
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

/// Removes `/{stage}`: API Gateway leaves every stage but `$default` in the path of an HTTP API.
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
