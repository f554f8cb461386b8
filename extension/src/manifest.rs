//! Manifest of a model: the published JSON object that names the current and the previous version. For each version it
//! lists the files with size and SHA-256, the labels, the golden examples and the baseline.
//!
//! Overwriting the manifest is a release, so parsing is strict. Unknown fields, duplicate files and missing versions
//! are errors that name the field, the value and what is allowed. `docs/rollout.md` specifies the format,
//! `docs/manifest.schema.json` says as much of it as a JSON Schema can; tests hold the three together.
//!
//! This module does no I/O. The fetch of a manifest must stop at [`MAX_BYTES`]. The load of a version must compare the
//! signature and the golden examples with the inputs and outputs of the model.

mod baseline;
mod canary;
mod check;
mod choice;
mod error;
mod golden;
mod json;
mod meta;
mod number;
mod selection;
mod signature;
mod sniff;
#[cfg(test)]
mod tests;
mod version_labels;
mod written;

use std::collections::BTreeMap;

pub use baseline::{Baseline, Observed};
pub use canary::{Canary, RolloutPosition};
pub use choice::Choice;
pub use error::ManifestError;
pub(crate) use error::printable;
pub use golden::{Golden, GoldenTensor, Tolerance};
pub use meta::VersionMeta;
pub use selection::{NamedVersion, Selection, SelectionReason};
use serde::Deserialize;
pub use version_labels::VersionLabels;

use crate::ids::{Digest, FilePath, VersionName};
use crate::tensor::Signature;

/// Supported value of the field `format`.
pub const FORMAT: &str = "model-sidecar/1";

/// Maximum size of a manifest in bytes. A manifest is fetched whenever it has changed, and is held in memory.
pub const MAX_BYTES: usize = 1 << 20;

/// Maximum number of versions in a manifest.
pub const MAX_VERSIONS: usize = 100;

/// Maximum number of labels for versions.
pub const MAX_LABELS: usize = 100;

/// Maximum number of files in a version.
pub const MAX_FILES: usize = 1_000;

/// Maximum number of golden examples in a version; each is a run of the model before the version becomes active.
pub const MAX_GOLDEN: usize = 100;

/// Maximum number of histograms of inputs in a version's baseline, and of histograms of outputs: requests are measured
/// against each.
pub const MAX_BASELINES: usize = 256;

/// Maximum number of entries in the metadata of a version.
pub const MAX_META: usize = 50;

/// Suffix of files that are compressed with Zstandard.
const COMPRESSED: &str = ".zst";

/// Valid manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    current: VersionName,
    previous: Option<VersionName>,
    canary: Option<Canary>,
    labels: VersionLabels,
    versions: BTreeMap<VersionName, PublishedVersion>,
}

impl Manifest {
    /// Parses a manifest strictly. The error describes the first problem.
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        sniff::text(json)
            .and_then(written::read)
            .and_then(check::manifest)
    }

    /// Returns the current version.
    #[must_use]
    pub fn current(&self) -> (&VersionName, &PublishedVersion) {
        (&self.current, &self.versions[&self.current])
    }

    /// Returns the previous version, which is the fallback, if the manifest names one.
    #[must_use]
    pub fn previous(&self) -> Option<(&VersionName, &PublishedVersion)> {
        self.versions.get_key_value(self.previous.as_ref()?)
    }

    /// Returns the canary, if the manifest has one.
    #[must_use]
    pub fn canary(&self) -> Option<&Canary> {
        self.canary.as_ref()
    }

    /// Removes the canary; returns `true` if there was one.
    pub fn without_canary(&mut self) -> bool {
        self.canary.take().is_some()
    }

    /// Returns the labels of versions.
    #[must_use]
    pub fn labels(&self) -> &VersionLabels {
        &self.labels
    }

    /// Returns the version with this name. The error lists the versions.
    pub fn version(&self, name: &str) -> Result<(&VersionName, &PublishedVersion), ManifestError> {
        self.versions
            .iter()
            .find(|(there, _)| there.as_str() == name)
            .ok_or_else(|| ManifestError::no_version(name, self.versions.keys()))
    }

    /// Returns all versions, ordered by name.
    pub fn versions(&self) -> impl Iterator<Item = (&VersionName, &PublishedVersion)> {
        self.versions.iter()
    }
}

/// Version of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedVersion {
    /// Folder of the files, relative to the folder of the manifest.
    pub folder: FilePath,
    /// File that is loaded, one of `files`.
    pub model: PublishedFile,
    /// All files in the order of the manifest; at least one.
    pub files: Vec<PublishedFile>,
    /// Names of the model's classes in their order; empty if the manifest has none.
    pub labels: Vec<String>,
    /// Declared signature, in the form of [`Signature::published`]; `None` if the manifest has none.
    pub signature: Option<Signature>,
    /// Golden examples.
    pub golden: Vec<Golden>,
    /// Histograms of inputs and outputs at training time.
    pub baseline: Vec<Baseline>,
    /// Notes of the publisher.
    pub meta: VersionMeta,
}

impl PublishedVersion {
    /// Returns the path of a file of this version, relative to the folder of the manifest.
    #[must_use]
    pub fn path_of(&self, file: &PublishedFile) -> FilePath {
        self.folder.join(&file.path)
    }

    /// Returns the size of all decompressed files in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// File of a version. Size and digest describe the decompressed file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedFile {
    /// Path relative to the folder of the version.
    pub path: FilePath,
    /// Size in bytes; at least 1.
    #[serde(deserialize_with = "number::size")]
    pub size: u64,
    /// SHA-256 of the bytes.
    #[serde(rename = "sha256", deserialize_with = "written::digest")]
    pub digest: Digest,
}

impl PublishedFile {
    /// Returns `true` if the file is compressed with Zstandard in the source.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.path.is_compressed()
    }

    /// Returns the path of the decompressed file: without `.zst`.
    #[must_use]
    pub fn laid_out(&self) -> FilePath {
        self.path.laid_out()
    }

    /// As [`Self::laid_out`]. The error describes an invalid path.
    fn decompressed(&self) -> Result<FilePath, String> {
        let path = self.path.as_str();
        FilePath::parse(path.strip_suffix(COMPRESSED).unwrap_or(path))
    }
}
