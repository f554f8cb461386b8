//! What a source has called the files that are here.
//!
//! A version that returns, or that another environment has fetched into the same directory, is known by what its source
//! says of it, before a byte of it is fetched. A note says which digest that was; nobody believes it further than the
//! file's own bytes agree. The version id is not looked at: bytes that are uploaded again have a new one, and the same
//! ETag.

use std::fs;

use super::partial::digits;
use super::{Cache, CachedFile, RemoteFile, entries, keep};
use crate::ids::Digest;

impl Cache {
    /// The file that came of `wanted` before, if it is here whole, and its digest. Reads the whole file.
    #[must_use]
    pub fn recall(&self, wanted: &RemoteFile) -> Option<(CachedFile, Digest)> {
        let note = fs::read_to_string(self.origins.join(name(wanted))).ok()?;
        let digest = Digest::parse(note.trim()).ok()?;
        Some((self.find(&digest)?, digest))
    }

    /// Notes what came of `wanted`. Without it a later fetch brings the same again: no reason to fail now.
    pub(super) fn note_origin(&self, wanted: &RemoteFile, digest: &Digest) {
        let _ = keep(&self.origins.join(name(wanted)), digest.as_str().as_bytes());
    }

    /// Removes the notes of files that are not here any more.
    pub(super) fn sweep_origins(&self) {
        for note in entries(&self.origins) {
            let digest = fs::read_to_string(&note).ok();
            let digest = digest.and_then(|digest| Digest::parse(digest.trim()).ok());
            if !digest.is_some_and(|digest| self.path(&digest).exists()) {
                let _ = fs::remove_file(note);
            }
        }
    }
}

fn name(wanted: &RemoteFile) -> String {
    let content = digits([wanted.identity.etag.0.as_str(), &wanted.size.to_string()]);
    format!("{}-{content}", digits([wanted.location.as_str()]))
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::ids::{ETag, Identity};

    fn wanted(location: &str, etag: &str, version_id: Option<&str>) -> RemoteFile {
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
    fn bytes_that_are_uploaded_again_are_known_as_long_as_they_are_here() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let first = wanted("s3://b/m.onnx", "1", Some("a"));
        let mut partial = cache.partial(first.clone(), 1 << 20).unwrap();
        partial.write(0, b"abc").unwrap();
        let digest = Digest::of(Sha256::new().chain_update(b"abc"));
        let kept = cache.complete(partial, &digest).unwrap();

        let again = wanted("s3://b/m.onnx", "1", Some("b"));
        for known in [&first, &again] {
            assert_eq!(cache.recall(known).unwrap().1, digest);
        }
        for other in [
            wanted("s3://b/m.onnx", "2", None),
            wanted("s3://b/n.onnx", "1", None),
        ] {
            assert!(cache.recall(&other).is_none());
        }
        cache.sweep();
        assert_eq!(entries(&cache.origins).len(), 1);
        fs::remove_file(kept.path()).unwrap();
        assert!(cache.recall(&again).is_none());
        cache.sweep();
        assert_eq!(entries(&cache.origins).len(), 0);
    }
}
