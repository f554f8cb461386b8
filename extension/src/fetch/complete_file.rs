//! Result of the disk side of a fetch.

use super::error::FetchError;
use crate::cache::DecompressedFile;
use crate::ids::Digest;

/// Complete and verified content.
pub(super) struct CompleteFile {
    /// SHA-256 of the decompressed bytes.
    pub(super) digest: Digest,
    /// Decompressed length in bytes.
    pub(super) size: u64,
    /// The decompressed file, if the source has it compressed.
    pub(super) decompressed: Option<DecompressedFile>,
}

/// The content cannot be written any further.
pub(super) enum WriteFailure {
    /// The disk has no space for this number of decompressed bytes.
    InsufficientSpace(u64),
    /// Any other error.
    Other(FetchError),
}

impl<E: Into<FetchError>> From<E> for WriteFailure {
    fn from(error: E) -> Self {
        WriteFailure::Other(error.into())
    }
}
