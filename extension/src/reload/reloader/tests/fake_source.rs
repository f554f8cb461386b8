//! A source whose content a test changes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;

use crate::ids::{ETag, FilePath, Identity};
use crate::source::{
    ChunkStream, EarlierVersion, ModelFolder, NamedBy, Object, Opened, Source, SourceError,
};

/// Content of a file: bytes under an ETag, or an error.
pub(super) type Held = Result<(&'static str, &'static [u8]), &'static str>;

/// Action that a request for a file triggers.
type Trap = Box<dyn FnOnce(&FakeSource) + Send>;

/// Folder in memory that counts its transfers.
#[derive(Default)]
pub(super) struct FakeSource {
    held: Mutex<BTreeMap<String, Held>>,
    /// Versions with their ids, file by file, the newest last.
    versions: Mutex<Vec<(String, &'static str, Held)>>,
    asked_for_versions: Mutex<Vec<String>>,
    /// Number of requests for a list of earlier versions.
    pub(super) lists: AtomicUsize,
    /// Transfers that break after half of the bytes, before one succeeds.
    pub(super) breaks: AtomicUsize,
    /// File of each transfer.
    transfers: Mutex<Vec<String>>,
    trap: Mutex<Option<(String, Trap)>>,
    /// Set while the source does not respond, as if packets were dropped; and the number of requests then.
    pub(super) is_silent: AtomicBool,
    pub(super) unanswered: AtomicUsize,
    /// Time after which the last of these requests was cancelled, by Tokio's clock.
    pub(super) given_up_after: Mutex<Option<Duration>>,
}

/// Request without a response, until it is cancelled.
struct Unanswered<'a> {
    source: &'a FakeSource,
    since: tokio::time::Instant,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        *self.source.given_up_after.lock().unwrap() = Some(self.since.elapsed());
    }
}

struct FakeFile {
    source: Arc<FakeSource>,
    path: String,
    version: Option<String>,
}

struct Half {
    chunks: Vec<Result<Bytes, SourceError>>,
}

impl ChunkStream for Half {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        let next = if self.chunks.is_empty() {
            None
        } else {
            Some(self.chunks.remove(0))
        };
        Box::pin(async move { next })
    }
}

impl ModelFolder for Arc<FakeSource> {
    fn file(&self, path: &FilePath, _: NamedBy) -> Box<dyn Source> {
        Box::new(FakeFile {
            source: Arc::clone(self),
            path: path.to_string(),
            version: None,
        })
    }

    fn folders<'a>(
        &'a self,
        folder: Option<&'a FilePath>,
    ) -> BoxFuture<'a, Result<Vec<String>, SourceError>> {
        let prefix = folder
            .map(|folder| format!("{folder}/"))
            .unwrap_or_default();
        let held = lock(&self.held);
        let below = held.keys().filter_map(|path| path.strip_prefix(&prefix));
        let mut folders: Vec<String> = below
            .filter_map(|path| Some(path.split_once('/')?.0.to_owned()))
            .collect();
        folders.dedup();
        Box::pin(async { Ok(folders) })
    }

    fn version(&self, path: &FilePath, id: &str) -> Result<Box<dyn Source>, SourceError> {
        Ok(Box::new(FakeFile {
            source: Arc::clone(self),
            path: path.to_string(),
            version: Some(id.to_owned()),
        }))
    }

    fn earlier_versions<'a>(
        &'a self,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<Vec<EarlierVersion>, SourceError>> {
        self.lists.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let present = lock(&self.held).get(path.as_str()).copied();
            let versions = lock(&self.versions).clone();
            let of_path = versions
                .into_iter()
                .rev()
                .filter(|(of, ..)| of == path.as_str());
            let before = of_path.skip_while(|(_, _, held)| present.is_some_and(|now| now == *held));
            let earlier = before.map(|(_, id, held)| {
                let (etag, _) = held.map_err(|why| SourceError::permanent(why.to_owned()))?;
                Ok(EarlierVersion {
                    identity: identity(etag, Some(id)),
                    source: self.version(path, id)?,
                })
            });
            earlier.collect()
        })
    }
}

fn identity(etag: &str, version_id: Option<&str>) -> Identity {
    Identity {
        etag: ETag(etag.to_owned()),
        version_id: version_id.map(str::to_owned),
    }
}

impl Source for FakeFile {
    fn uri(&self) -> String {
        match &self.version {
            Some(id) => format!("s3://b/{}?versionId={id}", self.path),
            None => format!("s3://b/{}", self.path),
        }
    }

    fn open<'a>(
        &'a self,
        known: Option<&'a Identity>,
    ) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(async move {
            if self.source.is_silent.load(Ordering::Relaxed) {
                self.source.unanswered.fetch_add(1, Ordering::Relaxed);
                let _unanswered = Unanswered {
                    source: &self.source,
                    since: tokio::time::Instant::now(),
                };
                std::future::pending::<()>().await;
            }
            let (etag, bytes) = self.held()?;
            if known.is_some_and(|known| known.etag.0 == etag) {
                return Ok(Opened::Unchanged);
            }
            Ok(Opened::Object(Object {
                identity: identity(etag, self.source.id_of(&self.path, etag)),
                size: bytes.len() as u64,
                checksum: None,
                range: 0..bytes.len() as u64,
                body: self.source.answer(&self.path, bytes),
            }))
        })
    }

    fn read<'a>(
        &'a self,
        identity: &'a Identity,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Box<dyn ChunkStream>, SourceError>> {
        Box::pin(async move {
            let (etag, bytes) = self.held()?;
            if identity.etag.0 != etag {
                return Err(SourceError::changed("another by now".to_owned()));
            }
            let range = range.start.try_into().unwrap()..range.end.try_into().unwrap();
            Ok(self.source.answer(&self.path, &bytes[range]))
        })
    }
}

impl FakeFile {
    fn held(&self) -> Result<(&'static str, &'static [u8]), SourceError> {
        let Some(wanted) = &self.version else {
            return self.source.held(&self.path);
        };
        lock(&self.source.asked_for_versions).push(wanted.clone());
        let versions = lock(&self.source.versions);
        let mut versions = versions.iter();
        let found = versions.find(|(of, id, _)| *of == self.path && id == wanted);
        let held = found.map_or(Err("there is no such version"), |(_, _, held)| *held);
        held.map_err(|reason| SourceError::permanent(format!("{}: {reason}", self.uri())))
    }
}

impl FakeSource {
    /// Holds new content as [`Self::holds`] does, and keeps the former content under its id.
    pub(super) fn keeps(&self, path: &str, id: &'static str, held: Held) {
        lock(&self.versions).push((path.to_owned(), id, held));
        self.holds(path, held);
    }

    /// Takes the ids of the versions that were requested.
    pub(super) fn asked_for_versions(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.asked_for_versions))
    }

    fn id_of(&self, path: &str, etag: &str) -> Option<&'static str> {
        let versions = lock(&self.versions);
        let mut versions = versions.iter().rev();
        let is_it = |held: &Held| held.is_ok_and(|(its, _)| its == etag);
        versions.find_map(|(of, id, held)| (of == path && is_it(held)).then_some(*id))
    }

    pub(super) fn holds(&self, path: &str, held: Held) {
        lock(&self.held).insert(path.to_owned(), held);
    }

    /// Calls `trap` after the next request for `path`.
    pub(super) fn trap(&self, path: &str, trap: impl FnOnce(&Self) + Send + 'static) {
        *lock(&self.trap) = Some((path.to_owned(), Box::new(trap)));
    }

    /// Takes the file of each transfer.
    pub(super) fn transfers(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.transfers))
    }

    fn held(&self, path: &str) -> Result<(&'static str, &'static [u8]), SourceError> {
        let held = lock(&self.held).get(path).copied();
        let held = held.unwrap_or(Err("there is no such object"));
        held.map_err(|reason| SourceError::permanent(format!("s3://b/{path}: {reason}")))
    }

    fn answer(&self, path: &str, bytes: &'static [u8]) -> Box<dyn ChunkStream> {
        lock(&self.transfers).push(path.to_owned());
        let trap = lock(&self.trap).take_if(|(of, _)| of == path);
        if let Some((_, trap)) = trap {
            trap(self);
        }
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let breaks = self
            .breaks
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            .is_ok();
        let second = if breaks {
            Err(SourceError::transient("connection reset".to_owned()))
        } else {
            Ok(Bytes::from_static(second))
        };
        Box::new(Half {
            chunks: vec![Ok(Bytes::from_static(first)), second],
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}
