//! Digests of files by their identity at the source.
//!
//! An origin identifies a file before any byte is downloaded. The file can be a version that the source returns to, or
//! one that another environment has downloaded into the same directory. The digest of an origin is a hint, and the
//! bytes of the file are always verified.

use std::fs;
use std::path::PathBuf;

use super::RemoteFile;
use crate::cache::directory::{entries, write_atomically};
use crate::ids::Digest;

/// Directory with one file for each origin, which contains the digest.
#[derive(Debug)]
pub(super) struct Origins {
    directory: PathBuf,
}

impl Origins {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Returns the digest that `remote` had when it was downloaded.
    pub(super) fn find(&self, remote: &RemoteFile) -> Option<Digest> {
        let text = fs::read_to_string(self.directory.join(remote.origin_name())).ok()?;
        Digest::parse(text.trim()).ok()
    }

    /// Records the digest of `remote`. A failed write is ignored: the only cost is a repeated download.
    pub(super) fn add(&self, remote: &RemoteFile, digest: &Digest) {
        let path = self.directory.join(remote.origin_name());
        let _ = write_atomically(&path, digest.as_str().as_bytes());
    }

    /// Removes the origins of files that do not exist any more.
    pub(super) fn sweep(&self, exists: impl Fn(&Digest) -> bool) {
        for origin in entries(&self.directory) {
            let digest = fs::read_to_string(&origin).ok();
            let digest = digest.and_then(|digest| Digest::parse(digest.trim()).ok());
            if !digest.is_some_and(|digest| exists(&digest)) {
                let _ = fs::remove_file(origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::cache::Cache;
    use crate::ids::{ETag, Identity};

    fn remote(location: &str, etag: &str, version_id: Option<&str>) -> RemoteFile {
        RemoteFile {
            location: location.to_owned(),
            identity: Identity {
                etag: ETag(etag.to_owned()),
                version_id: version_id.map(str::to_owned),
            },
            size: 3,
            checksum: None,
        }
    }

    #[test]
    fn content_that_is_uploaded_again_is_found_while_its_file_exists() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let first = remote("s3://b/m.onnx", "1", Some("a"));
        let mut download = cache.start_download(first.clone(), 1 << 20).unwrap();
        download.write(0, b"abc").unwrap();
        let digest = Digest::of(Sha256::new().chain_update(b"abc"));
        let file = cache.complete(download, &digest).unwrap();

        let again = remote("s3://b/m.onnx", "1", Some("b"));
        for known in [&first, &again] {
            assert_eq!(cache.find_remote(known).unwrap().1, digest);
        }
        for other in [
            remote("s3://b/m.onnx", "2", None),
            remote("s3://b/n.onnx", "1", None),
        ] {
            assert!(cache.find_remote(&other).is_none());
        }
        let origins = || entries(&directory.path().join("origins")).len();
        cache.sweep();
        assert_eq!(origins(), 1);
        fs::remove_file(file.path()).unwrap();
        assert!(cache.find_remote(&again).is_none());
        cache.sweep();
        assert_eq!(origins(), 0);
    }
}
