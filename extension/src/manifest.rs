//! The published pointer: one small JSON object that says which version of a model is current, which was before, and
//! for each version its files with size and SHA-256, its labels, its golden examples and its baseline.
//!
//! Overwriting that object is the release, so whoever reads it must take all of it or nothing: a field that is not
//! known, a file that is named twice, a version that is not there are errors that name the field, the value and what is
//! allowed. `docs/rollout.md` specifies the format, `docs/manifest.schema.json` says as much of it as a JSON Schema
//! can; tests hold the three together.
//!
//! Nothing is read or fetched here. Whoever fetches the bytes stops at [`MAX_BYTES`]; whoever loads a version holds its
//! signature and its golden examples against the model's own inputs and outputs.

mod baseline;
mod check;
mod choose;
mod error;
mod golden;
mod number;
mod rollout;
mod signature;
mod sniff;
#[cfg(test)]
mod tests;
mod written;

use std::collections::BTreeMap;

pub use baseline::{Baseline, Observed};
pub use choose::{Chosen, Named, RolloutPosition, Why};
pub use error::ManifestError;
pub(crate) use error::printable;
pub use golden::{Golden, GoldenTensor, Tolerance};
pub use rollout::{Canary, VersionLabels};
use serde::Deserialize;

use crate::ids::{Digest, FilePath, VersionName};
use crate::tensor::Signature;

/// The form that is read: the value of the field `format`.
pub const FORMAT: &str = "model-sidecar/1";

/// The most bytes of a manifest. It is fetched at every check that finds it changed, and held in memory whole.
pub const MAX_BYTES: usize = 1 << 20;

/// The most versions in a manifest.
pub const MAX_VERSIONS: usize = 100;

/// The most labels for versions.
pub const MAX_LABELS: usize = 100;

/// The most files in one version.
pub const MAX_FILES: usize = 1_000;

/// The most golden examples in one version: each is one run of the model before it may serve.
pub const MAX_GOLDEN: usize = 100;

/// The end of a name that says that a file is stored compressed with Zstandard.
const COMPRESSED: &str = ".zst";

/// A manifest that keeps every rule of the format.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    current: VersionName,
    previous: Option<VersionName>,
    canary: Option<Canary>,
    labels: VersionLabels,
    versions: BTreeMap<VersionName, PublishedVersion>,
}

impl Manifest {
    /// Reads a manifest, strictly. The error is about the first thing that is wrong.
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        sniff::text(json)
            .and_then(written::read)
            .and_then(check::manifest)
    }

    /// The version that should serve.
    #[must_use]
    pub fn current(&self) -> (&VersionName, &PublishedVersion) {
        (&self.current, &self.versions[&self.current])
    }

    /// The version to fall back to, where the manifest names one.
    #[must_use]
    pub fn previous(&self) -> Option<(&VersionName, &PublishedVersion)> {
        self.versions.get_key_value(self.previous.as_ref()?)
    }

    /// The version that a share of the environments runs, where the manifest names one.
    #[must_use]
    pub fn canary(&self) -> Option<&Canary> {
        self.canary.as_ref()
    }

    /// Leaves the canary to others; returns whether there was one.
    pub fn without_canary(&mut self) -> bool {
        self.canary.take().is_some()
    }

    /// What versions are called beside their names.
    #[must_use]
    pub fn labels(&self) -> &VersionLabels {
        &self.labels
    }

    /// The version of this name, current or not; the error lists those that there are.
    pub fn version(&self, name: &str) -> Result<(&VersionName, &PublishedVersion), ManifestError> {
        self.versions
            .iter()
            .find(|(there, _)| there.as_str() == name)
            .ok_or_else(|| ManifestError::no_version(name, self.versions.keys()))
    }

    /// Every version, by name.
    pub fn versions(&self) -> impl Iterator<Item = (&VersionName, &PublishedVersion)> {
        self.versions.iter()
    }
}

/// One version of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedVersion {
    /// Where its files lie, relative to the folder of the manifest.
    pub folder: FilePath,
    /// The file that is loaded: one of `files`.
    pub model: PublishedFile,
    /// All its files, in the manifest's order: at least one.
    pub files: Vec<PublishedFile>,
    /// What the model's classes are called, in their order; empty when the manifest does not say.
    pub labels: Vec<String>,
    /// What it promises to its callers, in the form of [`Signature::published`]; `None` when the manifest does not say.
    pub signature: Option<Signature>,
    /// What must come out for what goes in.
    pub golden: Vec<Golden>,
    /// How inputs and outputs were distributed when the version was made.
    pub baseline: Vec<Baseline>,
}

impl PublishedVersion {
    /// Where a file of this version lies, relative to the folder of the manifest.
    #[must_use]
    pub fn place(&self, file: &PublishedFile) -> FilePath {
        self.folder.join(&file.path)
    }

    /// The bytes of all files as they are laid out.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// One file of a version. Size and digest are those of the file as it is laid out, decompressed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedFile {
    /// Where it lies, relative to the version's folder.
    pub path: FilePath,
    /// Its length in bytes: at least 1.
    #[serde(deserialize_with = "number::size")]
    pub size: u64,
    /// The SHA-256 of its bytes.
    #[serde(rename = "sha256", deserialize_with = "written::digest")]
    pub digest: Digest,
}

impl PublishedFile {
    /// Whether it is stored compressed with Zstandard.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.path.is_compressed()
    }

    /// The path under which it is laid out for the engine: its own, without `.zst`.
    #[must_use]
    pub fn laid_out(&self) -> FilePath {
        self.path.laid_out()
    }

    /// As [`Self::laid_out`], or what is wrong with the name that is left.
    fn decompressed(&self) -> Result<FilePath, String> {
        let path = self.path.as_str();
        FilePath::parse(path.strip_suffix(COMPRESSED).unwrap_or(path))
    }
}
