//! Comparison of a file with the values that the manifest declares.

use super::{Compression, FetchError};
use crate::cache::RemoteFile;
use crate::ids::{Digest, Expected};

/// Expected values of one file after decompression, if the manifest declares any.
#[derive(Clone)]
pub(super) struct Expectation {
    uri: String,
    expected: Option<Expected>,
}

impl Expectation {
    /// Expectation of `remote`. Checks the length of an uncompressed file immediately.
    pub(super) fn new(
        remote: &RemoteFile,
        expected: Option<&Expected>,
        compression: Compression,
    ) -> Result<Self, FetchError> {
        let expectation = Self {
            uri: remote.location.clone(),
            expected: expected.cloned(),
        };
        if compression == Compression::None {
            expectation.check_length(remote.size)?;
        }
        Ok(expectation)
    }

    /// Returns the URI of the file.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Returns the expected length.
    pub(super) fn size(&self) -> Option<u64> {
        self.expected.as_ref().map(|expected| expected.size)
    }

    /// Compares the length of the file.
    pub(super) fn check_length(&self, found: u64) -> Result<(), FetchError> {
        match &self.expected {
            Some(Expected { size, .. }) if *size != found => Err(FetchError::UnexpectedLength {
                uri: self.uri.clone(),
                expected: *size,
                found,
            }),
            _ => Ok(()),
        }
    }

    /// Compares the SHA-256 of the file.
    pub(super) fn check_digest(&self, found: &Digest) -> Result<(), FetchError> {
        match &self.expected {
            Some(Expected { digest, .. }) if digest != found => Err(FetchError::UnexpectedDigest {
                uri: self.uri.clone(),
                expected: digest.clone(),
                found: found.clone(),
            }),
            _ => Ok(()),
        }
    }
}
