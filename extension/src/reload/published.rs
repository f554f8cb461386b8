//! The version that a manifest has this environment run.
//!
//! The manifest is small, and comes like any other file. Its digests name the files: what is here under one is not
//! asked for, whatever version it came with, and what has to be fetched is held against length and digest. So a
//! version is whole by the manifest's own word, and needs no second look at the source.

use std::sync::atomic::Ordering::Relaxed;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tracing::info;

use super::CheckError;
use super::gate::Terms;
use super::gather::{
    AT_ONCE, Gathered, Gatherer, Taken, describe, external, shared_out, transferred,
};
use crate::cache::{CachedFile, FileRecord, Journal, ManifestMetadata, ModelRecord};
use crate::fetch::PartLimits;
use crate::ids::{Digest, ETag, Expected, FilePath, Identity, VersionName};
use crate::manifest::{
    MAX_BYTES, Manifest, NamedVersion, PublishedFile, PublishedVersion, Selection, SelectionReason,
    VersionLabels,
};
use crate::onnx::Description;
use crate::source::Object;

/// What a manifest has one environment run.
pub(super) struct Offer {
    /// Which manifest it is.
    pub(super) manifest: Identity,
    /// What should answer, the best first: at least one.
    pub(super) choices: Vec<(VersionName, PublishedVersion)>,
    /// What may stand in for these where nothing answers.
    pub(super) stand_ins: Vec<(VersionName, PublishedVersion)>,
}

impl Gatherer<'_> {
    /// Reads what a manifest has this environment run, and what it calls its versions.
    pub(super) async fn read_offer(
        &self,
        path: &FilePath,
        manifest: Object,
        labels: &mut Option<VersionLabels>,
    ) -> Result<Offer, CheckError> {
        let (mut manifest, identity) = self.read_manifest(path, manifest).await?;
        if self.is_for_snapshot() && manifest.without_canary() {
            self.canary_held.store(true, Relaxed);
        }
        *labels = Some(manifest.labels().clone());
        let chosen = self.choose(&manifest)?;
        let (name, why) = (chosen.version.0, chosen.reason);
        info!(model = %self.settings.name, %why, "the manifest's version {name} is to run here");
        let owned = |(name, version): NamedVersion<'_>| (name.clone(), version.clone());
        let mut choices = vec![owned(chosen.version)];
        let stand_ins: Vec<_> = chosen.fallbacks.into_iter().map(owned).collect();
        // Where the canary is refused, the current version is what all others run.
        if why == SelectionReason::Canary {
            choices.extend(stand_ins.first().cloned());
        }
        Ok(Offer {
            manifest: identity,
            choices,
            stand_ins,
        })
    }

    fn choose<'m>(&self, manifest: &'m Manifest) -> Result<Selection<'m>, CheckError> {
        let (choice, model) = (&self.settings.choice, &self.settings.name);
        let chosen = manifest.select(choice, model, || self.shared.cache.rollout_position());
        chosen.map_err(|error| self.wrong_manifest(format!("{choice} cannot be run: {error}")))
    }

    fn wrong_manifest(&self, reason: String) -> CheckError {
        CheckError::Manifest {
            location: self.settings.location.to_string(),
            reason,
        }
    }

    /// Brings in one of a manifest's versions, unless it is refused on the manifest's terms.
    pub(super) async fn gather_named(
        &self,
        (name, version): &(VersionName, PublishedVersion),
        manifest: &Identity,
        journal: &Journal,
    ) -> Result<Gathered, CheckError> {
        let published = ManifestMetadata {
            manifest: manifest.clone(),
            example: version.golden.first().map(|golden| golden.inputs.clone()),
            criteria: terms(version),
        };
        let record = promised(name, version);
        let (digest, terms) = (record.digest(), Some(&published.criteria));
        // Its digests tell before anything is fetched.
        let is_refused = journal.history().rejection_reason(&digest, terms).is_some();
        if is_refused || self.deferred.as_ref() == Some(&digest) {
            return Ok(Gathered::refused(record, Some(published)));
        }
        let taken = self.take_published(&record, journal).await?;
        let transferred = transferred(&taken);
        let (record, files) = Self::version_of(taken, Some(name.clone()))?;
        let description = self.complete(name.as_str(), &record, &files).await?;
        let terms = Terms {
            declared: version.signature.clone(),
            before: None,
            golden: version.golden.clone(),
        };
        let published = Some((published, terms));
        self.gathered(record, files, description, published, transferred)
    }

    async fn read_manifest(
        &self,
        path: &FilePath,
        object: Object,
    ) -> Result<(Manifest, Identity), CheckError> {
        let wrong = |reason| self.wrong_manifest(reason);
        let most = MAX_BYTES as u64;
        if object.size > most {
            let size = object.size;
            return Err(wrong(format!(
                "it has {size} bytes; at most {most} are allowed"
            )));
        }
        let (source, parts) = (self.source(path)?, self.shared.parts);
        let fetched = self.fetch_from(&*source, path, object, None, parts);
        let fetched = fetched.await?;
        let json = std::fs::read(fetched.file.path())
            .map_err(|error| wrong(format!("it cannot be read from the cache: {error}")))?;
        let manifest = Manifest::parse(&json).map_err(|error| wrong(error.to_string()))?;
        Ok((manifest, fetched.identity))
    }

    /// Every file of the version, the model's first.
    async fn take_published(
        &self,
        version: &ModelRecord,
        journal: &Journal,
    ) -> Result<Vec<Taken>, CheckError> {
        let files: Vec<FileRecord> = version.files().cloned().collect();
        let parts = shared_out(self.shared.parts, files.len());
        let several = files.len() > 1;
        let take = |promised| async move {
            let taken = self.take_promised(promised, parts, journal).await?;
            if several {
                journal.add_downloaded_file(taken.record.clone());
            }
            Ok::<_, CheckError>(taken)
        };
        let taken = stream::iter(files.into_iter().map(take));
        taken.buffered(AT_ONCE).try_collect().await
    }

    async fn take_promised(
        &self,
        record: FileRecord,
        parts: PartLimits,
        journal: &Journal,
    ) -> Result<Taken, CheckError> {
        let expected = Expected {
            size: record.size,
            digest: record.digest.clone(),
        };
        let (file, transferred) = match self.find(&expected.digest).await {
            Some(file) => (file, None),
            None => {
                let path = &record.path;
                let object = self.open_anew(path, Some(&expected), journal).await?;
                let fetched = self.fetch(path, object, Some(&expected), parts, journal);
                let fetched = fetched.await?;
                (fetched.file, Some(fetched.transferred))
            }
        };
        Ok(Taken {
            record,
            file,
            transferred,
        })
    }

    /// What the model's file says of itself, once the version is seen to have every file that it refers to.
    async fn complete(
        &self,
        name: &str,
        record: &ModelRecord,
        files: &[CachedFile],
    ) -> Result<Option<Description>, CheckError> {
        let Some(model) = files.first() else {
            return Ok(None);
        };
        let description = describe(model.path()).await?;
        for path in external(description.as_ref()) {
            let referred = record.model.path.sibling(path);
            if record.files().all(|file| file.path.laid_out() != referred) {
                return Err(self.wrong_manifest(format!(
                    "versions.{name}.files lacks {path}, to which the model's file refers"
                )));
            }
        }
        Ok(description)
    }
}

/// A version as the manifest promises it, before anything of it is here.
fn promised(name: &VersionName, version: &PublishedVersion) -> ModelRecord {
    let others = version.files.iter().filter(|file| **file != version.model);
    let mut others: Vec<&PublishedFile> = others.collect();
    others.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    let record = |file: &PublishedFile| FileRecord {
        path: version.path_of(file),
        // The manifest's word is what identifies the content; the source's is not asked for when the file is here.
        identity: Identity {
            etag: ETag(file.digest.to_string()),
            version_id: None,
        },
        size: file.size,
        digest: file.digest.clone(),
    };
    let others = others.into_iter().map(record).collect();
    ModelRecord::new(record(&version.model), others, Some(name.clone()))
}

/// A digest of what the version is held against before it answers. It is compared within one build of the sidecar; in
/// another one it may be another, and then a version that was refused is tried again.
fn terms(version: &PublishedVersion) -> Digest {
    let terms = (&version.signature, &version.golden);
    Digest::of(Sha256::new().chain_update(format!("{terms:?}")))
}
