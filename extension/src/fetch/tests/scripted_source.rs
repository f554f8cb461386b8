//! A source that follows a script, with the clock and the thaws of its environment.

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

/// Event of one response, after this number of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) enum ScriptedEvent {
    /// The request fails.
    Fails,
    /// The connection breaks.
    Breaks(u64),
    /// The body ends early, without an error.
    Ends(u64),
    /// No more bytes arrive.
    Stalls(u64),
    /// The process is frozen for an hour, and no more bytes arrive.
    Freezes(u64),
    /// The process is frozen for a moment, and the connection survives.
    Blinks(u64),
    /// The source has another version from now on; this response continues with the old one.
    Overwritten(u64),
    /// The process is killed.
    Killed(u64),
}

impl ScriptedEvent {
    fn after(self) -> Option<u64> {
        match self {
            ScriptedEvent::Fails => None,
            ScriptedEvent::Breaks(bytes)
            | ScriptedEvent::Ends(bytes)
            | ScriptedEvent::Stalls(bytes)
            | ScriptedEvent::Freezes(bytes)
            | ScriptedEvent::Blinks(bytes)
            | ScriptedEvent::Overwritten(bytes)
            | ScriptedEvent::Killed(bytes) => Some(bytes),
        }
    }
}

/// State of the source and its environment.
pub(super) struct ScriptState {
    /// The ETag, and the bytes as they are transferred.
    pub(super) object: Mutex<(&'static str, Vec<u8>)>,
    /// Converts a file into the transferred bytes.
    encode: fn(&[u8]) -> Vec<u8>,
    /// Every file that the source has had, by ETag.
    pub(super) files: Mutex<HashMap<String, Vec<u8>>>,
    pub(super) checksum: Mutex<Option<Checksum>>,
    pub(super) script: Mutex<VecDeque<ScriptedEvent>>,
    /// Requests, with the known ETag of `open`.
    requests: Mutex<Vec<SourceRequest>>,
    delivered: AtomicU64,
    wall: AtomicU64,
    pub(super) thaws: Thaws,
    pub(super) kill: Notify,
    pub(super) chunk: usize,
    /// `true` if all bytes have arrived before they are read.
    is_buffered: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SourceRequest {
    Open(Option<String>),
    Read(Range<u64>),
}

#[derive(Clone)]
pub(super) struct ScriptedSource(pub(super) Arc<ScriptState>);

struct ScriptedBody {
    state: Arc<ScriptState>,
    bytes: Vec<u8>,
    at: usize,
    event: Option<ScriptedEvent>,
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

impl Clock for ScriptState {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall.load(Ordering::Relaxed))
    }
}

impl ScriptState {
    /// Replaces the object by another version, with another length and no byte in common.
    fn overwrite(&self) {
        const TAGS: [&str; 5] = ["1", "2", "3", "4", "5"];
        let mut object = lock(&self.object);
        let next = 1 + TAGS.iter().position(|tag| *tag == object.0).unwrap();
        let Some(tag) = TAGS.get(next) else {
            return;
        };
        let mut files = lock(&self.files);
        let bytes = files[object.0].iter().map(|byte| byte.wrapping_add(60));
        let bytes: Vec<u8> = bytes.chain([0]).collect();
        *object = (tag, (self.encode)(&bytes));
        files.insert((*tag).to_owned(), bytes);
    }
}

impl ScriptedSource {
    pub(super) fn new(bytes: &[u8], script: impl IntoIterator<Item = ScriptedEvent>) -> Self {
        Self::with_encoding(<[u8]>::to_vec, bytes, script)
    }

    /// Source that has its files in an encoded form.
    pub(super) fn with_encoding(
        encode: fn(&[u8]) -> Vec<u8>,
        bytes: &[u8],
        script: impl IntoIterator<Item = ScriptedEvent>,
    ) -> Self {
        Self(Arc::new(ScriptState {
            object: Mutex::new(("1", encode(bytes))),
            encode,
            files: Mutex::new([("1".to_owned(), bytes.to_vec())].into()),
            checksum: Mutex::default(),
            script: Mutex::new(script.into_iter().collect()),
            requests: Mutex::default(),
            delivered: AtomicU64::default(),
            wall: AtomicU64::new(1_000_000),
            thaws: Thaws::default(),
            kill: Notify::new(),
            chunk: 2,
            is_buffered: false,
        }))
    }

    /// Delivers bytes without a wait from now on.
    pub(super) fn buffered(mut self) -> Self {
        Arc::get_mut(&mut self.0).unwrap().is_buffered = true;
        self
    }

    pub(super) fn set_object(&self, etag: &'static str, bytes: &[u8]) {
        *lock(&self.0.object) = (etag, bytes.to_vec());
    }

    pub(super) fn take_requests(&self) -> Vec<SourceRequest> {
        std::mem::take(&mut *lock(&self.0.requests))
    }

    pub(super) fn delivered(&self) -> u64 {
        self.0.delivered.load(Ordering::Relaxed)
    }

    pub(super) fn body(&self, bytes: &[u8]) -> Result<Box<dyn ChunkStream>, SourceError> {
        let event = lock(&self.0.script).pop_front();
        if let Some(ScriptedEvent::Fails) = event {
            return Err(SourceError::transient("status 503".to_owned()));
        }
        Ok(Box::new(ScriptedBody {
            state: Arc::clone(&self.0),
            bytes: bytes.to_vec(),
            at: 0,
            event,
        }))
    }
}

impl Source for ScriptedSource {
    fn uri(&self) -> String {
        "s3://b/m.onnx".to_owned()
    }

    fn open<'a>(
        &'a self,
        known: Option<&'a Identity>,
    ) -> BoxFuture<'a, Result<Opened, SourceError>> {
        let tag = known.map(|known| known.etag.0.clone());
        lock(&self.0.requests).push(SourceRequest::Open(tag));
        let (etag, bytes) = lock(&self.0.object).clone();
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
        lock(&self.0.requests).push(SourceRequest::Read(range.clone()));
        let (etag, bytes) = lock(&self.0.object).clone();
        Box::pin(async move {
            if *wanted != identity(etag) {
                return Err(SourceError::changed("another version".to_owned()));
            }
            let range = range.start.try_into().unwrap()..range.end.try_into().unwrap();
            self.body(&bytes[range])
        })
    }
}

impl ChunkStream for ScriptedBody {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        Box::pin(async move {
            if !self.state.is_buffered {
                // Other tasks run, as they do while a network delivers.
                tokio::task::yield_now().await;
            }
            let due = self.event.and_then(ScriptedEvent::after);
            let due = due.map(|bytes| usize::try_from(bytes).unwrap());
            if due == Some(self.at) {
                match self.event.take() {
                    Some(ScriptedEvent::Breaks(_)) => {
                        return Some(Err(SourceError::transient("reset".to_owned())));
                    }
                    Some(ScriptedEvent::Ends(_)) => return None,
                    Some(ScriptedEvent::Freezes(_)) => {
                        self.state.wall.fetch_add(3_600_000, Ordering::Relaxed);
                        self.state.thaws.note(self.state.now());
                        std::future::pending::<()>().await;
                    }
                    Some(ScriptedEvent::Blinks(_)) => self.state.thaws.note(self.state.now()),
                    Some(ScriptedEvent::Overwritten(_)) => self.state.overwrite(),
                    Some(ScriptedEvent::Killed(_)) => {
                        self.state.kill.notify_one();
                        std::future::pending::<()>().await;
                    }
                    _ => std::future::pending().await,
                }
            }
            let stop = due.filter(|due| *due > self.at).unwrap_or(usize::MAX);
            let end = (self.at + self.state.chunk).min(self.bytes.len()).min(stop);
            let chunk = Bytes::copy_from_slice(&self.bytes[self.at..end]);
            self.at = end;
            let length = chunk.len() as u64;
            self.state.delivered.fetch_add(length, Ordering::Relaxed);
            (length > 0).then_some(Ok(chunk))
        })
    }
}
