//! From a source to a file in the cache: whole and verified, or not at all.
//!
//! The network side hands chunks over a short queue to a thread that writes and hashes them, so that neither
//! waits for the other and memory stays at a few chunks, whatever the model's size. Bytes are held against the
//! declared length; the source holds them against its own checksum; the SHA-256 that falls out names the file.

use std::io::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use crate::cache::{Cache, CacheError, KeptFile};
use crate::ids::{Digest, Identity};
use crate::source::{Chunks, Object, SourceError};

/// Chunks between the network and the disk. hyper's are at most about 400 KB, so a few megabytes.
const QUEUE: usize = 8;
/// A transfer without a byte for so long is given up; the link and S3 need milliseconds.
const STALL: Duration = Duration::from_secs(10);

/// A model file that is here, whole.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The source's identity of it.
    pub identity: Identity,
    /// The SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The file.
    pub file: KeptFile,
    /// How long the transfer took, from the first byte asked for to the file's name.
    pub elapsed: Duration,
}

/// Why a file did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source sent less, or more, than it said.
    #[error("the source declared {declared} bytes and sent {}{received}", if received > declared { "at least " } else { "" })]
    Length {
        /// What it said.
        declared: u64,
        /// What came.
        received: u64,
    },
    /// No byte came for too long.
    #[error("no byte arrived for {} s, after {received} of {declared}", STALL.as_secs())]
    Stalled {
        /// The whole length.
        declared: u64,
        /// What came.
        received: u64,
    },
    /// The file could not be written.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The file could not be written.
    #[error("cannot write the model to the cache: {0}")]
    Write(#[from] std::io::Error),
}

impl FetchError {
    /// Whether another attempt may succeed at once.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            FetchError::Source(error) => error.is_transient(),
            FetchError::Length { .. } | FetchError::Stalled { .. } => true,
            FetchError::Cache(_) | FetchError::Write(_) => false,
        }
    }
}

/// Reads `object` to its end into `cache`.
pub async fn fetch(object: Object, cache: &Cache) -> Result<Fetched, FetchError> {
    let started = Instant::now();
    let Object {
        identity,
        size,
        mut body,
    } = object;
    let file = cache.begin()?;
    let (chunks, queue) = mpsc::channel(QUEUE);
    let writer = tokio::task::spawn_blocking(move || write(file, queue));
    let received = transfer(size, &mut *body, chunks).await;
    // A writer that failed has closed its end: its own error is the one that tells why.
    let (file, digest) = writer.await.map_err(std::io::Error::other)??;
    match received? {
        received if received == size => {
            let file = cache.keep(file, &digest)?;
            Ok(Fetched {
                identity,
                digest,
                size,
                file,
                elapsed: started.elapsed(),
            })
        }
        received => Err(FetchError::Length {
            declared: size,
            received,
        }),
    }
}

async fn transfer(
    size: u64,
    body: &mut dyn Chunks,
    chunks: mpsc::Sender<Bytes>,
) -> Result<u64, FetchError> {
    let mut received = 0;
    loop {
        let next = tokio::time::timeout(STALL, body.next()).await;
        let Some(chunk) = next.map_err(|_| FetchError::Stalled {
            declared: size,
            received,
        })?
        else {
            return Ok(received);
        };
        let chunk = chunk?;
        received += chunk.len() as u64;
        if received > size || chunks.send(chunk).await.is_err() {
            return Ok(received);
        }
    }
}

fn write(
    mut file: NamedTempFile,
    mut queue: mpsc::Receiver<Bytes>,
) -> std::io::Result<(NamedTempFile, Digest)> {
    let mut hash = Sha256::new();
    while let Some(chunk) = queue.blocking_recv() {
        file.write_all(&chunk)?;
        hash.update(&chunk);
    }
    Ok((file, Digest::of(hash)))
}

#[cfg(test)]
mod tests {
    use futures_core::future::BoxFuture;

    use super::*;
    use crate::ids::ETag;

    struct Pieces(Vec<Result<Bytes, SourceError>>);

    impl Chunks for Pieces {
        fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
            let next = if self.0.is_empty() {
                None
            } else {
                Some(self.0.remove(0))
            };
            Box::pin(async move { next })
        }
    }

    fn object(size: u64, pieces: Vec<Result<Bytes, SourceError>>) -> Object {
        let identity = Identity {
            etag: ETag("\"e\"".to_owned()),
            version_id: None,
        };
        Object {
            identity,
            size,
            body: Box::new(Pieces(pieces)),
        }
    }

    async fn try_fetch(object: Object) -> (Result<Fetched, FetchError>, usize) {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let result = fetch(object, &cache).await;
        let files = std::fs::read_dir(directory.path().join("files"))
            .unwrap()
            .count();
        (result, files)
    }

    #[tokio::test]
    async fn a_whole_file_is_named_by_its_digest() {
        let pieces = vec![Ok(Bytes::from_static(b"ab")), Ok(Bytes::from_static(b"c"))];
        let (fetched, files) = try_fetch(object(3, pieces)).await;
        let digest = fetched.unwrap().digest;
        assert_eq!(
            digest.as_str(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(files, 1);
    }

    #[tokio::test]
    async fn too_little_too_much_or_a_broken_transfer_leaves_no_file() {
        let cases = [
            (
                4,
                vec![Ok(Bytes::from_static(b"abc"))],
                "declared 4 bytes and sent 3",
            ),
            (
                2,
                vec![Ok(Bytes::from_static(b"abc"))],
                "declared 2 bytes and sent at least 3",
            ),
            (
                4,
                vec![
                    Ok(Bytes::from_static(b"ab")),
                    Err(SourceError::transient("reset".to_owned())),
                ],
                "reset",
            ),
        ];
        for (size, pieces, message) in cases {
            let (result, files) = try_fetch(object(size, pieces)).await;
            let error = result.unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.is_transient());
            assert_eq!(files, 0);
        }
    }
}
