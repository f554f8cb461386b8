//! From what a location names to the files of one version, whole and here.
//!
//! A location names a model's file, a manifest, or a repository ([`Form`]). A model's file may refer to others beside
//! it, which hold its weights: they are found in the file itself, once it is here. Without a manifest nothing says that
//! the files of one moment belong together; so each is pinned while it is read, and when all are here, all are asked
//! for again: one that changed meanwhile is fetched anew. With a manifest its digests decide, and a file that is here
//! under the same digest is not asked for at all.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tracing::info;

use super::earlier::{Listed, Listing, has_no_others};
use super::gate::Terms;
use super::machine::Target;
use super::published::Offer;
use super::reach::Content;
use super::{CheckError, Shared};
use crate::cache::{CachedFile, CachedModel, FileRecord, Journal, ManifestMetadata, ModelRecord};
use crate::config::{Form, ModelSettings};
use crate::fetch::{self, Fetched, PartLimits};
use crate::ids::{Digest, FilePath, Identity, VersionName};
use crate::manifest::VersionLabels;
use crate::onnx::{Description, OnnxError};
use crate::source::{ModelFolder, Object, Opened};

/// How many files of one model are asked for at once, and fetched.
pub(super) const AT_ONCE: usize = 4;
/// How often a version is gathered anew because a file of it changed meanwhile.
const MAX_CHANGES: u32 = 3;

/// Where a model's files come from.
pub(super) struct Gatherer<'a> {
    pub(super) place: &'a dyn ModelFolder,
    pub(super) settings: &'a ModelSettings,
    pub(super) shared: &'a Shared,
    /// What may stand in, as earlier checks have seen it.
    pub(super) listed: &'a Listed,
    /// Whether a canary was left to others until the first invocation.
    pub(super) canary_held: &'a AtomicBool,
    /// The version whose load has to wait.
    pub(super) deferred: Option<Digest>,
}

/// What the source says when it is asked.
pub(super) enum Asked {
    /// It holds what it was last seen to hold.
    Same,
    /// It holds something else.
    Changed(Changed),
}

pub(super) enum Changed {
    /// Some file of these. What was not asked for is not among them.
    Files {
        model: FilePath,
        answers: HashMap<FilePath, Answer>,
    },
    /// The manifest.
    Manifest(FilePath, Object),
}

/// What is said of one file.
pub(super) enum Answer {
    /// It is the one that is known.
    Known(FileRecord),
    /// It is another.
    Object(Object),
    /// It is one that is rejected, and why.
    Rejected(String, Identity),
}

impl Answer {
    fn identity(&self) -> &Identity {
        match self {
            Answer::Known(record) => &record.identity,
            Answer::Object(object) => &object.identity,
            Answer::Rejected(_, identity) => identity,
        }
    }
}

/// A version that is here.
pub(super) struct Gathered {
    pub(super) record: ModelRecord,
    /// `None` when it is known that the version is not to be loaded, or not now.
    pub(super) files: Option<CachedModel>,
    /// What the manifest says that names it.
    pub(super) published: Option<ManifestMetadata>,
    /// What it says of what the version must do.
    pub(super) terms: Terms,
    /// How many bytes came for it; `None` when no file had to be fetched.
    pub(super) transferred: Option<u64>,
}

/// A file that is here, and what came for it.
pub(super) struct Taken {
    pub(super) record: FileRecord,
    pub(super) file: CachedFile,
    pub(super) transferred: Option<u64>,
}

impl Gathered {
    /// A version that is not to be loaded, or not now.
    pub(super) fn refused(record: ModelRecord, published: Option<ManifestMetadata>) -> Self {
        Self {
            record,
            files: None,
            published,
            terms: Terms::default(),
            transferred: None,
        }
    }
}

/// What a check has seen of the source's versions.
#[derive(Default)]
pub(super) struct Offered {
    /// What it holds that is not known.
    pub(super) changed: Option<Changed>,
    /// What its manifest has this environment run.
    pub(super) offer: Option<Offer>,
    /// Identity of the newest content that the source holds, where it said so.
    pub(super) present: Option<Identity>,
    /// In a repository: the models with lower numbers.
    pub(super) lower: Option<Vec<FilePath>>,
    /// What the manifest that was read calls its versions, until that is noted.
    pub(super) labels: Option<VersionLabels>,
    /// What may stand in, once that was asked.
    pub(super) stand_ins: Option<Listing>,
}

impl Taken {
    pub(super) fn fetched(path: &FilePath, fetched: Fetched) -> Self {
        Self {
            record: FileRecord {
                path: path.clone(),
                identity: fetched.identity,
                size: fetched.size,
                digest: fetched.digest,
            },
            file: fetched.file,
            transferred: Some(fetched.transferred),
        }
    }
}

impl Gatherer<'_> {
    /// Whether the process may still be stored in a snapshot.
    pub(super) fn is_for_snapshot(&self) -> bool {
        self.shared.snap_start && self.shared.status.invocation_deadline().is_none()
    }

    /// Asks for what the journal does not know as the newest; unless that is `known`, for the newest. One round trip, or two
    /// in a repository.
    pub(super) async fn ask(
        &self,
        journal: &Journal,
        known: bool,
        offered: &mut Offered,
    ) -> Result<Asked, CheckError> {
        let asked = match &self.settings.form {
            Form::Model(path) => self.ask_model(path, journal, known).await,
            Form::Repository => {
                let mut paths = self.models_in_repository().await?;
                let path = paths.remove(0);
                offered.lower = Some(paths);
                self.ask_model(&path, journal, known).await
            }
            Form::Manifest(path) => {
                let read_again = !self.is_for_snapshot() && self.canary_held.swap(false, Relaxed);
                let known = known && !read_again;
                let known = journal.history().applied_manifest().filter(|_| known);
                self.ask_manifest(path, known).await
            }
        }?;
        offered.present = match &asked {
            Asked::Changed(Changed::Files { model, answers }) => {
                answers.get(model).map(|answer| answer.identity().clone())
            }
            Asked::Changed(Changed::Manifest(_, object)) => Some(object.identity.clone()),
            Asked::Same => None,
        };
        if let Asked::Same = asked {
            let history = journal.history();
            let newest = history.newest().map(|newest| &newest.model.identity);
            offered.present = match &self.settings.form {
                Form::Manifest(_) => history.applied_manifest().cloned(),
                Form::Model(_) | Form::Repository => newest.cloned(),
            };
        }
        Ok(asked)
    }

    async fn ask_manifest(
        &self,
        path: &FilePath,
        known: Option<&Identity>,
    ) -> Result<Asked, CheckError> {
        let source = self.source(path)?;
        let opened = fetch::open(&*source, &self.shared.cache, known).await?;
        Ok(match opened {
            Opened::Unchanged => Asked::Same,
            Opened::Object(object) => Asked::Changed(Changed::Manifest(path.clone(), object)),
        })
    }

    async fn ask_model(
        &self,
        model: &FilePath,
        journal: &Journal,
        known: bool,
    ) -> Result<Asked, CheckError> {
        if !known {
            return self.ask_files(model, Vec::new(), journal).await;
        }
        let newest = journal.history().newest();
        let newest = newest.filter(|newest| newest.model.path == *model);
        let others = newest.into_iter().flat_map(|newest| &newest.others);
        let paths = std::iter::once(model).chain(others.map(|file| &file.path));
        let seen = paths.filter_map(|path| journal.latest_file(path)).collect();
        let asked = self.ask_files(model, seen, journal).await?;
        // What has arrived of a version that is not whole yet is no news, and the rest is still to come.
        Ok(match asked {
            Asked::Same if !newest.is_some_and(|newest| is_seen(newest, journal)) => {
                let answers = HashMap::new();
                Asked::Changed(Changed::Files {
                    model: model.clone(),
                    answers,
                })
            }
            asked => asked,
        })
    }

    /// Asks for a model's file, and for others that belong to it, as far as they differ from what is known.
    async fn ask_files(
        &self,
        model: &FilePath,
        known: Vec<FileRecord>,
        journal: &Journal,
    ) -> Result<Asked, CheckError> {
        let model = model.clone();
        if !known.iter().any(|file| file.path == model) {
            let answer = self.ask_anew(&model, journal).await?;
            let answers = HashMap::from([(model.clone(), answer)]);
            return Ok(Asked::Changed(Changed::Files { model, answers }));
        }
        let asked = stream::iter(known.into_iter().map(|file| self.ask_file(file, journal)));
        let answers: Vec<_> = asked.buffered(AT_ONCE).try_collect().await?;
        let same = |(_, answer): &(FilePath, Answer)| matches!(answer, Answer::Known(_));
        if answers.iter().all(same) {
            return Ok(Asked::Same);
        }
        let answers = answers.into_iter().collect();
        Ok(Asked::Changed(Changed::Files { model, answers }))
    }

    async fn ask_anew(&self, path: &FilePath, journal: &Journal) -> Result<Answer, CheckError> {
        let source = self.source(path)?;
        match self.ask_for(&*source, path, None, None, journal).await? {
            Content::Object(object) => Ok(Answer::Object(object)),
            Content::Rejected(reason, identity) => Ok(Answer::Rejected(reason, identity)),
            Content::Known => Err(CheckError::Unsteady),
        }
    }

    async fn ask_file(
        &self,
        known: FileRecord,
        journal: &Journal,
    ) -> Result<(FilePath, Answer), CheckError> {
        let path = known.path.clone();
        let source = self.source(&path)?;
        let identity = Some(&known.identity);
        let content = self
            .ask_for(&*source, &path, identity, None, journal)
            .await?;
        let answer = match content {
            Content::Known => Answer::Known(known),
            Content::Object(object) => Answer::Object(object),
            Content::Rejected(reason, identity) => Answer::Rejected(reason, identity),
        };
        Ok((path, answer))
    }

    /// Brings in one of the source's versions, and all that belongs to it; `None` when there is no such. And whether
    /// there is another one after it.
    pub(super) async fn gather(
        &self,
        target: Target,
        offered: &mut Offered,
        journal: &Journal,
    ) -> (Result<Option<Gathered>, CheckError>, bool) {
        match target {
            Target::Choice(which) => {
                match offered.changed.take() {
                    Some(Changed::Files { model, answers }) => {
                        let gathered = self.gather_files(model, answers, journal).await;
                        return (gathered.map(Some), false);
                    }
                    Some(Changed::Manifest(path, object)) => {
                        match self.read_offer(&path, object, &mut offered.labels).await {
                            Ok(offer) => offered.offer = Some(offer),
                            Err(error) => return (Err(error), false),
                        }
                    }
                    None => {}
                }
                let Some(offer) = &offered.offer else {
                    return (Ok(None), false);
                };
                let more = which + 1 < offer.choices.len();
                let gathered = match offer.choices.get(which) {
                    Some(named) => {
                        let gathered = self.gather_named(named, &offer.manifest, journal).await;
                        gathered.map(Some)
                    }
                    None => Ok(None),
                };
                (gathered, more)
            }
            Target::StandIn(which) => self.gather_stand_in(which, offered, journal).await,
        }
    }

    /// Brings in the model's file at `path`, and all that belongs to it.
    pub(super) async fn gather_model(
        &self,
        path: &FilePath,
        journal: &Journal,
    ) -> Result<Gathered, CheckError> {
        let refused = journal.history().rejected_file(path);
        let known = refused.map(|file| &file.identity);
        let source = self.source(path)?;
        let content = self.ask_for(&*source, path, known, None, journal).await?;
        let answer = match (content, refused) {
            (Content::Object(object), _) => Answer::Object(object),
            (Content::Rejected(reason, _), _) => return Err(CheckError::Rejected(reason)),
            (Content::Known, Some(refused)) => {
                let name = self.published_name(path);
                let record = ModelRecord::new(refused.clone(), Vec::new(), name);
                return Ok(Gathered::refused(record, None));
            }
            (Content::Known, None) => return Err(CheckError::Unsteady),
        };
        let answers = HashMap::from([(path.clone(), answer)]);
        self.gather_files(path.clone(), answers, journal).await
    }

    async fn gather_files(
        &self,
        mut model: FilePath,
        mut answers: HashMap<FilePath, Answer>,
        journal: &Journal,
    ) -> Result<Gathered, CheckError> {
        if let Some(Answer::Object(object)) = answers.get(&model)
            && let Some(record) = self.known_refused(&model, &object.identity, journal)
        {
            return Ok(Gathered::refused(record, None));
        }
        let mut came = None;
        for _ in 0..=MAX_CHANGES {
            let (taken, description) = self.take_all(&model, answers, journal).await?;
            came = sum(came.into_iter().chain(transferred(&taken)));
            let (record, files) = Self::version_of(taken, self.published_name(&model))?;
            if record.others.is_empty() {
                return self.gathered(record, files, description, None, came);
            }
            let known = record.files().cloned().collect();
            match self.ask_files(&model, known, journal).await? {
                Asked::Same => return self.gathered(record, files, description, None, came),
                Asked::Changed(Changed::Files {
                    model: path,
                    answers: again,
                }) => {
                    info!(model = %self.settings.name, "a file of the model changed while others were fetched");
                    (model, answers) = (path, again);
                }
                Asked::Changed(Changed::Manifest(..)) => break,
            }
        }
        Err(CheckError::Unsteady)
    }

    /// The version of one file of which the source says this, if it was refused before.
    pub(super) fn known_refused(
        &self,
        model: &FilePath,
        identity: &Identity,
        journal: &Journal,
    ) -> Option<ModelRecord> {
        let file = journal.find_file(model, identity)?;
        let record = ModelRecord::new(file, Vec::new(), self.published_name(model));
        let refused = journal.history().rejection_reason(&record.digest(), None);
        refused.is_some().then_some(record)
    }

    /// The model's file, and then all that it refers to.
    async fn take_all(
        &self,
        model: &FilePath,
        mut answers: HashMap<FilePath, Answer>,
        journal: &Journal,
    ) -> Result<(Vec<Taken>, Option<Description>), CheckError> {
        let parts = self.shared.parts;
        let answer = answers.remove(model);
        let first = self.take(model, answer, journal, parts).await?;
        let described = describe(first.file.path()).await;
        let is_alone = matches!(&described, Ok(said) if external(said.as_ref()).next().is_none());
        if !is_alone {
            journal.add_downloaded_file(first.record.clone());
        }
        let description = described?;
        if self.pinned(model).is_some() {
            has_no_others(&self.source(model)?.uri(), description.as_ref())?;
        }
        let others = external(description.as_ref());
        let others: Vec<FilePath> = others.map(|path| model.sibling(path)).collect();
        let parts = shared_out(parts, others.len());
        let take = |path| {
            let answer = answers.remove(&path);
            async move {
                let taken = self.take(&path, answer, journal, parts).await?;
                journal.add_downloaded_file(taken.record.clone());
                Ok::<_, CheckError>(taken)
            }
        };
        let others: Vec<_> = others.into_iter().map(take).collect();
        let others = stream::iter(others)
            .buffered(AT_ONCE)
            .try_collect::<Vec<_>>();
        let mut taken = vec![first];
        taken.extend(others.await?);
        Ok((taken, description))
    }

    async fn take(
        &self,
        path: &FilePath,
        answer: Option<Answer>,
        journal: &Journal,
        parts: PartLimits,
    ) -> Result<Taken, CheckError> {
        let answer = match answer {
            Some(answer) => answer,
            None => match journal.latest_file(path) {
                Some(known) => self.ask_file(known, journal).await?.1,
                None => self.ask_anew(path, journal).await?,
            },
        };
        let (known, object) = match answer {
            Answer::Known(known) => (Some(known), None),
            Answer::Object(object) => (journal.find_file(path, &object.identity), Some(object)),
            Answer::Rejected(reason, _) => return Err(CheckError::Rejected(reason)),
        };
        if let Some(record) = known
            && let Some(file) = self.find(&record.digest).await
        {
            return Ok(Taken {
                record,
                file,
                transferred: None,
            });
        }
        let object = match object {
            Some(object) => object,
            None => self.open_anew(path, None, journal).await?,
        };
        let fetched = self.fetch(path, object, None, parts, journal).await?;
        Ok(Taken::fetched(path, fetched))
    }

    /// The version of these files, the model's first, under its publisher's name where it has one.
    pub(super) fn version_of(
        taken: Vec<Taken>,
        name: Option<VersionName>,
    ) -> Result<(ModelRecord, Vec<CachedFile>), CheckError> {
        let (mut records, files): (Vec<_>, Vec<_>) = taken
            .into_iter()
            .map(|taken| (taken.record, taken.file))
            .unzip();
        if records.is_empty() {
            return Err(CheckError::Unsteady);
        }
        let others = records.split_off(1);
        let model = records.remove(0);
        Ok((ModelRecord::new(model, others, name), files))
    }

    pub(super) fn gathered(
        &self,
        record: ModelRecord,
        files: Vec<CachedFile>,
        description: Option<Description>,
        published: Option<(ManifestMetadata, Terms)>,
        transferred: Option<u64>,
    ) -> Result<Gathered, CheckError> {
        let (published, terms) = published.unzip();
        let files = self.shared.cache.lay_out(&record, files, description)?;
        Ok(Gathered {
            record,
            files: Some(files),
            published,
            terms: terms.unwrap_or_default(),
            transferred,
        })
    }
}

fn is_seen(newest: &ModelRecord, journal: &Journal) -> bool {
    newest
        .files()
        .all(|file| journal.latest_file(&file.path).as_ref() == Some(file))
}

/// What a model's file says of itself; nothing of what is no model, which is for ONNX Runtime to say.
pub(super) async fn describe(model: &Path) -> Result<Option<Description>, CheckError> {
    let model = model.to_owned();
    let read = move || Description::read(&File::open(model)?);
    let read = tokio::task::spawn_blocking(read).await;
    match read.unwrap_or_else(|error| Err(io::Error::other(error).into())) {
        Ok(description) => Ok(Some(description)),
        Err(OnnxError::NotOnnx { .. } | OnnxError::Empty) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The files that a model's file refers to.
pub(super) fn external(description: Option<&Description>) -> impl Iterator<Item = &FilePath> {
    description.into_iter().flat_map(|said| &said.external)
}

/// How each of so many files that are fetched at once is divided.
pub(super) fn shared_out(parts: PartLimits, files: usize) -> PartLimits {
    let connections = parts.max_connections / files.clamp(1, AT_ONCE);
    PartLimits {
        max_connections: connections.max(1),
        ..parts
    }
}

/// How many bytes came for all of them; `None` when no file had to be fetched.
pub(super) fn transferred(taken: &[Taken]) -> Option<u64> {
    sum(taken.iter().filter_map(|file| file.transferred))
}

fn sum(bytes: impl Iterator<Item = u64>) -> Option<u64> {
    bytes.reduce(|one, other| one + other)
}
