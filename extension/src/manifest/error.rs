//! Errors of a manifest, for its publisher.

use std::fmt::{self, Write as _};

use super::MAX_BYTES;
use crate::ids::VersionName;

/// Number of characters that are kept at each end of a long text, which an error may quote from the manifest.
const MAX_END: usize = 300;

/// Maximum number of names in a message.
const MAX_LISTED: usize = 10;

/// Reason why a manifest cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The manifest is too long.
    #[error("the manifest has {0} bytes; the maximum is {MAX_BYTES}")]
    TooLong(usize),
    /// The bytes are not JSON text.
    #[error("the manifest is not JSON text: {0}")]
    NotJson(String),
    /// A field is invalid.
    #[error("{}: {problem}", InManifest(.path))]
    Field {
        /// Path of the field, such as `versions.7.files[0].sha256`; empty for the whole manifest.
        path: String,
        /// Description of the value and of what is allowed.
        problem: String,
    },
    /// The requested version is not in the manifest.
    #[error("the manifest has no version {asked:?}; its versions are {there}")]
    NoVersion {
        /// Requested name.
        asked: String,
        /// Names in the manifest.
        there: String,
    },
    /// The requested label is not in the manifest.
    #[error("the manifest has no label {asked:?} in version_labels; its labels are {there}")]
    NoLabel {
        /// Requested label.
        asked: String,
        /// Labels in the manifest.
        there: String,
    },
}

impl ManifestError {
    pub(super) fn field(path: impl Into<String>, problem: impl AsRef<str>) -> Self {
        Self::Field {
            path: printable(&path.into()),
            problem: printable(problem.as_ref()),
        }
    }

    pub(super) fn not_allowed(path: impl Into<String>, value: &str, allowed: &str) -> Self {
        Self::field(path, not_allowed(value, allowed))
    }

    pub(super) fn no_version<'a>(
        asked: &str,
        there: impl Iterator<Item = &'a VersionName>,
    ) -> Self {
        Self::NoVersion {
            asked: printable(asked),
            there: listed(there),
        }
    }

    pub(super) fn no_label<'a>(asked: &str, there: impl Iterator<Item = &'a VersionName>) -> Self {
        let there = listed(there);
        Self::NoLabel {
            asked: printable(asked),
            there: if there.is_empty() {
                "none".to_owned()
            } else {
                there
            },
        }
    }
}

/// Path in the manifest, formatted as the beginning of a message.
struct InManifest<'a>(&'a str);

impl fmt::Display for InManifest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str("the manifest"),
            path => write!(f, "the manifest's {path}"),
        }
    }
}

/// Formats an invalid value with what is allowed.
pub(super) fn not_allowed(value: &str, allowed: &str) -> String {
    format!(
        "{:?} is not allowed; it must be {allowed}",
        printable(value)
    )
}

/// Lists the first [`MAX_LISTED`] names, and the number of further ones.
pub(super) fn listed<T: fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    let mut list = String::new();
    let mut more = 0_usize;
    for (index, name) in names.into_iter().enumerate() {
        if index >= MAX_LISTED {
            more += 1;
            continue;
        }
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(list, "{comma}{name}");
    }
    if more > 0 {
        let _ = write!(list, " and {more} more");
    }
    list
}

/// Prepares text from a manifest for one line of a log: escapes control characters, and omits the middle of a long
/// text.
pub(crate) fn printable(text: &str) -> String {
    let escaped: String = text
        .chars()
        .flat_map(|c| {
            let control = c.is_control().then(|| c.escape_default());
            let plain = control.is_none().then_some(c);
            control.into_iter().flatten().chain(plain)
        })
        .collect();
    let length = escaped.chars().count();
    if length <= 2 * MAX_END {
        return escaped;
    }
    let start: String = escaped.chars().take(MAX_END).collect();
    let end: String = escaped.chars().skip(length - MAX_END).collect();
    format!("{start} … {end}")
}
