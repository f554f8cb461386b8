//! Public names of versions.
//!
//! The publisher names a version: in the manifest, or by the number of its folder in a repository. A plain object has
//! neither, so that its name is a number derived from its digest. A name is not an identity, because a folder can be
//! overwritten; the digest is.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Digest;

/// Name of a version: 1 to 64 of `A–Z a–z 0–9 . _ -`, not starting with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct VersionName(Box<str>);

impl VersionName {
    /// Parses a name. The error names what is allowed.
    pub fn parse(name: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(fits) {
            return Err(
                "1 to 64 of the characters A-Z a-z 0-9 . _ -, not starting with a dot".to_owned(),
            );
        }
        Ok(Self(name.into()))
    }

    /// Derives the name of an unnamed version from its digest: a decimal number from 1 to 2^53−1. Clients of Triton
    /// and TensorFlow Serving parse an integer, and JavaScript represents these exactly. The numbers have no order in
    /// time.
    #[must_use]
    pub fn derived(digest: &Digest) -> Self {
        /// Maximum integer up to which a double represents every integer.
        const MAX: u64 = (1 << 53) - 1;
        let digits = digest.as_str().chars().take(16);
        let number = digits.fold(0_u64, |number, digit| {
            number << 4 | u64::from(digit.to_digit(16).unwrap_or_default())
        });
        Self((number % MAX + 1).to_string().into())
    }

    /// Returns the name as text.
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
        super::parsed(deserializer, Self::parse)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn derived_names_cover_exactly_the_range() {
        let derived = |digits: &str| {
            let digest = Digest::parse(&format!("{digits:0<64}")).unwrap();
            VersionName::derived(&digest).as_str().parse::<u64>()
        };
        let max = (1 << 53) - 1;
        assert_eq!(derived(""), Ok(1));
        // 2^53−2, the largest remainder; 2^53−1, whose remainder is 0; all bits.
        assert_eq!(derived("001ffffffffffffe"), Ok(max));
        assert_eq!(derived("001fffffffffffff"), Ok(1));
        assert_eq!(derived("ffffffffffffffff"), Ok(u64::MAX % max + 1));
    }

    proptest! {
        #[test]
        fn derived_names_are_exact_in_clients_that_parse_numbers(bytes: Vec<u8>) {
            let digest = Digest::of(Sha256::new().chain_update(bytes));
            let name = VersionName::derived(&digest);
            let number: i64 = name.as_str().parse().unwrap();
            prop_assert!((1..=9_007_199_254_740_991).contains(&number));
            // JavaScript has doubles only.
            let double: f64 = serde_json::from_str(name.as_str()).unwrap();
            prop_assert_eq!(format!("{double:.0}"), name.as_str());
            prop_assert_eq!(VersionName::parse(name.as_str()), Ok(name));
        }
    }
}
