//! Names and identities that must not be mixed up.
//!
//! A file's *identity* is what its source says of it (an S3 version id, an ETag). A *digest* is the SHA-256 of bytes
//! that are on this machine, and identifies a version. A version's *name* is for people and clients.

mod by_name;
mod version_name;

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use by_name::ByName;
pub use version_name::VersionName;

/// The name by which callers address a model: 1 to 128 of `A–Z a–z 0–9 . _ -`, not starting with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(String);

impl ModelName {
    /// Takes a name, or says what is wrong with it.
    pub fn parse(name: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.chars().all(fits) {
            return Err(
                "1 to 128 of the characters A-Z a-z 0-9 . _ -, not starting with a dot".to_owned(),
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

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a file of a model lies, relative to the folder of the model, with `/` between its parts: never outside that
/// folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct FilePath(String);

impl FilePath {
    /// The most bytes that S3 takes in a key.
    const LONGEST: usize = 1024;

    /// Takes a path, or says what is wrong with it.
    pub fn parse(path: &str) -> Result<Self, String> {
        let part = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
        let inside = path.split('/').all(part) && !path.contains(['\\', '\0']);
        if !inside || path.len() > Self::LONGEST {
            return Err(
                "a path inside the model's own folder, such as weights.bin or data/weights.bin: not absolute, and \
                 without `..`"
                    .to_owned(),
            );
        }
        Ok(Self(path.to_owned()))
    }

    /// The path that `path` has when it is relative to the folder of this file.
    #[must_use]
    pub fn beside(&self, path: &FilePath) -> FilePath {
        let folder = &self.0[..self.0.len() - self.file_name().len()];
        Self(format!("{folder}{path}"))
    }

    /// The path of `path` in this folder.
    #[must_use]
    pub fn join(&self, path: &FilePath) -> FilePath {
        Self(format!("{self}/{path}"))
    }

    /// Under which path the file is laid out to be loaded: its own, without the ending of what is stored compressed.
    #[must_use]
    pub fn laid_out(&self) -> FilePath {
        let plain = self.0.strip_suffix(".zst").map(Self::parse);
        plain.and_then(Result::ok).unwrap_or_else(|| self.clone())
    }

    /// Whether the file is stored compressed with Zstandard, as its ending says.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.laid_out() != *self
    }

    /// The last part.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FilePath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer, Self::parse)
    }
}

/// Text that `parse` takes, or an error that says what is allowed.
fn parsed<'de, D: serde::Deserializer<'de>, T>(
    deserializer: D,
    parse: fn(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).map_err(|allowed| {
        serde::de::Error::custom(format_args!(
            "{text:?} is not allowed; it must be {allowed}"
        ))
    })
}

/// An entity tag as the source gave it, quotes included. It is opaque: equal or not, nothing more.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ETag(pub String);

/// What a source says of one file's present content. Two equal identities are the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The entity tag, with which the next check is conditional and further reads are pinned.
    pub etag: ETag,
    /// The version id, where the bucket keeps versions.
    pub version_id: Option<String>,
}

/// The SHA-256 of a file's bytes, as 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// The digest that a finished SHA-256 gives.
    #[must_use]
    pub fn of(hash: Sha256) -> Self {
        Self(hex(&hash.finalize()))
    }

    /// Takes 64 hexadecimal digits as they were written down, or says what is wrong with them.
    pub fn parse(digits: &str) -> Result<Self, String> {
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("the 64 hexadecimal digits of a SHA-256".to_owned());
        }
        Ok(Self(digits.to_ascii_lowercase()))
    }

    /// The 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the publisher of a model has promised of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes.
    pub digest: Digest,
}

/// A checksum over a whole file, as its source declares it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// How it is computed.
    pub algorithm: ChecksumAlgorithm,
    /// Its value in base64, as the headers `x-amz-checksum-…` carry it.
    pub value: String,
}

/// The ways in which S3 computes a checksum over a whole object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ChecksumAlgorithm {
    Crc64Nvme,
    Crc32C,
    Crc32,
    Sha1,
    Sha256,
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_path_or_a_route_are_refused() {
        assert!(ModelName::parse("fraud-2.1_b").is_ok());
        for bad in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(129)] {
            assert!(ModelName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_path_stays_in_its_folder() {
        for good in ["model.onnx", "data/weights.bin", "..data", "a b", "é.bin"] {
            assert_eq!(FilePath::parse(good).unwrap().as_str(), good);
        }
        let long = "x/".repeat(600);
        for bad in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "a/../b",
            "a//b",
            "./a",
            "a/",
            "a\\b",
            "a\0",
            &long,
        ] {
            assert!(FilePath::parse(bad).is_err(), "{bad:?}");
        }
        let path = |path| FilePath::parse(path).unwrap();
        let weights = path("data/w.bin");
        assert_eq!(path("m.onnx").beside(&weights), weights);
        assert_eq!(
            path("fraud/7/m.onnx").beside(&weights),
            path("fraud/7/data/w.bin")
        );
    }
}
