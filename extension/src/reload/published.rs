//! The version that a manifest names.
//!
//! The manifest is small, and comes like any other file. Its digests name the files: what is here under one is not
//! asked for, whatever version it came with, and what has to be fetched is held against length and digest. So a
//! version is whole by the manifest's own word, and needs no second look at the source.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sha2::{Digest as _, Sha256};

use super::CheckError;
use super::gate::Terms;
use super::gather::{
    AT_ONCE, Gathered, Gatherer, Taken, describe, external, shared_out, transferred,
};
use crate::cache::{FileRecord, Journal, KeptFile, Published, Record};
use crate::config::Form;
use crate::fetch::Parts;
use crate::ids::{Digest, ETag, Expected, FilePath, Identity};
use crate::manifest::{MOST_BYTES, Manifest, PublishedFile, PublishedVersion};
use crate::onnx::Description;
use crate::source::Object;

/// Which of a manifest's versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Current,
    /// The one to fall back to.
    Previous,
}

impl Gatherer<'_> {
    /// Brings in the version to fall back to, where there is a manifest that names one.
    pub(super) async fn gather_previous(
        &self,
        journal: &Journal,
    ) -> Result<Option<Gathered>, CheckError> {
        let Form::Manifest(path) = &self.settings.form else {
            return Ok(None);
        };
        let object = self.open_anew(path).await?;
        let previous = Which::Previous;
        self.gather_published(path, object, previous, journal).await
    }

    /// Brings in a version that the manifest names; `None` when it names no such.
    pub(super) async fn gather_published(
        &self,
        path: &FilePath,
        manifest: Object,
        which: Which,
        journal: &Journal,
    ) -> Result<Option<Gathered>, CheckError> {
        let (manifest, identity) = self.read_manifest(path, manifest).await?;
        let named = match which {
            Which::Current => Some(manifest.current()),
            Which::Previous => manifest.previous(),
        };
        let Some((name, version)) = named else {
            return Ok(None);
        };
        let published = Published {
            manifest: identity,
            example: version.golden.first().map(|golden| golden.inputs.clone()),
            terms: terms(version),
        };
        let record = record(version);
        let (digest, terms) = (record.digest(), Some(&published.terms));
        if journal.history().why_refused(&digest, terms).is_some() {
            return Ok(Some(Gathered {
                record,
                files: None,
                published: Some(published),
                terms: Terms::default(),
                transferred: None,
            }));
        }
        let taken = self.take_published(&record, journal).await?;
        let transferred = transferred(&taken);
        let (record, files) = Self::version_of(taken)?;
        let description = self.complete(name.as_str(), &record, &files).await?;
        let terms = Terms {
            declared: version.signature.clone(),
            before: None,
            golden: version.golden.clone(),
        };
        let published = Some((published, terms));
        let gathered = self.gathered(record, files, description, published, transferred)?;
        Ok(Some(gathered))
    }

    async fn read_manifest(
        &self,
        path: &FilePath,
        object: Object,
    ) -> Result<(Manifest, Identity), CheckError> {
        let wrong = |reason: String| CheckError::Manifest {
            location: self.settings.location.to_string(),
            reason,
        };
        let most = MOST_BYTES as u64;
        if object.size > most {
            let size = object.size;
            return Err(wrong(format!(
                "it has {size} bytes; at most {most} are allowed"
            )));
        }
        let fetched = self.fetch(path, object, None, self.shared.parts).await?;
        let json = std::fs::read(fetched.file.path())
            .map_err(|error| wrong(format!("it cannot be read from the cache: {error}")))?;
        let manifest = Manifest::parse(&json).map_err(|error| wrong(error.to_string()))?;
        Ok((manifest, fetched.identity))
    }

    /// Every file of the version, the model's first.
    async fn take_published(
        &self,
        version: &Record,
        journal: &Journal,
    ) -> Result<Vec<Taken>, CheckError> {
        let files = 1 + version.others.len();
        let parts = shared_out(self.shared.parts, files);
        let take = |record: FileRecord| async move {
            let taken = self.take_expected(record, parts).await?;
            if files > 1 {
                journal.arrived(taken.record.clone());
            }
            Ok::<_, CheckError>(taken)
        };
        let taken = stream::iter(version.files().cloned().map(take));
        taken.buffered(AT_ONCE).try_collect().await
    }

    async fn take_expected(&self, record: FileRecord, parts: Parts) -> Result<Taken, CheckError> {
        let (file, transferred) = match self.find(&record.digest).await {
            Some(file) => (file, None),
            None => {
                let object = self.open_anew(&record.path).await?;
                let expected = Expected {
                    size: record.size,
                    digest: record.digest.clone(),
                };
                let fetched = self.fetch(&record.path, object, Some(&expected), parts);
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
        record: &Record,
        files: &[KeptFile],
    ) -> Result<Option<Description>, CheckError> {
        let Some(model) = files.first() else {
            return Ok(None);
        };
        let description = describe(model).await?;
        let laid_out: BTreeSet<FilePath> =
            record.files().map(|file| file.path.laid_out()).collect();
        for path in external(description.as_ref()) {
            if !laid_out.contains(&record.model.path.beside(path)) {
                return Err(CheckError::Manifest {
                    location: self.settings.location.to_string(),
                    reason: format!(
                        "versions.{name}.files lacks {path}, to which the model's file refers"
                    ),
                });
            }
        }
        Ok(description)
    }
}

/// The version as its files are known here. The manifest's word is what identifies their content; the source's is not
/// asked for when they are here.
fn record(version: &PublishedVersion) -> Record {
    let record = |file: &PublishedFile| FileRecord {
        path: version.place(file),
        identity: Identity {
            etag: ETag(file.digest.to_string()),
            version_id: None,
        },
        size: file.size,
        digest: file.digest.clone(),
    };
    let others = version.files.iter().filter(|file| **file != version.model);
    let mut others: Vec<FileRecord> = others.map(record).collect();
    others.sort_by(|one, other| one.path.cmp(&other.path));
    Record {
        model: record(&version.model),
        others,
    }
}

/// A digest of what the version is held against before it answers. It is compared within one build of the sidecar; in
/// another one it may be another, and then a version that was refused is tried again.
fn terms(version: &PublishedVersion) -> Digest {
    let terms = (&version.signature, &version.golden);
    Digest::of(Sha256::new().chain_update(format!("{terms:?}")))
}
