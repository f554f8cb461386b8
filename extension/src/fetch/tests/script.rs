//! A source that follows a script, and the world around it.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use tokio::sync::Notify;

use crate::clock::{Clock, Thaws, Timestamp};
use crate::ids::{Checksum, ETag, Identity};
use crate::source::{ChunkStream, Object, Opened, Source, SourceError};

/// What becomes of one answer, once it has brought so many bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// There is no answer at all.
    Refused,
    /// The connection breaks.
    Breaks(u64),
    /// It ends in good order, early.
    Ends(u64),
    /// Nothing more comes.
    Stalls(u64),
    /// The process is frozen for an hour, and nothing more comes.
    Freezes(u64),
    /// The process is frozen for a moment, and the connection lives.
    Blinks(u64),
    /// The source holds another version from now on; this answer goes on with the old one.
    Overwritten(u64),
    /// The process is killed.
    Killed(u64),
}

impl Act {
    fn after(self) -> Option<u64> {
        match self {
            Act::Refused => None,
            Act::Breaks(bytes)
            | Act::Ends(bytes)
            | Act::Stalls(bytes)
            | Act::Freezes(bytes)
            | Act::Blinks(bytes)
            | Act::Overwritten(bytes)
            | Act::Killed(bytes) => Some(bytes),
        }
    }
}

/// A source, and the world around it.
pub(super) struct World {
    /// The ETag, and the bytes as they come over the network.
    pub(super) held: Mutex<(&'static str, Vec<u8>)>,
    /// How a file is turned into those bytes.
    pack: fn(&[u8]) -> Vec<u8>,
    /// Every file that it ever held, by its ETag.
    pub(super) was: Mutex<HashMap<String, Vec<u8>>>,
    pub(super) checksum: Mutex<Option<Checksum>>,
    pub(super) script: Mutex<VecDeque<Act>>,
    /// What `read` was asked for, and `open`, with the identity that it should differ from.
    asked: Mutex<Vec<Asked>>,
    delivered: AtomicU64,
    wall: AtomicU64,
    pub(super) thaws: Thaws,
    pub(super) kill: Notify,
    pub(super) chunk: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Open(Option<String>),
    Read(Range<u64>),
}

#[derive(Clone)]
pub(super) struct Scripted(pub(super) Arc<World>);

struct Body {
    world: Arc<World>,
    bytes: Vec<u8>,
    at: usize,
    act: Option<Act>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

pub(super) fn identity(etag: &str) -> Identity {
    Identity {
        etag: ETag(etag.to_owned()),
        version_id: None,
    }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall.load(Ordering::Relaxed))
    }
}

impl World {
    /// Holds another version, of another length, with no byte in common with the last.
    fn overwrite(&self) {
        const TAGS: [&str; 5] = ["1", "2", "3", "4", "5"];
        let mut held = lock(&self.held);
        let next = 1 + TAGS.iter().position(|tag| *tag == held.0).unwrap();
        let Some(tag) = TAGS.get(next) else {
            return;
        };
        let mut was = lock(&self.was);
        let bytes = was[held.0].iter().map(|byte| byte.wrapping_add(60));
        let bytes: Vec<u8> = bytes.chain([0]).collect();
        *held = (tag, (self.pack)(&bytes));
        was.insert((*tag).to_owned(), bytes);
    }
}

impl Scripted {
    pub(super) fn holding(bytes: &[u8], script: impl IntoIterator<Item = Act>) -> Self {
        Self::packing(<[u8]>::to_vec, bytes, script)
    }

    /// One that holds files in another form.
    pub(super) fn packing(
        pack: fn(&[u8]) -> Vec<u8>,
        bytes: &[u8],
        script: impl IntoIterator<Item = Act>,
    ) -> Self {
        Self(Arc::new(World {
            held: Mutex::new(("1", pack(bytes))),
            pack,
            was: Mutex::new([("1".to_owned(), bytes.to_vec())].into()),
            checksum: Mutex::default(),
            script: Mutex::new(script.into_iter().collect()),
            asked: Mutex::default(),
            delivered: AtomicU64::default(),
            wall: AtomicU64::new(1_000_000),
            thaws: Thaws::default(),
            kill: Notify::new(),
            chunk: 2,
        }))
    }

    pub(super) fn holds(&self, etag: &'static str, bytes: &[u8]) {
        *lock(&self.0.held) = (etag, bytes.to_vec());
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *lock(&self.0.asked))
    }

    pub(super) fn delivered(&self) -> u64 {
        self.0.delivered.load(Ordering::Relaxed)
    }

    pub(super) fn body(&self, bytes: &[u8]) -> Result<Box<dyn ChunkStream>, SourceError> {
        let act = lock(&self.0.script).pop_front();
        if let Some(Act::Refused) = act {
            return Err(SourceError::transient("status 503".to_owned()));
        }
        Ok(Box::new(Body {
            world: Arc::clone(&self.0),
            bytes: bytes.to_vec(),
            at: 0,
            act,
        }))
    }
}

impl Source for Scripted {
    fn uri(&self) -> String {
        "s3://b/m.onnx".to_owned()
    }

    fn open<'a>(
        &'a self,
        known: Option<&'a Identity>,
    ) -> BoxFuture<'a, Result<Opened, SourceError>> {
        let tag = known.map(|known| known.etag.0.clone());
        lock(&self.0.asked).push(Asked::Open(tag));
        let (etag, bytes) = lock(&self.0.held).clone();
        Box::pin(async move {
            if known == Some(&identity(etag)) {
                return Ok(Opened::Unchanged);
            }
            Ok(Opened::Object(Object {
                identity: identity(etag),
                size: bytes.len() as u64,
                checksum: lock(&self.0.checksum).clone(),
                range: 0..bytes.len() as u64,
                body: self.body(&bytes)?,
            }))
        })
    }

    fn read<'a>(
        &'a self,
        wanted: &'a Identity,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Box<dyn ChunkStream>, SourceError>> {
        lock(&self.0.asked).push(Asked::Read(range.clone()));
        let (etag, bytes) = lock(&self.0.held).clone();
        Box::pin(async move {
            if *wanted != identity(etag) {
                return Err(SourceError::changed("another by now".to_owned()));
            }
            let range = range.start.try_into().unwrap()..range.end.try_into().unwrap();
            self.body(&bytes[range])
        })
    }
}

impl ChunkStream for Body {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        Box::pin(async move {
            // Others have their turn, as on a network.
            tokio::task::yield_now().await;
            let due = self.act.and_then(Act::after);
            let due = due.map(|bytes| usize::try_from(bytes).unwrap());
            if due == Some(self.at) {
                match self.act.take() {
                    Some(Act::Breaks(_)) => {
                        return Some(Err(SourceError::transient("reset".to_owned())));
                    }
                    Some(Act::Ends(_)) => return None,
                    Some(Act::Freezes(_)) => {
                        self.world.wall.fetch_add(3_600_000, Ordering::Relaxed);
                        self.world.thaws.note(self.world.now());
                        std::future::pending::<()>().await;
                    }
                    Some(Act::Blinks(_)) => self.world.thaws.note(self.world.now()),
                    Some(Act::Overwritten(_)) => self.world.overwrite(),
                    Some(Act::Killed(_)) => {
                        self.world.kill.notify_one();
                        std::future::pending::<()>().await;
                    }
                    _ => std::future::pending().await,
                }
            }
            let stop = due.filter(|due| *due > self.at).unwrap_or(usize::MAX);
            let end = (self.at + self.world.chunk).min(self.bytes.len()).min(stop);
            let chunk = Bytes::copy_from_slice(&self.bytes[self.at..end]);
            self.at = end;
            let length = chunk.len() as u64;
            self.world.delivered.fetch_add(length, Ordering::Relaxed);
            (length > 0).then_some(Ok(chunk))
        })
    }
}
