//! What may stand in where the newest version cannot be had, or is refused.
//!
//! A bad release must not cost the environments that start after it, which have no last good version of their own. So
//! the publisher's earlier one is brought in: what the manifest names for it, the object's earlier versions where its
//! bucket keeps them, the lower numbers of a repository. Of several the newest that is not refused. Where the operator
//! has pinned one version nothing stands in: who pins wants that one or none.
//!
//! A plain object that was deleted has earlier versions too: it is the last of those that serves. A model with data
//! files beside it has no earlier version without a manifest, since nothing says which of each belonged together.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::info;

use super::CheckError;
use super::gather::{Gathered, Gatherer, Offered, Taken, describe, external};
use crate::cache::Journal;
use crate::clock::Timestamp;
use crate::config::Form;
use crate::fetch;
use crate::ids::{FilePath, Identity, VersionName};
use crate::manifest::Choice;
use crate::manifest::PublishedVersion;
use crate::onnx::Description;
use crate::source::{EarlierVersion, MAX_EARLIER_VERSIONS, Opened};

/// A version that may stand in.
pub(super) enum StandIn {
    /// One of a manifest's, by which manifest.
    Published(Box<(VersionName, PublishedVersion)>, Identity),
    /// An earlier version of the object at this path.
    Earlier(FilePath, EarlierVersion),
    /// The model at this path, in a folder with a lower number.
    Lower(FilePath),
}

/// How long a list is trusted while the source holds the same.
const LISTED_FOR: Duration = Duration::from_secs(600);

/// What may stand in for the content that the source holds, the best first.
pub(super) struct Listing {
    /// Identity of that content; `None` where the source could not say.
    of: Option<Identity>,
    at: Timestamp,
    versions: Vec<StandIn>,
}

/// The last listing, for the checks that follow: no list is asked for at each of them while nothing changes.
#[derive(Default)]
pub(super) struct Listed(Mutex<Option<Listing>>);

impl Listed {
    /// Keeps a listing for the next check.
    pub(super) fn keep(&self, listing: Option<Listing>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = listing;
    }

    /// Takes the listing of what may stand in for this content.
    fn take(&self, of: Option<&Identity>, now: Timestamp) -> Option<Listing> {
        let mut listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |listing: &Listing| {
            listing.of.as_ref() == of && listing.at <= now && now.since(listing.at) < LISTED_FOR
        };
        listed.take().filter(fits)
    }
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
        let listing = match offered.stand_ins.take() {
            Some(listing) => listing,
            None => match self.listing(offered).await {
                Ok(listing) => listing,
                Err(error) => return (Err(error), false),
            },
        };
        let list = &offered.stand_ins.insert(listing).versions;
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

    /// All of them, as they were listed before if nothing has changed. That they cannot be listed is remembered as well,
    /// unless it may pass by itself.
    async fn listing(&self, offered: &mut Offered) -> Result<Listing, CheckError> {
        let now = self.shared.clock.now();
        if !matches!(self.settings.form, Form::Repository)
            && let Some(listing) = self.listed.take(offered.present.as_ref(), now)
        {
            return Ok(listing);
        }
        let mut listing = Listing {
            of: offered.present.clone(),
            at: now,
            versions: Vec::new(),
        };
        match self.stand_ins(offered).await {
            Ok(versions) => listing.versions = versions,
            Err(error) => {
                if !error.is_transient() {
                    offered.stand_ins = Some(listing);
                }
                return Err(error);
            }
        }
        Ok(listing)
    }

    /// All of them, the best first.
    async fn stand_ins(&self, offered: &mut Offered) -> Result<Vec<StandIn>, CheckError> {
        if let Choice::Version(_) = &self.settings.choice {
            return Ok(Vec::new());
        }
        Ok(match &self.settings.form {
            Form::Manifest(path) => {
                let offer = match &mut offered.offer {
                    Some(offer) => offer,
                    unread => {
                        let manifest = self.open_from(&*self.source(path)?).await?;
                        let read = self.read_offer(path, manifest, &mut offered.labels);
                        unread.insert(read.await?)
                    }
                };
                let named = std::mem::take(&mut offer.stand_ins).into_iter();
                let stand_in = |named| StandIn::Published(Box::new(named), offer.manifest.clone());
                named.map(stand_in).collect()
            }
            Form::Model(path) => {
                let earlier = self.place.earlier_versions(path).await?.into_iter();
                let stand_in = |earlier| StandIn::Earlier(path.clone(), earlier);
                earlier.map(stand_in).collect()
            }
            Form::Repository => {
                let lower = match offered.lower.take() {
                    Some(lower) => lower,
                    None => self.models_in_repository().await?.split_off(1),
                };
                let lower = lower.into_iter().take(MAX_EARLIER_VERSIONS);
                lower.map(StandIn::Lower).collect()
            }
        })
    }

    /// One of a plain object's earlier versions.
    async fn gather_earlier(
        &self,
        path: &FilePath,
        earlier: &EarlierVersion,
        journal: &Journal,
    ) -> Result<Option<Gathered>, CheckError> {
        if let Some(record) = self.known_refused(path, &earlier.identity, journal) {
            return Ok(Some(Gathered::refused(record, None)));
        }
        if let Some(reason) = journal.file_rejection_reason(path, &earlier.identity, None) {
            return Err(CheckError::Rejected(reason));
        }
        let uri = earlier.source.uri();
        let Some(taken) = self.take_earlier(path, earlier, journal).await? else {
            return Ok(None);
        };
        let transferred = taken.transferred;
        let description = describe(taken.file.path()).await?;
        has_no_others(&uri, description.as_ref())?;
        let (record, files) = Self::version_of(vec![taken], self.published_name(path))?;
        info!(model = %self.settings.name, version = %record.version, digest = %record.digest(), "an earlier version is here: {uri}");
        let gathered = self.gathered(record, files, description, None, transferred)?;
        Ok(Some(gathered))
    }

    async fn take_earlier(
        &self,
        path: &FilePath,
        EarlierVersion { identity, source }: &EarlierVersion,
        journal: &Journal,
    ) -> Result<Option<Taken>, CheckError> {
        if let Some(record) = journal.find_file(path, identity)
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
        let fetched = self.fetch_from(&**source, path, object, None, parts);
        let fetched = Self::remember(path, None, false, journal, fetched.await)?;
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
