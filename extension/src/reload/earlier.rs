//! What may stand in where the newest version cannot be had, or is refused.
//!
//! A bad release must not cost the environments that start after it, which have no last good version of their own. So
//! the publisher's earlier one is brought in: what the manifest names for it, the object's earlier versions where its
//! bucket keeps them, the lower numbers of a repository. Of several the newest that is not refused. Where the operator
//! has pinned one version nothing stands in: who pins wants that one or none.
//!
//! A plain object that was deleted has earlier versions too: it is the last of those that serves. A model with data
//! files beside it has no earlier version without a manifest, since nothing says which of each belonged together.

use tracing::info;

use super::CheckError;
use super::gather::{Gathered, Gatherer, Offered, Taken, describe, external, known_refused};
use super::published::Offer;
use crate::cache::Journal;
use crate::config::{Choice, Form};
use crate::fetch;
use crate::ids::{FilePath, Identity};
use crate::manifest::{PublishedVersion, VersionName};
use crate::onnx::Description;
use crate::source::{Earlier, MOST_EARLIER, Opened};

/// A version that may stand in.
pub(super) enum StandIn {
    /// One of a manifest's, by which manifest.
    Published(Box<(VersionName, PublishedVersion)>, Identity),
    /// An earlier version of the object at this path.
    Earlier(FilePath, Earlier),
    /// The model at this path, in a folder with a lower number.
    Lower(FilePath),
}

impl Gatherer<'_> {
    /// Brings in one of those that may stand in for the newest version, the best first; `None` where there is no such.
    /// And whether there is another one after it. Which there are is asked once in a check.
    pub(super) async fn gather_stand_in(
        &self,
        which: usize,
        offered: &mut Offered,
        journal: &Journal,
    ) -> (Result<Option<Gathered>, CheckError>, bool) {
        let list = match offered.stand_ins.take() {
            Some(list) => list,
            None => match self.stand_ins(&mut offered.offer).await {
                Ok(list) => list,
                Err(error) => return (Err(error), false),
            },
        };
        let list = offered.stand_ins.insert(list);
        let more = which + 1 < list.len();
        let gathered = match list.get(which) {
            None => Ok(None),
            Some(StandIn::Published(named, manifest)) => {
                let gathered = self.gather_named(named, manifest, journal).await;
                gathered.map(Some)
            }
            Some(StandIn::Earlier(path, earlier)) => {
                self.gather_earlier(path, earlier, journal).await
            }
            Some(StandIn::Lower(path)) => self.gather_model(path, journal).await.map(Some),
        };
        (gathered, more)
    }

    /// All of them, the best first.
    async fn stand_ins(&self, offer: &mut Option<Offer>) -> Result<Vec<StandIn>, CheckError> {
        if let Choice::Version(_) = &self.settings.choice {
            return Ok(Vec::new());
        }
        Ok(match &self.settings.form {
            Form::Manifest(path) => {
                let offer = match offer {
                    Some(offer) => offer,
                    unread => {
                        let manifest = self.open_anew(path).await?;
                        unread.insert(self.read_offer(path, manifest).await?)
                    }
                };
                let named = std::mem::take(&mut offer.stand_ins).into_iter();
                let stand_in = |named| StandIn::Published(Box::new(named), offer.manifest.clone());
                named.map(stand_in).collect()
            }
            Form::Model(path) => {
                let earlier = self.place.earlier(path).await?.into_iter();
                let stand_in = |earlier| StandIn::Earlier(path.clone(), earlier);
                earlier.map(stand_in).collect()
            }
            Form::Repository => {
                let paths = self.models_in_repository().await?.into_iter();
                let lower = paths.skip(1).take(MOST_EARLIER);
                lower.map(StandIn::Lower).collect()
            }
        })
    }

    /// One of a plain object's earlier versions.
    async fn gather_earlier(
        &self,
        path: &FilePath,
        earlier: &Earlier,
        journal: &Journal,
    ) -> Result<Option<Gathered>, CheckError> {
        if let Some(record) = known_refused(path, &earlier.identity, journal) {
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
        Earlier { identity, source }: &Earlier,
        journal: &Journal,
    ) -> Result<Option<Taken>, CheckError> {
        if let Some(record) = journal.known(path, identity)
            && let Some(file) = self.find(&record.digest).await
        {
            return Ok(Some(Taken {
                record,
                file,
                transferred: None,
            }));
        }
        let Opened::Object(object) = fetch::open(&**source, &self.shared.cache, None).await? else {
            return Ok(None);
        };
        let parts = self.shared.parts;
        let fetched = self
            .fetch_from(&**source, path, object, None, parts)
            .await?;
        Ok(Some(Taken::fetched(path, fetched)))
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
