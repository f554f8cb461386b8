//! Files that lie elsewhere under a name that says what is in them: their bytes are never copied.
//!
//! Whoever names a file by the SHA-256 of its bytes does not change it, so it can be mapped where it is. In the cache it
//! is a link, which is found, checked and swept as a file is.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{Cache, CachedFile, digest_of};
use crate::ids::Digest;

impl Cache {
    /// The file at `path`, if its bytes have this digest, without a copy. Reads the whole file. `None` as well where a link
    /// cannot stand for it: on a directory that is shared with others, who may not see that path.
    #[must_use]
    pub fn adopt(&self, path: &Path, digest: &Digest) -> Option<CachedFile> {
        if self.is_shared || !digest_of(path).is_ok_and(|found| found == *digest) {
            return None;
        }
        let kept = self.lease(digest);
        if kept.path().exists() {
            return Some(kept);
        }
        // One that leads nowhere any more.
        let _ = fs::remove_file(kept.path());
        symlink(path, kept.path()).ok()?;
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    #[test]
    fn a_file_is_found_where_it_is_and_outlives_its_link() {
        let (outside, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let cache = Cache::open(directory.path()).unwrap();
        let digest = Digest::of(Sha256::new().chain_update(b"model"));
        let path = outside.path().join(digest.as_str());
        assert!(cache.adopt(&path, &digest).is_none(), "there is none");
        fs::write(&path, b"other").unwrap();
        assert!(cache.adopt(&path, &digest).is_none(), "its name lies");

        fs::write(&path, b"model").unwrap();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        let kept = cache.adopt(&path, &digest).unwrap();
        assert_eq!(fs::canonicalize(kept.path()).unwrap(), path);
        assert_eq!(cache.find(&digest).unwrap().path(), kept.path());
        assert_eq!(
            fs::metadata(&path).unwrap().modified().unwrap(),
            before,
            "the time of the last change tells its source's versions apart"
        );
        let name = kept.path().to_owned();
        drop(kept);
        fs::write(&path, b"other").unwrap();
        assert!(cache.find(&digest).is_none());
        assert!(name.symlink_metadata().is_err(), "the link is gone");
        assert!(path.exists(), "what it led to is not the cache's");
    }
}
