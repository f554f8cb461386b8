//! A directory that several environments share.

use std::path::PathBuf;

use sha2::{Digest as _, Sha256};

use super::*;
use crate::cache::{CacheSettings, PartialDownload, RemoteFile};
use crate::ids::{ETag, Identity, ModelName};

fn open(directory: &Path) -> Cache {
    let settings = CacheSettings {
        is_shared: Some(true),
        ..CacheSettings::default()
    };
    Cache::open_with(directory, &settings).unwrap()
}

fn begin(cache: &Cache) -> PartialDownload {
    let wanted = RemoteFile {
        location: "s3://b/m.onnx".to_owned(),
        identity: Identity {
            etag: ETag("1".to_owned()),
            version_id: None,
        },
        size: 6,
        checksum: None,
    };
    cache.partial(wanted, 1 << 20).unwrap()
}

fn digest() -> Digest {
    Digest::of(Sha256::new().chain_update(b"abcdef"))
}

fn partials(directory: &Path) -> Vec<PathBuf> {
    entries(&directory.join("partials"))
}

#[test]
fn each_fetches_for_itself_and_the_first_file_stays_where_others_have_it_mapped() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (open(directory.path()), open(directory.path()));
    let (mut first, mut second) = (begin(&one), begin(&other));
    first.write(0, b"abc").unwrap();
    assert_eq!(second.have(), 0, "no byte of the other's");
    assert!(other.unfinished("s3://b/m.onnx").is_none());
    second.write(0, b"abcdef").unwrap();
    first.write(3, b"def").unwrap();
    let kept = one.complete(first, &digest()).unwrap();
    let inode = || fs::metadata(kept.path()).unwrap().ino();
    let before = inode();
    other.complete(second, &digest()).unwrap();
    assert_eq!((inode(), partials(directory.path()).len()), (before, 0));
    let third = open(directory.path());
    assert!(third.recall(begin(&third).wanted()).is_some());
}

#[test]
fn a_damaged_file_is_replaced_and_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path());
    let mut partial = begin(&cache);
    partial.write(0, b"abcdef").unwrap();
    let path = cache.lease(&digest());
    fs::write(path.path(), b"abcde!").unwrap();
    assert!(cache.find(&digest()).is_none());
    assert!(path.path().exists(), "another may be about to replace it");
    let kept = cache.complete(partial, &digest()).unwrap();
    assert_eq!(fs::read(kept.path()).unwrap(), b"abcdef");
}

#[test]
fn what_another_is_writing_is_not_swept_until_it_was_left_for_a_day() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path());
    let mut partial = begin(&cache);
    partial.write(0, b"abc").unwrap();
    open(directory.path());
    assert_eq!(partials(directory.path()).len(), 1);
    let path = partials(directory.path()).remove(0);
    let old = SystemTime::now() - ABANDONED - Duration::from_secs(60);
    File::open(&path).unwrap().set_modified(old).unwrap();
    open(directory.path());
    assert_eq!(partials(directory.path()).len(), 0);
}

#[test]
fn the_journals_of_an_environment_are_its_own() {
    let (directory, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = |shared| CacheSettings {
        is_shared: Some(shared),
        private_directory: Some(own.path().to_owned()),
        ..CacheSettings::default()
    };
    let cache = Cache::open_with(directory.path(), &settings(true)).unwrap();
    assert!(cache.journals.starts_with(own.path()));
    let journal = cache.journal(&ModelName::parse("m").unwrap(), "s3://b/k");
    journal.begin_load(&Digest::of(Sha256::new())).unwrap();
    assert!(own.path().join("loading/m").exists());
    let cache = Cache::open_with(directory.path(), &settings(false)).unwrap();
    assert!(cache.journals.starts_with(directory.path()));
}
