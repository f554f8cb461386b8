//! What has been seen of a model's versions, and what became of them: pure, so that whoever decides by it can be
//! tested without a disk.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::cache::{FileRecord, ModelRecord};
use crate::ids::{Digest, FilePath, Identity};
use crate::manifest::{GoldenTensor, VersionLabels};
use crate::tensor::Signature;

/// Maximum number of deaths in a row in the load of a version that was active here, or that there is no other for.
pub(super) const MAX_DEATHS: u32 = 3;
/// How many refused versions are remembered, so that a source that goes to and fro between bad ones costs nothing.
const MAX_REFUSED: usize = 32;
/// The longest example that is kept for the starts that do not read the manifest again, in bytes of its data: the
/// journal is written several times in a load. A version whose example is longer is warmed up only where the manifest
/// was read in the same process.
const MAX_EXAMPLE: usize = 64 << 10;

/// What a manifest says of a version beside its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestMetadata {
    /// Which manifest it was.
    pub manifest: Identity,
    /// The inputs of the version's first golden example, where there is one.
    pub example: Option<Vec<GoldenTensor>>,
    /// What identifies the terms on which the version is to be let in. A refusal on these terms says nothing about
    /// others: an example that was wrong can be put right.
    pub criteria: Digest,
}

/// Why a version is not to be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectionCause {
    /// Its own bytes: whatever else is said of it.
    Content,
    /// It did not keep the terms on which it was to be let in.
    Criteria,
}

/// The versions of one model as one execution environment has seen them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Where the versions come from; what is known of another place is of no use.
    pub(super) location: String,
    /// The manifest of which everything has been done that it asks for.
    manifest: Option<Identity>,
    /// What the last manifest that was read calls its versions.
    #[serde(default)]
    labels: VersionLabels,
    /// The version that was let in last.
    good: Option<Entry>,
    /// What the source held later, and what has not been let in, or could not be.
    candidate: Option<Entry>,
    /// The good one before the present, which takes over when the present one is withdrawn.
    #[serde(default)]
    before: Option<Entry>,
    /// What the source has for when neither can be had, once it is to be loaded.
    #[serde(default)]
    stand_in: Option<Entry>,
    /// Why the source's first choice does not answer, where another one of its choices does.
    #[serde(default)]
    passed_over: Option<String>,
    /// What is not to be loaded, the last refused at the end.
    #[serde(default)]
    refused: Vec<Refusal>,
    /// Processes that died while they loaded a version, by its digest.
    #[serde(default)]
    deaths: BTreeMap<String, u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    record: ModelRecord,
    /// Whether a manifest names it, whose terms have to be known before it is let in.
    #[serde(default)]
    terms: Option<Digest>,
    /// What to warm it up with.
    #[serde(default, skip_serializing_if = "is_not_kept")]
    example: Option<Vec<GoldenTensor>>,
    /// Its inputs and outputs, once it was let in.
    #[serde(default)]
    signature: Option<Signature>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Refusal {
    digest: Digest,
    reason: String,
    /// The files; the source's word for one of them is enough to know it again.
    files: Vec<FileRecord>,
    /// The terms that were not kept; `None` when it is refused on any.
    terms: Option<Digest>,
}

impl Entry {
    fn new(record: ModelRecord, published: Option<ManifestMetadata>) -> Self {
        let (terms, example) = match published {
            Some(ManifestMetadata {
                criteria, example, ..
            }) => (Some(criteria), example),
            None => (None, None),
        };
        Self {
            record,
            terms,
            example,
            signature: None,
        }
    }

    fn is(&self, digest: &Digest) -> bool {
        self.record.digest() == *digest
    }
}

#[expect(clippy::ref_option, reason = "serde gives a reference to the field")]
fn is_not_kept(example: &Option<Vec<GoldenTensor>>) -> bool {
    example.as_ref().is_none_or(|inputs| {
        let length: usize = inputs.iter().map(|input| input.data.len()).sum();
        length > MAX_EXAMPLE
    })
}

impl History {
    /// Of versions that come from `location`, none of which has been seen.
    #[must_use]
    pub fn new(location: &str) -> Self {
        Self {
            location: location.to_owned(),
            ..Self::default()
        }
    }

    /// What the source was last seen to hold, let in or not.
    #[must_use]
    pub fn newest(&self) -> Option<&ModelRecord> {
        let newest = self.candidate.as_ref();
        newest.or(self.good.as_ref()).map(|entry| &entry.record)
    }

    /// The version that was let in last, unless it was refused later.
    #[must_use]
    pub fn last_active(&self) -> Option<&ModelRecord> {
        let good = self.not_refused(self.good.as_ref());
        good.map(|entry| &entry.record)
    }

    /// The one that was let in before that, unless it was refused later.
    #[must_use]
    pub fn previous_active(&self) -> Option<&ModelRecord> {
        let before = self.not_refused(self.before.as_ref());
        before.map(|entry| &entry.record)
    }

    /// The inputs and outputs of the version that was let in last, unless it was refused later.
    #[must_use]
    pub fn signature(&self) -> Option<&Signature> {
        self.not_refused(self.good.as_ref())?.signature.as_ref()
    }

    /// The newest version that may be loaded with nothing asked of the source: not one whose terms are not known.
    #[must_use]
    pub fn loadable_offline(&self) -> Option<&ModelRecord> {
        let candidate = self.not_refused(self.candidate.as_ref());
        let candidate = candidate.filter(|entry| entry.terms.is_none());
        candidate
            .map(|entry| &entry.record)
            .or_else(|| self.last_active())
    }

    /// Why what the source wants is not to be loaded; `None` if it is, or if nothing is known.
    #[must_use]
    pub fn rejection(&self) -> Option<&str> {
        let newest = self.candidate.as_ref().or(self.good.as_ref());
        let refusal = newest.and_then(|newest| self.reason(newest));
        refusal.or(self.passed_over.as_deref())
    }

    /// Why this version is not to be loaded on these terms; `None` if it is.
    #[must_use]
    pub fn rejection_reason(&self, digest: &Digest, terms: Option<&Digest>) -> Option<&str> {
        let is_it = |refusal: &&Refusal| {
            refusal.digest == *digest
                && refusal
                    .terms
                    .as_ref()
                    .is_none_or(|broken| Some(broken) == terms)
        };
        let refusal = self.refused.iter().rev().find(is_it);
        refusal.map(|refusal| refusal.reason.as_str())
    }

    /// The file of the last version of one file at `path` that is not to be loaded, on whatever terms.
    #[must_use]
    pub fn rejected_file(&self, path: &FilePath) -> Option<&FileRecord> {
        self.refused
            .iter()
            .rev()
            .find_map(|refusal| match &*refusal.files {
                [file] if file.path == *path && refusal.terms.is_none() => Some(file),
                _ => None,
            })
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        let entries = [&self.candidate, &self.good, &self.stand_in, &self.before];
        entries.into_iter().flatten()
    }

    fn not_refused<'a>(&'a self, slot: Option<&'a Entry>) -> Option<&'a Entry> {
        slot.filter(|entry| self.reason(entry).is_none())
    }

    fn reason(&self, entry: &Entry) -> Option<&str> {
        self.rejection_reason(&entry.record.digest(), entry.terms.as_ref())
    }

    /// What is known of a file when its source says this of it.
    #[must_use]
    pub fn find_file(&self, path: &FilePath, identity: &Identity) -> Option<&FileRecord> {
        let files = self.entries().flat_map(|entry| entry.record.files());
        let refused = self.refused.iter().flat_map(|refusal| &refusal.files);
        let mut files = files.chain(refused);
        files.find(|file| file.path == *path && file.identity == *identity)
    }

    /// The manifest of which everything has been done that it asks for.
    #[must_use]
    pub fn applied_manifest(&self) -> Option<&Identity> {
        self.manifest.as_ref()
    }

    /// What this version is to be warmed up with, as far as it is known.
    #[must_use]
    pub fn example(&self, record: &ModelRecord) -> Option<&[GoldenTensor]> {
        self.entry(record)?.example.as_deref()
    }

    fn entry(&self, record: &ModelRecord) -> Option<&Entry> {
        self.entries().find(|entry| entry.record == *record)
    }

    /// Notes that the source holds this, as a manifest has it or without one. Bytes that were refused stay refused
    /// under a new identity.
    pub fn set_candidate(&mut self, record: ModelRecord, published: Option<ManifestMetadata>) {
        match &mut self.good {
            Some(good) if good.record == record => {
                // On the same terms it may have lost its example, by a death in the warm-up.
                if let Some(ManifestMetadata {
                    criteria: terms,
                    example,
                    ..
                }) = published
                    && good.terms.as_ref() != Some(&terms)
                {
                    (good.terms, good.example) = (Some(terms), example);
                }
                self.candidate = None;
            }
            good => {
                let mut entry = Entry::new(record, published);
                // As above, where the same content has another name.
                let digest = entry.record.digest();
                if let Some(good) = good
                    && good.is(&digest)
                    && good.terms == entry.terms
                {
                    entry.example.clone_from(&good.example);
                }
                self.candidate = Some(entry);
            }
        }
    }

    /// Whether the content of this version was let in on the terms that it has now, under whatever name.
    #[must_use]
    pub fn was_accepted(&self, record: &ModelRecord) -> bool {
        let digest = record.digest();
        let entry = self.entry(record);
        let terms = entry.and_then(|entry| entry.terms.as_ref());
        let let_in = [&self.good, &self.before].into_iter();
        let mut let_in = let_in.filter_map(|slot| self.not_refused(slot.as_ref()));
        let_in.any(|entry| {
            entry.record == *record || entry.is(&digest) && entry.terms.as_ref() == terms
        })
    }

    /// What the last manifest that was read calls its versions.
    #[must_use]
    pub fn labels(&self) -> &VersionLabels {
        &self.labels
    }

    /// Notes what a manifest calls its versions.
    pub fn set_labels(&mut self, labels: VersionLabels) {
        self.labels = labels;
    }

    /// Notes that this is here, and is to be loaded while what the source holds cannot be.
    pub fn set_fallback(&mut self, record: ModelRecord, published: Option<ManifestMetadata>) {
        self.stand_in = Some(Entry::new(record, published));
    }

    /// Notes that all has been done that this manifest asks for, or that there is still something to do.
    pub fn set_applied_manifest(&mut self, manifest: Option<Identity>) {
        self.manifest = manifest;
    }

    /// Notes why the source's first choice was passed over for another one, if it was.
    pub fn set_fallback_reason(&mut self, reason: Option<String>) {
        self.passed_over = reason;
    }

    /// Notes that this version was let in, with these inputs and outputs: as what the source holds, or, where it holds
    /// something else, in its place.
    pub fn accept(&mut self, record: &ModelRecord, signature: Signature) {
        let is_it = |entry: &Entry| entry.record == *record;
        let slots = [
            &mut self.candidate,
            &mut self.good,
            &mut self.stand_in,
            &mut self.before,
        ];
        let known = slots
            .into_iter()
            .find(|slot| slot.as_ref().is_some_and(is_it));
        let known = known.and_then(Option::take);
        let entry = Entry {
            signature: Some(signature),
            ..known.unwrap_or_else(|| Entry::new(record.clone(), None))
        };
        self.deaths.remove(record.digest().as_str());
        if let Some(last) = self.good.replace(entry)
            && last.record.digest() != record.digest()
            && self.reason(&last).is_none()
        {
            self.before = Some(last);
        }
    }

    /// Notes that this version is not to be loaded. One that was good makes place for the one before it; what the
    /// manifest wants in its place has to be seen anew.
    pub fn reject(&mut self, record: &ModelRecord, cause: RejectionCause, reason: &str) {
        let terms = self.entry(record).and_then(|entry| entry.terms.clone());
        let terms = terms.filter(|_| cause == RejectionCause::Criteria);
        self.add_rejection(&record.digest(), terms, reason);
    }

    /// Notes that the version of this digest is not to be loaded, whatever else is said of it.
    pub fn reject_content(&mut self, digest: &Digest, reason: &str) {
        self.add_rejection(digest, None, reason);
    }

    fn add_rejection(&mut self, digest: &Digest, terms: Option<Digest>, reason: &str) {
        let entry = self.entries().find(|entry| entry.is(digest));
        let files = entry.map(|entry| entry.record.files().cloned().collect());
        // The same content may be refused on other terms, too.
        let is_on_others = |refusal: &Refusal| terms.is_some() && refusal.terms != terms;
        self.refused
            .retain(|refusal| refusal.digest != *digest || is_on_others(refusal));
        self.refused.push(Refusal {
            digest: digest.clone(),
            reason: reason.to_owned(),
            files: files.unwrap_or_default(),
            terms,
        });
        self.manifest = None;
        let spare = self.refused.len().saturating_sub(MAX_REFUSED);
        self.refused.drain(..spare);
        // The same content may be good on other terms.
        let is_refused = |good: &Entry| good.is(digest) && self.reason(good).is_some();
        if self.good.as_ref().is_some_and(is_refused) {
            let good = std::mem::replace(&mut self.good, self.before.take());
            // What the source holds is known all the same.
            self.candidate = self.candidate.take().or(good);
        }
    }

    /// Notes that a process died while it loaded the version of this digest. It is refused at once where another one was
    /// let in here and it was not: a version that has been active here loads, and what killed the process is more likely
    /// something else.
    pub fn record_interrupted_load(&mut self, digest: &Digest) {
        let let_in = || self.good.iter().chain(&self.before);
        let was_active = let_in().any(|entry| entry.is(digest));
        let has_other = let_in().any(|entry| !entry.is(digest));
        let deaths = self.deaths.entry(digest.to_string()).or_default();
        *deaths += 1;
        let deaths = *deaths;
        if has_other && !was_active || deaths >= MAX_DEATHS {
            self.deaths.remove(digest.as_str());
            let times = match deaths {
                1 => String::new(),
                deaths => format!(" {deaths} times"),
            };
            let reason = format!(
                "the process died{times} while it loaded this version: a crash in ONNX Runtime, or too little memory \
                 for it (the function's memory size can be raised)"
            );
            self.reject_content(digest, &reason);
        }
        while self.deaths.len() > MAX_REFUSED {
            self.deaths.pop_first();
        }
    }

    /// Notes that a process died in the warm-up of the version of this digest: it does without from now on.
    pub fn record_interrupted_warm_up(&mut self, digest: &Digest) {
        let entries = [&mut self.candidate, &mut self.good, &mut self.stand_in];
        for entry in entries
            .into_iter()
            .flatten()
            .filter(|entry| entry.is(digest))
        {
            let version = &entry.record.version;
            warn!(%version, "the process died in the warm-up: this version does without from now on");
            entry.example = None;
        }
    }

    /// The digests of the files that may still be loaded.
    pub(super) fn needed(&self) -> impl Iterator<Item = &Digest> {
        let slots = [&self.candidate, &self.good, &self.stand_in];
        let usable = slots
            .into_iter()
            .filter_map(|slot| self.not_refused(slot.as_ref()));
        let files = usable.flat_map(|entry| entry.record.files());
        files.map(|file| &file.digest)
    }

    /// The digests of the files of versions that are refused.
    pub(super) fn refused_files(&self) -> impl Iterator<Item = &Digest> {
        let refused = self.refused.iter().flat_map(|refusal| &refusal.files);
        refused.map(|file| &file.digest)
    }
}
