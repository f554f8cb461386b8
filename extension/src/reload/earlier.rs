//! What may stand in where the newest version cannot be had, or is refused.
//!
//! A bad release must not cost the environments that start after it, which have no last good version of their own. So
//! the publisher's earlier one is brought in: what the manifest names for it, the object's earlier versions where its
//! bucket keeps them, the lower numbers of a repository. Of several the newest that is not refused. Where the operator has pinned one
//! version nothing stands in: who pins wants that one or none.
//!
//! A plain object that was deleted has earlier versions too: it is the last of those that serves. A model with data
//! files beside it has no earlier version without a manifest, since nothing says which of each belonged together.

use tracing::info;

use super::CheckError;
use super::gather::{Gathered, Gatherer, Offered, Taken, describe, external};
use super::published::Offer;
use crate::cache::{FileRecord, Journal, Record};
use crate::config::{Choice, Form};
use crate::fetch;
use crate::ids::FilePath;
use crate::onnx::Description;
use crate::source::{Earlier, MOST_EARLIER, Opened};

impl Gatherer<'_> {
    /// Brings in one of those that may stand in for the newest version, the best first; `None` where there is no such.
    /// And whether there is another one after it.
    pub(super) async fn gather_stand_in(
        &self,
        which: usize,
        offered: &mut Offered,
        journal: &Journal,
    ) -> (Result<Option<Gathered>, CheckError>, bool) {
        if let Choice::Version(_) = &self.settings.choice {
            return (Ok(None), false);
        }
        match &self.settings.form {
            Form::Manifest(path) => {
                let offer = match offered.offer.take() {
                    Some(offer) => Ok(offer),
                    None => self.read_offer_anew(path).await,
                };
                match offer {
                    Ok(offer) => {
                        let offer = offered.offer.insert(offer);
                        self.gather_offered(which, &offer.stand_ins, &offer.manifest, journal)
                            .await
                    }
                    Err(error) => (Err(error), false),
                }
            }
            Form::Model(path) => match self.place.earlier(path).await {
                Ok(earlier) => {
                    let more = which + 1 < earlier.len();
                    let gathered = match earlier.into_iter().nth(which) {
                        Some(earlier) => self.gather_earlier(path, earlier, journal).await,
                        None => Ok(None),
                    };
                    (gathered, more)
                }
                Err(error) => (Err(error.into()), false),
            },
            Form::Repository => match self.models_in_repository().await {
                Ok(paths) => {
                    let lower: Vec<_> = paths.into_iter().skip(1).take(MOST_EARLIER).collect();
                    let more = which + 1 < lower.len();
                    let gathered = match lower.get(which) {
                        Some(path) => self.gather_model(path, journal).await.map(Some),
                        None => Ok(None),
                    };
                    (gathered, more)
                }
                Err(error) => (Err(error), false),
            },
        }
    }

    async fn read_offer_anew(&self, path: &FilePath) -> Result<Offer, CheckError> {
        let manifest = self.open_anew(path).await?;
        self.read_offer(path, manifest).await
    }

    /// One of a plain object's earlier versions.
    async fn gather_earlier(
        &self,
        path: &FilePath,
        earlier: Earlier,
        journal: &Journal,
    ) -> Result<Option<Gathered>, CheckError> {
        let known = journal.known(path, &earlier.identity).map(alone);
        let refused = |record: &Record| {
            journal
                .history()
                .why_refused(&record.digest(), None)
                .is_some()
        };
        if let Some(record) = known.filter(refused) {
            return Ok(Some(Gathered::refused(record, None)));
        }
        let uri = earlier.source.uri();
        let Some(taken) = self.take_earlier(path, earlier, journal).await? else {
            return Ok(None);
        };
        let transferred = taken.transferred;
        let description = describe(&taken.file).await?;
        has_no_others(&uri, description.as_ref())?;
        let (record, files) = Self::version_of(vec![taken])?;
        info!(model = %self.settings.name, version = %record.version(), "an earlier version is here: {uri}");
        let gathered = self.gathered(record, files, description, None, transferred)?;
        Ok(Some(gathered))
    }

    async fn take_earlier(
        &self,
        path: &FilePath,
        earlier: Earlier,
        journal: &Journal,
    ) -> Result<Option<Taken>, CheckError> {
        let Earlier { identity, source } = earlier;
        if let Some(record) = journal.known(path, &identity)
            && let Some(file) = self.find(&record.digest).await
        {
            return Ok(Some(Taken {
                record,
                file,
                transferred: None,
            }));
        }
        let Opened::Object(object) = fetch::open(&*source, &self.shared.cache, None).await? else {
            return Ok(None);
        };
        let parts = self.shared.parts;
        let fetched = self.fetch_from(&*source, path, object, None, parts).await?;
        Ok(Some(Taken::fetched(path, fetched)))
    }
}

fn alone(model: FileRecord) -> Record {
    Record {
        model,
        others: Vec::new(),
    }
}

/// Refuses one version of an object that refers to other files: those have versions of their own.
pub(super) fn has_no_others(
    uri: &str,
    description: Option<&Description>,
) -> Result<(), CheckError> {
    match external(description).next() {
        None => Ok(()),
        Some(file) => Err(CheckError::NotAlone {
            uri: uri.to_owned(),
            file: file.clone(),
        }),
    }
}
