//! Newtypes for names and identities.
//!
//! The *identity* of a file comes from its source (ETag, S3 version ID). A *digest* is the SHA-256 of local bytes, and
//! identifies a version. The *name* of a version is for people and clients.

mod version_name;

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use version_name::VersionName;

/// Name of a model in requests: 1 to 128 of `A–Z a–z 0–9 . _ -`, not starting with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(String);

impl ModelName {
    /// Parses a name. The error names what is allowed.
    pub fn parse(name: &str) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 128 || name.starts_with('.') || !name.chars().all(fits) {
            return Err(
                "1 to 128 of the characters A-Z a-z 0-9 . _ -, not starting with a dot".to_owned(),
            );
        }
        Ok(Self(name.to_owned()))
    }

    /// Returns the name as text.
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

/// Path of a file, relative to the folder of its model and never outside it, with `/` as the separator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct FilePath(String);

impl FilePath {
    /// Maximum length of a key in S3, in bytes.
    const MAX_LENGTH: usize = 1024;

    /// Parses a path. The error names what is allowed.
    pub fn parse(path: &str) -> Result<Self, String> {
        let part = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
        let inside = path.split('/').all(part) && !path.contains(['\\', '\0']);
        if !inside || path.len() > Self::MAX_LENGTH {
            return Err(
                "a path inside the model's own folder, such as weights.bin or data/weights.bin: not absolute, and \
                 without `..`"
                    .to_owned(),
            );
        }
        Ok(Self(path.to_owned()))
    }

    /// Resolves `path` against the folder of this file.
    #[must_use]
    pub fn sibling(&self, path: &FilePath) -> FilePath {
        let folder = &self.0[..self.0.len() - self.file_name().len()];
        Self(format!("{folder}{path}"))
    }

    /// Resolves `path` against this path, which is a folder.
    #[must_use]
    pub fn join(&self, path: &FilePath) -> FilePath {
        Self(format!("{self}/{path}"))
    }

    /// Returns the path of the decompressed file: without `.zst`.
    #[must_use]
    pub fn laid_out(&self) -> FilePath {
        let plain = self.0.strip_suffix(".zst").map(Self::parse);
        plain.and_then(Result::ok).unwrap_or_else(|| self.clone())
    }

    /// Returns `true` if the file is compressed with Zstandard, by its extension.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.laid_out() != *self
    }

    /// Returns the file name.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// Returns the path as text.
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

/// Deserializes text with `parse`, whose error names what is allowed.
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

/// Entity tag of the source, including its quotes. An opaque value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ETag(pub String);

/// Identity of a file's contents in its source. Equal identities mean equal bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Entity tag, for conditional version checks and pinned reads.
    pub etag: ETag,
    /// Version ID, if the bucket has versioning enabled.
    pub version_id: Option<String>,
}

/// SHA-256 of a file, as 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// Creates the digest of a completed hash.
    #[must_use]
    pub fn of(hash: Sha256) -> Self {
        Self(hex(&hash.finalize()))
    }

    /// Parses 64 hexadecimal digits in upper or lower case. The error names what is allowed.
    pub fn parse(digits: &str) -> Result<Self, String> {
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("the 64 hexadecimal digits of a SHA-256".to_owned());
        }
        Ok(Self(digits.to_ascii_lowercase()))
    }

    /// Returns the digits in lower case.
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

/// Size and digest of a file that the manifest declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of the bytes.
    pub digest: Digest,
}

/// Checksum of a whole file that its source declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum {
    /// Algorithm of the checksum.
    pub algorithm: ChecksumAlgorithm,
    /// Value in base64, as in the headers `x-amz-checksum-…`.
    pub value: String,
}

/// Checksum algorithms of S3 for whole objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are those of S3")]
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
    fn names_that_could_escape_a_path_or_a_route_are_rejected() {
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
        assert_eq!(path("m.onnx").sibling(&weights), weights);
        assert_eq!(
            path("fraud/7/m.onnx").sibling(&weights),
            path("fraud/7/data/w.bin")
        );
    }
}
