//! What can be wrong with a manifest, in words for whoever wrote it.

use std::fmt::{self, Write as _};

use super::{MAX_BYTES, VersionName};

/// How much of a message is kept at each end, in characters: it may quote what the manifest holds, which may be long.
const EACH_END: usize = 300;

/// How many names a message lists.
const MAX_LISTED: usize = 10;

/// A manifest that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is longer than any manifest may be.
    #[error("the manifest has {0} bytes; it must have at most {MAX_BYTES}")]
    TooLong(usize),
    /// The bytes are no JSON text at all.
    #[error("the manifest is not JSON text: {0}")]
    NotJson(String),
    /// One field is wrong.
    #[error("{}: {problem}", InManifest(.path))]
    Field {
        /// The field, such as `versions.7.files[0].sha256`; empty for the manifest as a whole.
        path: String,
        /// The value, and what is allowed.
        problem: String,
    },
    /// A version was asked for that the manifest does not hold.
    #[error("the manifest's versions: there is no {asked:?}; there are {there}")]
    NoVersion {
        /// The name that was asked for.
        asked: String,
        /// The names that there are.
        there: String,
    },
    /// A label was asked for that the manifest does not hold.
    #[error("the manifest's version_labels: there is no {asked:?}; there are {there}")]
    NoLabel {
        /// The label that was asked for.
        asked: String,
        /// The labels that there are.
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

/// A place in the manifest, as the beginning of a sentence.
struct InManifest<'a>(&'a str);

impl fmt::Display for InManifest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str("the manifest"),
            path => write!(f, "the manifest's {path}"),
        }
    }
}

pub(super) fn not_allowed(value: &str, allowed: &str) -> String {
    format!(
        "{:?} is not allowed; it must be {allowed}",
        printable(value)
    )
}

/// Names in a row, the first ten, and how many more there are.
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

/// Text from a manifest for one line of a log: no control characters, and the middle left out when it is long.
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
    if length <= 2 * EACH_END {
        return escaped;
    }
    let start: String = escaped.chars().take(EACH_END).collect();
    let end: String = escaped.chars().skip(length - EACH_END).collect();
    format!("{start} … {end}")
}
