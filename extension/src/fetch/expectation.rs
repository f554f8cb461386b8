//! What the publisher has promised of a file, held against what there is.

use super::{Compression, FetchError};
use crate::cache::RemoteFile;
use crate::ids::{Digest, Expected};

/// The promise for one file; there may be none. It speaks of the file once it is decompressed.
#[derive(Clone)]
pub(super) struct Expectation {
    uri: String,
    expected: Option<Expected>,
}

impl Expectation {
    /// What `expected` says of `wanted`, which has the length that was promised, as far as that is known yet.
    pub(super) fn of(
        wanted: &RemoteFile,
        expected: Option<&Expected>,
        compression: Compression,
    ) -> Result<Self, FetchError> {
        let expectation = Self {
            uri: wanted.location.clone(),
            expected: expected.cloned(),
        };
        if compression == Compression::None {
            expectation.hold_length(wanted.size)?;
        }
        Ok(expectation)
    }

    /// Where the file comes from.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// The length that was promised.
    pub(super) fn promised_size(&self) -> Option<u64> {
        self.expected.as_ref().map(|expected| expected.size)
    }

    /// The file has this length.
    pub(super) fn hold_length(&self, found: u64) -> Result<(), FetchError> {
        match &self.expected {
            Some(Expected { size, .. }) if *size != found => Err(FetchError::UnexpectedLength {
                uri: self.uri.clone(),
                promised: *size,
                found,
            }),
            _ => Ok(()),
        }
    }

    /// The file has this SHA-256.
    pub(super) fn hold_digest(&self, found: &Digest) -> Result<(), FetchError> {
        match &self.expected {
            Some(Expected { digest, .. }) if digest != found => Err(FetchError::UnexpectedDigest {
                uri: self.uri.clone(),
                promised: digest.clone(),
                found: found.clone(),
            }),
            _ => Ok(()),
        }
    }
}
