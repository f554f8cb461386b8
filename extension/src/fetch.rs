//! From a source to a file in the cache: whole and verified, and no byte asked for twice.
//!
//! It comes in [`PartLimits`], over several connections at once, each of which asks for exactly the version that the fetch
//! began with. What arrives is handed over a short queue to a thread that writes and hashes it, so that neither waits
//! for the other and memory stays at a few chunks, whatever the model's size. It goes to its place in a partial file
//! of the cache. A part that breaks, stalls or was frozen goes on behind its last byte that arrived, on another
//! connection; so does the next process, after a kill or when the fetch was given up. If the source holds another
//! version by then, that one is begun instead.
//!
//! The whole is verified once, however many answers it came in: the length, the checksum that the source declared,
//! and the SHA-256 that falls out and names the file. Bytes that fail are fetched anew, once; content that fails again
//! with the same fault is [rejected](FetchError::Rejected). Where the publisher has
//! promised a file ([`Expected`]), another length is refused before the transfer, and other bytes after it. A file that
//! is compressed at its source is decompressed while it arrives ([`Compression`]): what the source declares holds for
//! what comes over the network, and what was promised for what comes out. A version that is here from before is
//! taken as it is, once its bytes have been checked.
//!
//! How a process asks that finds some of a file here: [`open`] reads the first missing range under `If-Match`.
//! Nothing changed, as is most likely so soon after, and that request is the check and a part of the transfer.
//! Something changed, and the refusal says so, without a body; then the question is asked as ever. Asking first
//! what is there would begin the whole transfer again, or cost every such start a round trip.

mod adopt;
mod answer;
mod compression;
mod expectation;
mod parts;
mod transfer;
mod unpack;
mod verify;
mod writer;

use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use tracing::warn;

use crate::cache::{
    Cache, CacheError, CachedFile, InsufficientSpace, RemoteFile, ResumableDownload,
};
use crate::clock::{Clock, Thaws};
use crate::ids::{ChecksumAlgorithm, Digest, Expected, Identity};
use crate::source::{ChunkStream, Object, Opened, Source, SourceError};
pub use compression::Compression;
use expectation::Expectation;
pub use parts::PartLimits;
use transfer::Transfer;
pub use unpack::DecompressError;
use writer::{Ended, Whole, Writer};

/// How often a fetch follows a source that changes while it is read.
const MAX_CHANGES: u32 = 3;

/// What is to be fetched.
pub struct FetchRequest<'a> {
    /// Where from.
    pub source: &'a dyn Source,
    /// What it holds, as [`open`] has found it.
    pub object: Object,
    /// What the publisher has promised of the file, decompressed.
    pub expected: Option<&'a Expected>,
    /// How it is compressed.
    pub compression: Compression,
}

/// Where to, and how.
#[derive(Clone, Copy)]
pub struct FetchContext<'a> {
    /// Where the file is kept.
    pub cache: &'a Cache,
    /// How the transfer is divided.
    pub parts: PartLimits,
    /// The thaws, after which a connection is not trusted.
    pub thaws: &'a Thaws,
    /// The time.
    pub clock: &'a dyn Clock,
}

/// A model file that is here, whole.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The source's identity of it. Not the object's that the fetch began with, if that changed on the way.
    pub identity: Identity,
    /// The SHA-256 of its bytes, decompressed.
    pub digest: Digest,
    /// Its length in bytes, decompressed.
    pub size: u64,
    /// How many bytes came over the network for it: less than its length when some of it was here or it came
    /// compressed, more when the source changed on the way.
    pub transferred: u64,
    /// The file.
    pub file: CachedFile,
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
    #[error("no byte arrived for {} s, after {received} of {declared}", answer::STALL.as_secs())]
    Stalled {
        /// The whole length.
        declared: u64,
        /// What came.
        received: u64,
    },
    /// What came is not what the source says it is, twice.
    #[error(
        "the bytes that arrived do not have the {algorithm:?} checksum that the source declares, but {found}"
    )]
    Checksum {
        /// Which of the checksums.
        algorithm: ChecksumAlgorithm,
        /// Checksum of the bytes that arrived, in base64.
        found: String,
    },
    /// The source has a file of another length than the publisher has promised.
    #[error("{uri} has {found} bytes, and {promised} were promised")]
    UnexpectedLength {
        /// The place.
        uri: String,
        /// The length that was promised.
        promised: u64,
        /// The length that the source declares.
        found: u64,
    },
    /// The file has the length that the publisher has promised, and other bytes, twice.
    #[error("{uri} has the SHA-256 {found}, and {promised} was promised")]
    UnexpectedDigest {
        /// The place.
        uri: String,
        /// The SHA-256 that was promised.
        promised: Digest,
        /// That of the bytes that arrived.
        found: Digest,
    },
    /// What came cannot be decompressed; where that may be for damage on the way, twice.
    #[error("{uri}: {reason}")]
    Decompress {
        /// The place.
        uri: String,
        /// Why not.
        reason: DecompressError,
    },
    /// The fault is the content's, as far as can be told: the same content would arrive with it again.
    #[error("{fault}")]
    Rejected {
        /// Identity of the content.
        identity: Identity,
        /// The fault.
        fault: Box<FetchError>,
    },
    /// The disk is full, or will be.
    #[error(transparent)]
    InsufficientSpace(#[from] InsufficientSpace),
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
            FetchError::Length { declared, received } => received < declared,
            FetchError::Stalled { .. } => true,
            FetchError::Checksum { .. }
            | FetchError::UnexpectedLength { .. }
            | FetchError::UnexpectedDigest { .. }
            | FetchError::Decompress { .. }
            | FetchError::Rejected { .. }
            | FetchError::InsufficientSpace(_)
            | FetchError::Cache(_)
            | FetchError::Write(_) => false,
        }
    }

    /// The error in words that name no bucket, key or path: for callers from outside.
    #[must_use]
    pub fn public(&self) -> String {
        match self {
            FetchError::Source(error) => error.public().to_owned(),
            FetchError::UnexpectedLength {
                promised, found, ..
            } => format!("a file of the model has {found} bytes, and {promised} were promised"),
            FetchError::UnexpectedDigest {
                promised, found, ..
            } => {
                format!("a file of the model has the SHA-256 {found}, and {promised} was promised")
            }
            FetchError::Decompress { reason, .. } => {
                format!("a file of the model cannot be decompressed: {reason}")
            }
            FetchError::Rejected { fault, .. } => fault.public(),
            FetchError::Cache(error) => error.public(),
            FetchError::Length { .. }
            | FetchError::Stalled { .. }
            | FetchError::Checksum { .. }
            | FetchError::InsufficientSpace(_)
            | FetchError::Write(_) => self.to_string(),
        }
    }

    /// Whether the bytes may have been damaged on the way.
    fn is_damage(&self) -> bool {
        match self {
            FetchError::Checksum { .. } | FetchError::UnexpectedDigest { .. } => true,
            FetchError::Decompress { reason, .. } => reason.is_damage(),
            _ => false,
        }
    }

    /// Whether the content itself shows that it is not what it should be, however often it is fetched.
    fn is_certain(&self) -> bool {
        match self {
            FetchError::UnexpectedLength { .. } => true,
            FetchError::Decompress { reason, .. } => !reason.is_damage(),
            _ => false,
        }
    }

    /// Whether bytes that arrived twice show the same fault. Damage on the way differs from one time to the next.
    fn is_same_fault(&self, other: &Self) -> bool {
        match (self, other) {
            (FetchError::Checksum { found: one, .. }, FetchError::Checksum { found, .. }) => {
                one == found
            }
            (
                FetchError::UnexpectedDigest { found: one, .. },
                FetchError::UnexpectedDigest { found, .. },
            ) => one == found,
            // The places depend on the pieces in which the bytes arrive.
            (FetchError::Decompress { reason: one, .. }, FetchError::Decompress { reason, .. }) => {
                std::mem::discriminant(one) == std::mem::discriminant(reason)
            }
            _ => false,
        }
    }

    fn rejects(self, identity: Identity) -> Self {
        FetchError::Rejected {
            identity,
            fault: Box::new(self),
        }
    }
}

/// Asks `source` as [`Source::open`] does, but not for bytes that an earlier fetch has brought here already.
pub async fn open(
    source: &dyn Source,
    cache: &Cache,
    known: Option<&Identity>,
) -> Result<Opened, SourceError> {
    let unfinished = cache.unfinished(&source.uri());
    let unfinished = unfinished.filter(|one| known != Some(&one.wanted.identity));
    let Some(ResumableDownload { wanted, missing }) = unfinished else {
        return source.open(known).await;
    };
    let Some(first) = missing.first() else {
        // All is here and was not yet named: no range is left that could be asked for.
        let end = wanted.size..wanted.size;
        return Ok(match source.open(Some(&wanted.identity)).await? {
            Opened::Unchanged => rest(wanted, end, Box::new(Nothing)),
            changed @ Opened::Object(_) => {
                cache.forget(&wanted);
                changed
            }
        });
    };
    match source.read(&wanted.identity, first.clone()).await {
        Ok(body) => Ok(rest(wanted, first.clone(), body)),
        Err(error) if error.is_changed() => {
            cache.forget(&wanted);
            source.open(known).await
        }
        Err(error) => Err(error),
    }
}

fn rest(wanted: RemoteFile, range: Range<u64>, body: Box<dyn ChunkStream>) -> Opened {
    Opened::Object(Object {
        identity: wanted.identity,
        size: wanted.size,
        checksum: wanted.checksum,
        range,
        body,
    })
}

struct Nothing;

impl ChunkStream for Nothing {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        Box::pin(std::future::ready(None))
    }
}

/// Brings what `request` names into the cache to its last byte. Given up before, what has arrived stays for the next
/// fetch.
pub async fn fetch(
    request: FetchRequest<'_>,
    context: FetchContext<'_>,
) -> Result<Fetched, FetchError> {
    if let Some(thread) = adopt::adopt(&request, context.cache)
        && let Ok(Some(here)) = thread.await
    {
        return Ok(here);
    }
    let FetchRequest {
        source,
        mut object,
        expected,
        compression,
    } = request;
    let started = Instant::now();
    let transfer = Transfer::new(source, context);
    let mut changes = 0;
    let mut damaged: Option<(Identity, FetchError)> = None;
    loop {
        let identity = object.identity.clone();
        let error = match receive(&transfer, object, expected, compression, context).await {
            Ok((wanted, whole, file)) => {
                return Ok(Fetched {
                    identity: wanted.identity,
                    digest: whole.digest,
                    size: whole.size,
                    transferred: transfer.transferred(),
                    file,
                    elapsed: started.elapsed(),
                });
            }
            Err(error) => error,
        };
        let follows = matches!(&error, FetchError::Source(problem) if problem.is_changed());
        if follows && changes < MAX_CHANGES {
            changes += 1;
        } else if error.is_certain() {
            return Err(error.rejects(identity));
        } else if !error.is_damage() {
            return Err(error);
        } else if let Some((before, fault)) = &damaged {
            let is_same = *before == identity && fault.is_same_fault(&error);
            return Err(if is_same {
                error.rejects(identity)
            } else {
                error
            });
        }
        warn!(source = source.uri(), "the transfer begins anew: {error}");
        object = match source.open(None).await? {
            Opened::Object(object) => object,
            Opened::Unchanged => return Err(error),
        };
        if error.is_damage() {
            damaged = Some((identity, error));
        }
    }
}

async fn receive(
    transfer: &Transfer<'_>,
    object: Object,
    expected: Option<&Expected>,
    compression: Compression,
    context: FetchContext<'_>,
) -> Result<(RemoteFile, Whole, CachedFile), FetchError> {
    let (wanted, answer) = transfer.begin(object);
    let expectation = Expectation::of(&wanted, expected, compression)?;
    let (mut writer, pieces) = Writer::start(context, wanted.clone(), expectation, compression)?;
    let arrived = match writer.missing().await {
        Some(missing) => transfer.run(&wanted, missing, answer, pieces).await,
        // It is here, or it could not begin and says why at its end.
        None => Ok(()),
    };
    match writer.end().await? {
        Ended::Whole(partial, mut whole) => {
            let file = match whole.unpacked.take() {
                Some(unpacked) => {
                    let cache = context.cache;
                    cache.complete_decompressed(partial, unpacked, &whole.digest)?
                }
                None => context.cache.complete(partial, &whole.digest)?,
            };
            Ok((wanted, whole, file))
        }
        Ended::Here(file, whole) => Ok((wanted, whole, file)),
        Ended::ResumableDownload(partial) => {
            let (declared, received) = (wanted.size, partial.have());
            let error = arrived
                .err()
                .unwrap_or(FetchError::Length { declared, received });
            // Of no use any more: what the source holds now is another, or was never what it said.
            if matches!(&error, FetchError::Source(error) if error.is_changed())
                || matches!(&error, FetchError::Length { declared, received } if received > declared)
            {
                partial.discard();
            }
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests;
