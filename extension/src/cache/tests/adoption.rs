//! Adopted files.

use std::fs;

use sha2::{Digest as _, Sha256};

use crate::cache::Cache;
use crate::ids::Digest;

#[test]
fn an_adopted_file_is_linked_and_outlives_the_link() {
    let (outside, directory) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let cache = Cache::open(directory.path()).unwrap();
    let digest = Digest::of(Sha256::new().chain_update(b"model"));
    let path = outside.path().join(digest.as_str());
    assert!(
        cache.adopt(&path, &digest).is_none(),
        "the file does not exist"
    );
    fs::write(&path, b"other").unwrap();
    assert!(
        cache.adopt(&path, &digest).is_none(),
        "the bytes do not have this digest"
    );

    fs::write(&path, b"model").unwrap();
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    let kept = cache.adopt(&path, &digest).unwrap();
    assert_eq!(fs::canonicalize(kept.path()).unwrap(), path);
    assert_eq!(cache.find(&digest).unwrap().path(), kept.path());
    assert_eq!(
        fs::metadata(&path).unwrap().modified().unwrap(),
        before,
        "the modification time is the identity of a local file"
    );
    let name = kept.path().to_owned();
    drop(kept);
    fs::write(&path, b"other").unwrap();
    assert!(cache.find(&digest).is_none());
    assert!(name.symlink_metadata().is_err(), "the link is removed");
    assert!(path.exists(), "the target of the link stays");
}
