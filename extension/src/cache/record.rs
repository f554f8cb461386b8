//! Records of complete versions and their files.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, FilePath, Identity, VersionName};

/// Complete file of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Path in the model's folder.
    pub path: FilePath,
    /// Identity at the source.
    pub identity: Identity,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of the bytes.
    pub digest: Digest,
}

/// Complete version of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// The model file.
    pub model: FileRecord,
    /// External data files of the model, ordered by path.
    pub others: Vec<FileRecord>,
    /// Public name. Records with equal digests and different names have the same content.
    pub version: VersionName,
}

impl ModelRecord {
    /// Creates a record. Without a name from the publisher, the name is derived from the digest.
    #[must_use]
    pub fn new(model: FileRecord, others: Vec<FileRecord>, name: Option<VersionName>) -> Self {
        let version = name.unwrap_or_else(|| VersionName::derived(&digest(&model, &others)));
        Self {
            model,
            others,
            version,
        }
    }

    /// Returns all files, beginning with the model file.
    pub fn files(&self) -> impl Iterator<Item = &FileRecord> {
        std::iter::once(&self.model).chain(&self.others)
    }

    /// Returns the file at `path`.
    #[must_use]
    pub fn file(&self, path: &FilePath) -> Option<&FileRecord> {
        self.files().find(|file| file.path == *path)
    }

    /// Returns the total length of all files, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files().map(|file| file.size).sum()
    }

    /// Returns the digest that identifies the content: that of the only file, or a digest over the digests of all
    /// files.
    #[must_use]
    pub fn digest(&self) -> Digest {
        digest(&self.model, &self.others)
    }
}

fn digest(model: &FileRecord, others: &[FileRecord]) -> Digest {
    if others.is_empty() {
        return model.digest.clone();
    }
    let mut hash = Sha256::new();
    for file in std::iter::once(model).chain(others) {
        hash.update((file.path.as_str().len() as u64).to_le_bytes());
        hash.update(file.path.as_str());
        hash.update(file.digest.as_str());
    }
    Digest::of(hash)
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
    fn a_change_of_any_file_makes_another_version() {
        let record = |graph: &str, weights: &str| {
            let others = vec![file("weights.bin", weights)];
            ModelRecord::new(file("model.onnx", graph), others, None)
        };
        let (one, other) = (record("g", "w"), record("g", "w2"));
        assert_ne!(one.version, other.version);
        assert_ne!(one.digest(), other.digest());
        assert_ne!(one.digest(), record("w", "g").digest());
        assert_eq!((one.digest(), one.size()), (record("g", "w").digest(), 2));
        let alone = ModelRecord::new(file("model.onnx", "g"), Vec::new(), None);
        assert_eq!(alone.digest(), alone.model.digest);
    }

    #[test]
    fn equal_bytes_have_equal_derived_names_whatever_their_identity() {
        let mut again = file("model.onnx", "g");
        again.identity.etag = ETag("another upload".to_owned());
        let version = |model| ModelRecord::new(model, Vec::new(), None).version;
        assert_eq!(version(again), version(file("model.onnx", "g")));
        assert_ne!(
            version(file("model.onnx", "g")),
            version(file("model.onnx", "h"))
        );
    }

    #[test]
    fn the_name_of_the_publisher_is_kept() {
        let name = VersionName::parse("2026-11-a").unwrap();
        let record = ModelRecord::new(file("model.onnx", "g"), Vec::new(), Some(name.clone()));
        assert_eq!(record.version, name);
        let written = serde_json::to_string(&record).unwrap();
        assert_eq!(
            serde_json::from_str::<ModelRecord>(&written).unwrap(),
            record
        );
    }
}
