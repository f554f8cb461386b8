//! The disk side of a fetch: a thread that appends chunks to the partial file and computes the checksums.
//!
//! It first reads back what is here already, beside the network, which meanwhile fills the queue.

use std::io;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::FetchError;
use super::verify::Sums;
use crate::cache::{Cache, Partial, Wanted, is_full};
use crate::ids::Digest;

/// Chunks between the network and the disk. hyper's are at most about 400 KB, so a few megabytes.
const QUEUE: usize = 8;

/// How far a file has come once no more chunks follow.
pub(super) enum Ended {
    /// All of it is here, with the checksum that was declared.
    Whole(Partial, Digest),
    /// Bytes are missing.
    Unfinished(Partial),
}

/// The thread.
pub(super) struct Writer {
    have: oneshot::Receiver<u64>,
    ended: oneshot::Receiver<Result<Ended, FetchError>>,
}

impl Writer {
    /// Starts it; chunks sent follow what is here already. Once the sender is dropped it comes to its end.
    pub(super) fn start(cache: &Cache, wanted: Wanted) -> io::Result<(Self, mpsc::Sender<Bytes>)> {
        let cache = cache.clone();
        let (chunks, queue) = mpsc::channel(QUEUE);
        let (begun, have) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let work = move || {
            let result = write(&cache, wanted, begun, queue, || end.is_closed());
            let _ = end.send(result);
        };
        let builder = std::thread::Builder::new().name("write-model".to_owned());
        builder.spawn(work)?;
        Ok((Self { have, ended }, chunks))
    }

    /// How many bytes are here; `None` when it could not begin.
    pub(super) async fn have(&mut self) -> Option<u64> {
        (&mut self.have).await.ok()
    }

    /// Waits until all that was sent is written.
    pub(super) async fn end(self) -> Result<Ended, FetchError> {
        let stopped = |_| io::Error::other("the thread that writes ended without a result");
        self.ended.await.map_err(stopped)?
    }
}

fn write(
    cache: &Cache,
    wanted: Wanted,
    begun: oneshot::Sender<u64>,
    mut queue: mpsc::Receiver<Bytes>,
    is_given_up: impl Fn() -> bool,
) -> Result<Ended, FetchError> {
    let size = wanted.size;
    let mut partial = match cache.partial(wanted) {
        Ok(partial) => partial,
        Err(error) if error.is_full() => return Err(no_room(cache, size)),
        Err(error) => return Err(error.into()),
    };
    let missing = size - partial.have();
    if cache.free_bytes().is_some_and(|free| free < missing) {
        partial.discard();
        return Err(no_room(cache, size));
    }
    let _ = begun.send(partial.have());
    let mut sums = Sums::new(partial.wanted().checksum.clone());
    let read_back = partial.read_back(|bytes| {
        sums.update(bytes);
        !is_given_up()
    })?;
    while let Some(chunk) = queue.blocking_recv() {
        if let Err(error) = partial.append(&chunk) {
            if is_full(&error) {
                partial.discard();
                return Err(no_room(cache, size));
            }
            return Err(error.into());
        }
        sums.update(&chunk);
    }
    if partial.have() < size || !read_back {
        return Ok(Ended::Unfinished(partial));
    }
    match sums.finish() {
        Ok(digest) => Ok(Ended::Whole(partial, digest)),
        Err(algorithm) => {
            partial.discard();
            Err(FetchError::Checksum { algorithm })
        }
    }
}

fn no_room(cache: &Cache, needs: u64) -> FetchError {
    let free = cache.free_bytes().unwrap_or_default();
    FetchError::NoRoom { needs, free }
}
