//! What is known of a version whose files are all here.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, FilePath, Identity, Version};

/// A whole file of one version of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Where it lies in the model's folder.
    pub path: FilePath,
    /// What the source said of it.
    pub identity: Identity,
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes.
    pub digest: Digest,
}

/// One version of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The file that is loaded.
    pub model: FileRecord,
    /// Those that it refers to, in the order of their paths.
    pub others: Vec<FileRecord>,
}

impl Record {
    /// Every file, the model's first.
    pub fn files(&self) -> impl Iterator<Item = &FileRecord> {
        std::iter::once(&self.model).chain(&self.others)
    }

    /// The file at `path`.
    #[must_use]
    pub fn file(&self, path: &FilePath) -> Option<&FileRecord> {
        self.files().find(|file| file.path == *path)
    }

    /// The length of all files together, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files().map(|file| file.size).sum()
    }

    /// The digest of the bytes that make up this version: of its one file, or over those of all.
    #[must_use]
    pub fn digest(&self) -> Digest {
        if self.others.is_empty() {
            return self.model.digest.clone();
        }
        let mut hash = Sha256::new();
        for file in self.files() {
            hash.update((file.path.as_str().len() as u64).to_le_bytes());
            hash.update(file.path.as_str());
            hash.update(file.digest.as_str());
        }
        Digest::of(hash)
    }

    /// What this version is called.
    #[must_use]
    pub fn version(&self) -> Version {
        Version::of(
            self.files()
                .map(|file| (file.path.as_str(), &file.identity)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ETag;

    fn file(path: &str, bytes: &str) -> FileRecord {
        FileRecord {
            path: FilePath::parse(path).unwrap(),
            identity: Identity {
                etag: ETag(format!("\"{bytes}\"")),
                version_id: None,
            },
            size: bytes.len() as u64,
            digest: Digest::of(Sha256::new().chain_update(bytes)),
        }
    }

    #[test]
    fn a_change_of_any_file_is_another_version() {
        let record = |graph: &str, weights: &str| Record {
            model: file("model.onnx", graph),
            others: vec![file("weights.bin", weights)],
        };
        let (one, other) = (record("g", "w"), record("g", "w2"));
        assert_ne!(one.version(), other.version());
        assert_ne!(one.digest(), other.digest());
        assert_ne!(one.digest(), record("w", "g").digest());
        assert_eq!((one.digest(), one.size()), (record("g", "w").digest(), 2));
        let alone = Record {
            model: file("model.onnx", "g"),
            others: Vec::new(),
        };
        assert_eq!(alone.digest(), alone.model.digest);
    }
}
