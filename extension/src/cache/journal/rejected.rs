//! Files of the source that failed verification: damaged, or different from what the publisher declared.
//!
//! A file is rejected after two downloads with the same fault, since a third would fail too. A rejection identifies the
//! content by its identity at the source and by the expected values. A change of either permits another download.

use serde::{Deserialize, Serialize};

use crate::ids::{Expected, FilePath, Identity};

/// Maximum number of rejections to remember.
const MAX_REJECTED_FILES: usize = 32;

/// Content of one file that is not downloaded again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedFile {
    /// Path of the file in the model's folder.
    pub path: FilePath,
    /// Identity of the content at the source.
    pub identity: Identity,
    /// Values that the publisher declared.
    pub expected: Option<Expected>,
    /// The fault, worded for callers outside the environment.
    pub reason: String,
    /// `true` if the source was last seen to have this content at `path`.
    pub is_current: bool,
}

/// Rejected files of one model, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct RejectedFiles(Vec<RejectedFile>);

impl RejectedFiles {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the rejection of the content that the source last had at `path`, if it was rejected with these expected
    /// values.
    pub(super) fn current(
        &self,
        path: &FilePath,
        expected: Option<&Expected>,
    ) -> Option<&RejectedFile> {
        let mut at_path = self.0.iter().rev().filter(|file| file.path == *path);
        at_path.find(|file| file.is_current && file.expected.as_ref() == expected)
    }

    /// Returns the rejection of this content, if it was rejected with these expected values.
    pub(super) fn find(
        &self,
        path: &FilePath,
        identity: &Identity,
        expected: Option<&Expected>,
    ) -> Option<&RejectedFile> {
        self.0.iter().find(|file| {
            file.path == *path && file.identity == *identity && file.expected.as_ref() == expected
        })
    }

    /// Records the identity of the content that the source has at `path` now. Returns `true` if that is a change.
    pub(super) fn set_current(&mut self, path: &FilePath, identity: &Identity) -> bool {
        let mut changed = false;
        for file in self.0.iter_mut().filter(|file| file.path == *path) {
            let is_current = file.identity == *identity;
            changed |= file.is_current != is_current;
            file.is_current = is_current;
        }
        changed
    }

    /// Adds a rejection, and forgets the oldest ones above the limit.
    pub(super) fn add(&mut self, rejected: RejectedFile) {
        self.0.retain(|file| {
            file.path != rejected.path
                || file.identity != rejected.identity
                || file.expected != rejected.expected
        });
        self.0.push(rejected);
        let excess = self.0.len().saturating_sub(MAX_REJECTED_FILES);
        self.0.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Digest, ETag};

    fn identity(etag: &str) -> Identity {
        Identity {
            etag: ETag(etag.to_owned()),
            version_id: None,
        }
    }

    fn rejected(etag: &str, expected: Option<Expected>) -> RejectedFile {
        RejectedFile {
            path: FilePath::parse("m.onnx").unwrap(),
            identity: identity(etag),
            expected,
            reason: "damaged".to_owned(),
            is_current: true,
        }
    }

    #[test]
    fn a_change_of_identity_or_expected_values_ends_a_rejection_and_a_return_restores_it() {
        let path = FilePath::parse("m.onnx").unwrap();
        let other = FilePath::parse("n.onnx").unwrap();
        let expected = |size| {
            let digest = Digest::parse(&"0".repeat(64)).unwrap();
            Some(Expected { size, digest })
        };
        let mut files = RejectedFiles::default();
        files.add(rejected("1", expected(1)));
        assert!(files.current(&path, expected(1).as_ref()).is_some());
        assert!(files.current(&path, expected(2).as_ref()).is_none());
        assert!(files.current(&path, None).is_none());
        assert!(files.current(&other, expected(1).as_ref()).is_none());

        assert!(files.set_current(&path, &identity("2")));
        assert!(!files.set_current(&path, &identity("2")));
        assert!(files.current(&path, expected(1).as_ref()).is_none());
        let again = files.find(&path, &identity("1"), expected(1).as_ref());
        assert!(again.is_some());
        assert!(files.find(&path, &identity("1"), None).is_none());
        assert!(files.set_current(&path, &identity("1")));
        assert!(files.current(&path, expected(1).as_ref()).is_some());
    }

    #[test]
    fn the_oldest_rejections_are_forgotten_first() {
        let path = FilePath::parse("m.onnx").unwrap();
        let mut files = RejectedFiles::default();
        for number in 0..=MAX_REJECTED_FILES {
            files.add(rejected(&number.to_string(), None));
        }
        assert!(files.find(&path, &identity("0"), None).is_none());
        assert!(files.find(&path, &identity("1"), None).is_some());
        assert_eq!(files.0.len(), MAX_REJECTED_FILES);
    }
}
