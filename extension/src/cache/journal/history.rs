//! History of a model's versions in this execution environment.
//!
//! Pure data and rules, without I/O, so that decisions can be tested without a disk. Rules:
//!
//! - A rejection for the content applies to these bytes under any name. A rejection for the acceptance criteria applies
//!   only to the same criteria: the publisher can correct a wrong golden example.
//! - A version is *last active* from its acceptance until the acceptance of another one, or until its rejection.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::cache::record::{FileRecord, ModelRecord};
use crate::ids::{Digest, FilePath, Identity};
use crate::manifest::{Baseline, GoldenTensor, VersionLabels};
use crate::tensor::Signature;

/// Maximum number of consecutive interrupted loads of a version that was active here or has no alternative.
pub(super) const MAX_INTERRUPTED_LOADS: u32 = 3;
/// Maximum number of rejections to remember. A source that alternates between bad versions causes no repeated loads.
const MAX_REJECTIONS: usize = 32;
/// Maximum size of a golden example in the journal, in bytes of its data: a load writes the journal several times. A
/// version with a larger example is warmed up only if this process has read the manifest.
const MAX_EXAMPLE_BYTES: usize = 64 << 10;
/// Maximum size of a baseline in the journal, in numbers. The drift of a version with a larger one is measured only if
/// this process has read the manifest. 256 histograms of 15 bins fit.
const MAX_BASELINE_NUMBERS: usize = 8 << 10;

/// Metadata of a version from a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct ManifestMetadata {
    /// Identity of the manifest.
    pub manifest: Identity,
    /// Inputs of the version's first golden example, if there is one.
    pub example: Option<Vec<GoldenTensor>>,
    /// Histograms against which the version's drift is measured.
    pub baseline: Vec<Baseline>,
    /// Digest of the acceptance criteria.
    pub criteria: Digest,
}

/// Cause of a version's rejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionCause {
    /// The content, independent of any manifest.
    Content,
    /// The version does not meet its acceptance criteria.
    Criteria,
}

/// Versions of one model as this execution environment has seen them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Location of the versions. A history of another location is not used.
    location: String,
    /// The manifest that has been applied completely.
    #[serde(default)]
    applied_manifest: Option<Identity>,
    /// Labels of the last manifest that was read.
    #[serde(default)]
    labels: VersionLabels,
    /// The version that was accepted last.
    #[serde(default)]
    last_active: Option<VersionEntry>,
    /// The version that the source has, if it was not accepted.
    #[serde(default)]
    candidate: Option<VersionEntry>,
    /// The version that was active before [`Self::last_active`]: the target of a rollback.
    #[serde(default)]
    previous_active: Option<VersionEntry>,
    /// Version of the source to load while neither the candidate nor the last active version can be loaded.
    #[serde(default)]
    fallback: Option<VersionEntry>,
    /// Reason for which a fallback serves and not the version that the source prefers.
    #[serde(default)]
    fallback_reason: Option<String>,
    /// Rejected versions, oldest first.
    #[serde(default)]
    rejected: Vec<VersionRejection>,
    /// Number of consecutive interrupted loads, by the version's digest.
    #[serde(default)]
    interrupted_loads: BTreeMap<String, u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct VersionEntry {
    record: ModelRecord,
    /// Digest of the acceptance criteria, if a manifest declares the version. Loading requires the criteria themselves.
    #[serde(default)]
    criteria: Option<Digest>,
    /// Inputs for the warm-up.
    #[serde(default, skip_serializing_if = "is_not_stored")]
    example: Option<Vec<GoldenTensor>>,
    /// Histograms against which drift is measured.
    #[serde(default, skip_serializing_if = "is_large_or_empty")]
    baseline: Vec<Baseline>,
    /// Signature, once the version has been accepted.
    #[serde(default)]
    signature: Option<Signature>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct VersionRejection {
    digest: Digest,
    reason: String,
    /// Files of the version. The identity of one of them at the source is enough to recognize the version.
    files: Vec<FileRecord>,
    /// Digest of the criteria that were not met; `None` if the content is rejected.
    criteria: Option<Digest>,
}

impl VersionEntry {
    fn new(record: ModelRecord, metadata: Option<ManifestMetadata>) -> Self {
        let (criteria, example, baseline) = match metadata {
            Some(ManifestMetadata {
                criteria,
                example,
                baseline,
                ..
            }) => (Some(criteria), example, baseline),
            None => (None, None, Vec::new()),
        };
        Self {
            record,
            criteria,
            example,
            baseline,
            signature: None,
        }
    }

    fn has_digest(&self, digest: &Digest) -> bool {
        self.record.digest() == *digest
    }
}

#[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
fn is_not_stored(example: &Option<Vec<GoldenTensor>>) -> bool {
    example.as_ref().is_none_or(|inputs| {
        let length: usize = inputs.iter().map(|input| input.data.len()).sum();
        length > MAX_EXAMPLE_BYTES
    })
}

fn is_large_or_empty(baseline: &[Baseline]) -> bool {
    let numbers = baseline
        .iter()
        .map(|one| one.edges.len() + one.counts.len());
    let numbers: usize = numbers.sum();
    numbers == 0 || numbers > MAX_BASELINE_NUMBERS
}

impl History {
    /// Empty history of the versions from `location`.
    #[must_use]
    pub fn new(location: &str) -> Self {
        Self {
            location: location.to_owned(),
            ..Self::default()
        }
    }

    /// Returns the location of the versions.
    pub(super) fn location(&self) -> &str {
        &self.location
    }

    /// Returns the version that the source was last seen to have, accepted or not.
    #[must_use]
    pub fn newest(&self) -> Option<&ModelRecord> {
        self.newest_entry().map(|entry| &entry.record)
    }

    /// Returns the version that was accepted last, unless it was rejected later.
    #[must_use]
    pub fn last_active(&self) -> Option<&ModelRecord> {
        let last = self.not_rejected(self.last_active.as_ref());
        last.map(|entry| &entry.record)
    }

    /// Returns the version that was active before the last one, unless it was rejected later.
    #[must_use]
    pub fn previous_active(&self) -> Option<&ModelRecord> {
        let previous = self.not_rejected(self.previous_active.as_ref());
        previous.map(|entry| &entry.record)
    }

    /// Returns the signature of [`Self::last_active`].
    #[must_use]
    pub fn signature(&self) -> Option<&Signature> {
        self.not_rejected(self.last_active.as_ref())?
            .signature
            .as_ref()
    }

    /// Returns the newest version that can be loaded without a request to the source. A candidate of a manifest is not
    /// such a version, since its acceptance criteria are unknown.
    #[must_use]
    pub fn loadable_offline(&self) -> Option<&ModelRecord> {
        let candidate = self.not_rejected(self.candidate.as_ref());
        let candidate = candidate.filter(|entry| entry.criteria.is_none());
        candidate
            .map(|entry| &entry.record)
            .or_else(|| self.last_active())
    }

    /// Returns the reason for which the version that the source wants is not loaded, if there is one.
    #[must_use]
    pub fn rejection(&self) -> Option<&str> {
        let newest = self.newest_entry();
        let rejection = newest.and_then(|newest| self.reason(newest));
        rejection.or(self.fallback_reason.as_deref())
    }

    /// Returns the reason for which this version is rejected under these criteria, if it is.
    #[must_use]
    pub fn rejection_reason(&self, digest: &Digest, criteria: Option<&Digest>) -> Option<&str> {
        let applies = |rejection: &&VersionRejection| {
            rejection.digest == *digest
                && rejection
                    .criteria
                    .as_ref()
                    .is_none_or(|unmet| Some(unmet) == criteria)
        };
        let rejection = self.rejected.iter().rev().find(applies);
        rejection.map(|rejection| rejection.reason.as_str())
    }

    /// Returns the file at `path` of the last single-file version whose content is rejected.
    #[must_use]
    pub fn rejected_file(&self, path: &FilePath) -> Option<&FileRecord> {
        self.rejected
            .iter()
            .rev()
            .find_map(|rejection| match &*rejection.files {
                [file] if file.path == *path && rejection.criteria.is_none() => Some(file),
                _ => None,
            })
    }

    /// Returns the record of the file that has this identity at the source.
    #[must_use]
    pub fn find_file(&self, path: &FilePath, identity: &Identity) -> Option<&FileRecord> {
        let files = self.entries().flat_map(|entry| entry.record.files());
        let rejected = self.rejected.iter();
        let rejected = rejected.flat_map(|rejection| &rejection.files);
        let mut files = files.chain(rejected);
        files.find(|file| file.path == *path && file.identity == *identity)
    }

    /// Returns the identity of the manifest that has been applied completely.
    #[must_use]
    pub fn applied_manifest(&self) -> Option<&Identity> {
        self.applied_manifest.as_ref()
    }

    /// Returns the inputs for the warm-up of this version, if they are known.
    #[must_use]
    pub fn example(&self, record: &ModelRecord) -> Option<&[GoldenTensor]> {
        self.entry(record)?.example.as_deref()
    }

    /// Returns the histograms against which the drift of this version is measured; empty if there are none.
    #[must_use]
    pub fn baseline(&self, record: &ModelRecord) -> &[Baseline] {
        self.entry(record).map_or(&[], |entry| &entry.baseline)
    }

    /// Returns `true` if the content of this version was accepted under its present criteria, whatever its name was.
    #[must_use]
    pub fn was_accepted(&self, record: &ModelRecord) -> bool {
        let digest = record.digest();
        let entry = self.entry(record);
        let criteria = entry.and_then(|entry| entry.criteria.as_ref());
        let accepted = [&self.last_active, &self.previous_active].into_iter();
        let mut accepted = accepted.filter_map(|slot| self.not_rejected(slot.as_ref()));
        accepted.any(|entry| {
            entry.record == *record
                || entry.has_digest(&digest) && entry.criteria.as_ref() == criteria
        })
    }

    /// Returns the labels of the last manifest that was read.
    #[must_use]
    pub fn labels(&self) -> &VersionLabels {
        &self.labels
    }

    /// Sets the labels of a manifest.
    pub fn set_labels(&mut self, labels: VersionLabels) {
        self.labels = labels;
    }

    /// Sets the version that the source has. Rejected content stays rejected under a new identity.
    pub fn set_candidate(&mut self, record: ModelRecord, metadata: Option<ManifestMetadata>) {
        match &mut self.last_active {
            Some(last) if last.record == record => {
                if let Some(metadata) = metadata {
                    last.baseline = metadata.baseline;
                    // Under the same criteria the example stays as it is: an interrupted warm-up may have removed it.
                    if last.criteria.as_ref() != Some(&metadata.criteria) {
                        last.example = metadata.example;
                        last.criteria = Some(metadata.criteria);
                    }
                }
                self.candidate = None;
            }
            last => {
                let mut entry = VersionEntry::new(record, metadata);
                // The same rule for the same content under another name.
                let digest = entry.record.digest();
                if let Some(last) = last
                    && last.has_digest(&digest)
                    && last.criteria == entry.criteria
                {
                    entry.example.clone_from(&last.example);
                }
                self.candidate = Some(entry);
            }
        }
    }

    /// Sets the downloaded version to load while the version that the source wants cannot be loaded.
    pub fn set_fallback(&mut self, record: ModelRecord, metadata: Option<ManifestMetadata>) {
        self.fallback = Some(VersionEntry::new(record, metadata));
    }

    /// Sets the manifest that has been applied completely; `None` if work is left.
    pub fn set_applied_manifest(&mut self, manifest: Option<Identity>) {
        self.applied_manifest = manifest;
    }

    /// Sets the reason for which a fallback serves; `None` if the version that the source prefers serves.
    pub fn set_fallback_reason(&mut self, reason: Option<String>) {
        self.fallback_reason = reason;
    }

    /// Records that this version was accepted and is active, with this signature. The version before it becomes the
    /// target of a rollback, unless it is rejected.
    pub fn accept(&mut self, record: &ModelRecord, signature: Signature) {
        let is_same = |entry: &VersionEntry| entry.record == *record;
        let slots = [
            &mut self.candidate,
            &mut self.last_active,
            &mut self.fallback,
            &mut self.previous_active,
        ];
        let known = slots
            .into_iter()
            .find(|slot| slot.as_ref().is_some_and(is_same));
        let known = known.and_then(Option::take);
        let entry = VersionEntry {
            signature: Some(signature),
            ..known.unwrap_or_else(|| VersionEntry::new(record.clone(), None))
        };
        self.interrupted_loads.remove(record.digest().as_str());
        if let Some(last) = self.last_active.replace(entry)
            && last.record.digest() != record.digest()
            && self.reason(&last).is_none()
        {
            self.previous_active = Some(last);
        }
    }

    /// Records the rejection of a version. If it was active, the previous active version takes its place. The manifest
    /// counts as not applied, so that the next check reads its choices again.
    pub fn reject(&mut self, record: &ModelRecord, cause: RejectionCause, reason: &str) {
        let criteria = self.entry(record).and_then(|entry| entry.criteria.clone());
        let criteria = criteria.filter(|_| cause == RejectionCause::Criteria);
        self.add_rejection(&record.digest(), criteria, reason);
    }

    /// Records the rejection of the content with this digest.
    pub fn reject_content(&mut self, digest: &Digest, reason: &str) {
        self.add_rejection(digest, None, reason);
    }

    fn add_rejection(&mut self, digest: &Digest, criteria: Option<Digest>, reason: &str) {
        let entry = self.entries().find(|entry| entry.has_digest(digest));
        let files = entry.map(|entry| entry.record.files().cloned().collect());
        // The same content can be rejected under several criteria.
        let has_other_criteria =
            |rejection: &VersionRejection| criteria.is_some() && rejection.criteria != criteria;
        self.rejected
            .retain(|rejection| rejection.digest != *digest || has_other_criteria(rejection));
        self.rejected.push(VersionRejection {
            digest: digest.clone(),
            reason: reason.to_owned(),
            files: files.unwrap_or_default(),
            criteria,
        });
        self.applied_manifest = None;
        let excess = self.rejected.len().saturating_sub(MAX_REJECTIONS);
        self.rejected.drain(..excess);
        // The same content may have been accepted under other criteria.
        let is_rejected =
            |last: &VersionEntry| last.has_digest(digest) && self.reason(last).is_some();
        if self.last_active.as_ref().is_some_and(is_rejected) {
            let last = std::mem::replace(&mut self.last_active, self.previous_active.take());
            // The version that the source has stays known.
            self.candidate = self.candidate.take().or(last);
        }
    }

    /// Records that the process ended during the load of the version with this digest. The version is rejected at once
    /// if it was never active and another version was. A version that was active can be loaded, so that another cause
    /// is more likely: it is rejected after [`MAX_INTERRUPTED_LOADS`].
    pub fn record_interrupted_load(&mut self, digest: &Digest) {
        let active = || self.last_active.iter().chain(&self.previous_active);
        let was_active = active().any(|entry| entry.has_digest(digest));
        let has_alternative = active().any(|entry| !entry.has_digest(digest));
        let count = self
            .interrupted_loads
            .entry(digest.to_string())
            .or_default();
        *count += 1;
        let count = *count;
        if has_alternative && !was_active || count >= MAX_INTERRUPTED_LOADS {
            self.interrupted_loads.remove(digest.as_str());
            let times = match count {
                1 => String::new(),
                count => format!(" {count} times"),
            };
            let reason = format!(
                "the process ended{times} while it loaded this version: ONNX Runtime crashed, or memory was \
                 insufficient; raise the function's memory size"
            );
            self.reject_content(digest, &reason);
        }
        while self.interrupted_loads.len() > MAX_REJECTIONS {
            self.interrupted_loads.pop_first();
        }
    }

    /// Records that the process ended during the warm-up of the version with this digest. The version is not warmed up
    /// any more.
    pub fn record_interrupted_warm_up(&mut self, digest: &Digest) {
        let entries = [
            &mut self.candidate,
            &mut self.last_active,
            &mut self.fallback,
        ];
        for entry in entries
            .into_iter()
            .flatten()
            .filter(|entry| entry.has_digest(digest))
        {
            let version = &entry.record.version;
            warn!(%version, "the process ended during the warm-up: this version is loaded without a warm-up from now on");
            entry.example = None;
        }
    }

    /// Returns the digests of the files that may still be loaded.
    pub(super) fn referenced(&self) -> impl Iterator<Item = &Digest> {
        let slots = [&self.candidate, &self.last_active, &self.fallback];
        let loadable = slots
            .into_iter()
            .filter_map(|slot| self.not_rejected(slot.as_ref()));
        let files = loadable.flat_map(|entry| entry.record.files());
        files.map(|file| &file.digest)
    }

    /// Returns the digests of the files of rejected versions.
    pub(super) fn rejected_digests(&self) -> impl Iterator<Item = &Digest> {
        let files = self.rejected.iter();
        let files = files.flat_map(|rejection| &rejection.files);
        files.map(|file| &file.digest)
    }

    fn entries(&self) -> impl Iterator<Item = &VersionEntry> {
        let entries = [
            &self.candidate,
            &self.last_active,
            &self.fallback,
            &self.previous_active,
        ];
        entries.into_iter().flatten()
    }

    fn entry(&self, record: &ModelRecord) -> Option<&VersionEntry> {
        self.entries().find(|entry| entry.record == *record)
    }

    fn newest_entry(&self) -> Option<&VersionEntry> {
        self.candidate.as_ref().or(self.last_active.as_ref())
    }

    fn not_rejected<'a>(&'a self, slot: Option<&'a VersionEntry>) -> Option<&'a VersionEntry> {
        slot.filter(|entry| self.reason(entry).is_none())
    }

    fn reason(&self, entry: &VersionEntry) -> Option<&str> {
        self.rejection_reason(&entry.record.digest(), entry.criteria.as_ref())
    }
}
