//! What is known of a version whose files are all here.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ids::{Digest, FilePath, Identity, VersionName};

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
pub struct ModelRecord {
    /// The file that is loaded.
    pub model: FileRecord,
    /// Those that it refers to, in the order of their paths.
    pub others: Vec<FileRecord>,
    /// Its public name. Two records with equal digests and different names are the same content.
    pub version: VersionName,
}

impl ModelRecord {
    /// A version of these files, under the name that its publisher gives it, or one derived from its digest.
    #[must_use]
    pub fn new(model: FileRecord, others: Vec<FileRecord>, name: Option<VersionName>) -> Self {
        let version = name.unwrap_or_else(|| VersionName::derived(&digest(&model, &others)));
        Self {
            model,
            others,
            version,
        }
    }

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
    fn a_change_of_any_file_is_another_version() {
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
    fn the_same_bytes_have_the_same_derived_name_whatever_the_source_says_of_them() {
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
    fn a_publishers_name_is_kept_as_it_is() {
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
