//! Content that a source holds and that cannot be fetched as it should be: damaged, or not what its publisher promised.
//!
//! It arrived twice with the same fault, so that another transfer would end so as well. Content is named by its identity
//! at the source and by what was promised of it: a change of either is a reason to fetch again.

use serde::{Deserialize, Serialize};

use crate::ids::{Expected, FilePath, Identity};

/// Maximum number of rejections that are remembered.
const MAX_REJECTED: usize = 32;

/// One file's content that is not fetched again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedFile {
    /// Where the file lies in the model's folder.
    pub path: FilePath,
    /// The content's identity at the source.
    pub identity: Identity,
    /// What the publisher promised of it.
    pub expected: Option<Expected>,
    /// The fault, in words that may leave the environment.
    pub reason: String,
    /// Whether the source was last seen to hold this content at `path`.
    pub is_current: bool,
}

/// The rejections of one model, the last at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct RejectedFiles(Vec<RejectedFile>);

impl RejectedFiles {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The content that the source was last seen to hold at `path`, if it is rejected on these terms.
    pub(super) fn current(
        &self,
        path: &FilePath,
        expected: Option<&Expected>,
    ) -> Option<&RejectedFile> {
        let mut at_path = self.0.iter().rev().filter(|file| file.path == *path);
        at_path.find(|file| file.is_current && file.expected.as_ref() == expected)
    }

    /// The rejection of this content, if there is one on these terms.
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

    /// Notes what the source holds at `path` now; returns whether that changes anything.
    pub(super) fn holds(&mut self, path: &FilePath, identity: &Identity) -> bool {
        let mut changed = false;
        for file in self.0.iter_mut().filter(|file| file.path == *path) {
            let is_current = file.identity == *identity;
            changed |= file.is_current != is_current;
            file.is_current = is_current;
        }
        changed
    }

    pub(super) fn add(&mut self, rejected: RejectedFile) {
        self.0.retain(|file| {
            file.path != rejected.path
                || file.identity != rejected.identity
                || file.expected != rejected.expected
        });
        self.0.push(rejected);
        let spare = self.0.len().saturating_sub(MAX_REJECTED);
        self.0.drain(..spare);
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
    fn a_change_of_identity_or_promise_ends_a_rejection_and_a_return_restores_it() {
        let path = FilePath::parse("m.onnx").unwrap();
        let other = FilePath::parse("n.onnx").unwrap();
        let promise = |size| {
            let digest = Digest::parse(&"0".repeat(64)).unwrap();
            Some(Expected { size, digest })
        };
        let mut files = RejectedFiles::default();
        files.add(rejected("1", promise(1)));
        assert!(files.current(&path, promise(1).as_ref()).is_some());
        assert!(files.current(&path, promise(2).as_ref()).is_none());
        assert!(files.current(&path, None).is_none());
        assert!(files.current(&other, promise(1).as_ref()).is_none());

        assert!(files.holds(&path, &identity("2")));
        assert!(!files.holds(&path, &identity("2")));
        assert!(files.current(&path, promise(1).as_ref()).is_none());
        let again = files.find(&path, &identity("1"), promise(1).as_ref());
        assert!(again.is_some());
        assert!(files.find(&path, &identity("1"), None).is_none());
        assert!(files.holds(&path, &identity("1")));
        assert!(files.current(&path, promise(1).as_ref()).is_some());
    }

    #[test]
    fn the_oldest_rejections_are_forgotten_first() {
        let path = FilePath::parse("m.onnx").unwrap();
        let mut files = RejectedFiles::default();
        for number in 0..=MAX_REJECTED {
            files.add(rejected(&number.to_string(), None));
        }
        assert!(files.find(&path, &identity("0"), None).is_none());
        assert!(files.find(&path, &identity("1"), None).is_some());
        assert_eq!(files.0.len(), MAX_REJECTED);
    }
}
