//! Errors of a fetch.

use std::time::Duration;

use crate::cache::{CacheError, InsufficientSpace};
use crate::ids::{ChecksumAlgorithm, Digest, Identity};
use crate::source::SourceError;

/// A file was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source sent fewer or more bytes than it declared.
    #[error("the source declared {declared} bytes but sent {}{received}", if received > declared { "at least " } else { "" })]
    Length {
        /// Declared length in bytes.
        declared: u64,
        /// Number of bytes received.
        received: u64,
    },
    /// No byte arrived within the time limit.
    #[error("no byte arrived for {} s, after {received} of {declared} bytes", limit.as_secs())]
    Stalled {
        /// Time limit.
        limit: Duration,
        /// Declared length in bytes.
        declared: u64,
        /// Number of bytes received.
        received: u64,
    },
    /// The bytes do not have the checksum that the source declares, in two downloads.
    #[error(
        "the downloaded bytes do not match the {algorithm:?} checksum that the source declares: they have {found}"
    )]
    Checksum {
        /// Algorithm of the checksum.
        algorithm: ChecksumAlgorithm,
        /// Checksum of the downloaded bytes, in base64.
        found: String,
    },
    /// The length differs from the one that the manifest declares.
    #[error("{uri} has {found} bytes, but the manifest declares {expected}")]
    UnexpectedLength {
        /// URI of the file.
        uri: String,
        /// Length that the manifest declares.
        expected: u64,
        /// Length of the file.
        found: u64,
    },
    /// The SHA-256 differs from the one that the manifest declares, in two downloads.
    #[error("{uri} has the SHA-256 {found}, but the manifest declares {expected}")]
    UnexpectedDigest {
        /// URI of the file.
        uri: String,
        /// SHA-256 that the manifest declares.
        expected: Digest,
        /// SHA-256 of the downloaded bytes.
        found: Digest,
    },
    /// The bytes cannot be decompressed. If transmission damage is a possible cause: in two downloads.
    #[error("cannot decompress {uri}: {reason}")]
    Decompress {
        /// URI of the file.
        uri: String,
        /// Cause.
        reason: DecompressError,
    },
    /// The content itself has the fault: another download of the same content would fail too.
    #[error("{fault}")]
    Rejected {
        /// Identity of the content.
        identity: Identity,
        /// The fault.
        fault: Box<FetchError>,
    },
    /// The file does not fit on the disk.
    #[error(transparent)]
    InsufficientSpace(#[from] InsufficientSpace),
    /// An operation on the cache failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A write to the cache failed.
    #[error("cannot write the model to the cache: {0}")]
    Write(#[from] std::io::Error),
}

impl FetchError {
    /// Returns `true` if an immediate retry may succeed.
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

    /// Returns the message for callers outside the environment. It contains no bucket, key or path.
    #[must_use]
    pub fn public(&self) -> String {
        match self {
            FetchError::Source(error) => error.public().to_owned(),
            FetchError::UnexpectedLength {
                expected, found, ..
            } => {
                format!(
                    "a file of the model has {found} bytes, but the manifest declares {expected}"
                )
            }
            FetchError::UnexpectedDigest {
                expected, found, ..
            } => {
                format!(
                    "a file of the model has the SHA-256 {found}, but the manifest declares {expected}"
                )
            }
            FetchError::Decompress { reason, .. } => {
                format!("cannot decompress a file of the model: {reason}")
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

    /// Returns `true` if damage during the transmission is a possible cause.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            FetchError::Checksum { .. } | FetchError::UnexpectedDigest { .. } => true,
            FetchError::Decompress { reason, .. } => reason.is_damage(),
            _ => false,
        }
    }

    /// Returns `true` if the fault is in the content, however often it is downloaded.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            FetchError::UnexpectedLength { .. } => true,
            FetchError::Decompress { reason, .. } => !reason.is_damage(),
            _ => false,
        }
    }

    /// Returns `true` if two downloads have the same fault. Transmission damage would differ.
    pub(super) fn is_same_fault(&self, other: &Self) -> bool {
        match (self, other) {
            (FetchError::Checksum { found: one, .. }, FetchError::Checksum { found, .. }) => {
                one == found
            }
            (
                FetchError::UnexpectedDigest { found: one, .. },
                FetchError::UnexpectedDigest { found, .. },
            ) => one == found,
            // The offsets depend on the chunks in which the bytes arrive.
            (FetchError::Decompress { reason: one, .. }, FetchError::Decompress { reason, .. }) => {
                std::mem::discriminant(one) == std::mem::discriminant(reason)
            }
            _ => false,
        }
    }

    /// Returns the rejection of the content with this identity for this fault.
    pub(super) fn into_rejection(self, identity: Identity) -> Self {
        FetchError::Rejected {
            identity,
            fault: Box::new(self),
        }
    }
}

/// A file cannot be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// The data is not a zstd frame, from some byte on.
    #[error("there is no zstd frame at byte {at}; a name that ends in .zst requires zstd data")]
    NotZstd {
        /// Offset in the compressed file.
        at: u64,
    },
    /// The data end within a frame.
    #[error("the file ends at byte {at}, within a zstd frame; check that the upload was complete")]
    Truncated {
        /// Offset in the compressed file.
        at: u64,
    },
    /// The decompressor or a frame's checksum detected damage.
    #[error("the zstd data are damaged near byte {at}: {problem}")]
    Damaged {
        /// Offset in the compressed file.
        at: u64,
        /// Message of zstd.
        problem: &'static str,
    },
    /// The decompressed size exceeds the declared size.
    #[error("the decompressed size exceeds the {declared} bytes that the {} declares", if *.by_manifest { "manifest" } else { "frame header" })]
    TooLong {
        /// Size declared for all frames so far.
        declared: u64,
        /// `true` if the manifest declares the size, `false` if the frame header does.
        by_manifest: bool,
    },
    /// The window exceeds the memory limit.
    #[error(
        "the zstd window exceeds the maximum of {max_bytes} bytes; compress with a level up to 19, without --long and \
         --ultra"
    )]
    Window {
        /// Maximum window in bytes.
        max_bytes: u64,
    },
    /// The data require a dictionary.
    #[error(
        "the zstd data require a dictionary, which is not available; compress without a dictionary"
    )]
    Dictionary,
}

impl DecompressError {
    /// Returns `true` if damage during the transmission is a possible cause. A limit on what the header alone declares
    /// is no such cause.
    pub(super) fn is_damage(&self) -> bool {
        !matches!(
            self,
            DecompressError::Window { .. } | DecompressError::Dictionary
        )
    }
}
