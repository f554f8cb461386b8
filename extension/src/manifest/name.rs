//! What a version is called.

use std::fmt;

use serde::Deserialize;

use super::written;

/// The name of a version in a manifest: 1 to 64 of `A–Z a–z 0–9 . _ -`, not starting with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionName(String);

impl VersionName {
    /// Takes a name, or says what is allowed.
    pub fn parse(name: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(fits) {
            return Err(
                "1 to 64 of the characters A-Z a-z 0-9 . _ -, not starting with a dot".to_owned(),
            );
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VersionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for VersionName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        written::parsed(deserializer, Self::parse)
    }
}
