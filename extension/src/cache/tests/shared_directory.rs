//! A directory that several environments share.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use crate::cache::directory::{ABANDONED_AFTER, entries};
use crate::cache::{Cache, CacheSettings, PartialDownload, RemoteFile};
use crate::ids::{Digest, ETag, Identity, ModelName};

fn open(directory: &Path) -> Cache {
    let settings = CacheSettings {
        is_shared: Some(true),
        ..CacheSettings::default()
    };
    Cache::open_with(directory, &settings).unwrap()
}

fn begin(cache: &Cache) -> PartialDownload {
    let remote = RemoteFile {
        location: "s3://b/m.onnx".to_owned(),
        identity: Identity {
            etag: ETag("1".to_owned()),
            version_id: None,
        },
        size: 6,
        checksum: None,
    };
    cache.start_download(remote, 1 << 20).unwrap()
}

fn digest() -> Digest {
    Digest::of(Sha256::new().chain_update(b"abcdef"))
}

fn partials(directory: &Path) -> Vec<PathBuf> {
    entries(&directory.join("partials"))
}

#[test]
fn each_environment_downloads_for_itself_and_the_first_complete_file_stays() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (open(directory.path()), open(directory.path()));
    let (mut first, mut second) = (begin(&one), begin(&other));
    first.write(0, b"abc").unwrap();
    assert_eq!(second.downloaded(), 0, "no byte of the other environment");
    assert!(other.resumable_download("s3://b/m.onnx").is_none());
    second.write(0, b"abcdef").unwrap();
    first.write(3, b"def").unwrap();
    let kept = one.complete(first, &digest()).unwrap();
    let inode = || fs::metadata(kept.path()).unwrap().ino();
    let before = inode();
    other.complete(second, &digest()).unwrap();
    assert_eq!((inode(), partials(directory.path()).len()), (before, 0));
    let third = open(directory.path());
    assert!(third.find_remote(begin(&third).remote()).is_some());
}

#[test]
fn a_damaged_file_is_replaced_and_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path());
    let mut partial = begin(&cache);
    partial.write(0, b"abcdef").unwrap();
    let path = cache.store.lease(&digest());
    fs::write(path.path(), b"abcde!").unwrap();
    assert!(cache.find(&digest()).is_none());
    assert!(
        path.path().exists(),
        "another environment may be replacing the file"
    );
    let kept = cache.complete(partial, &digest()).unwrap();
    assert_eq!(fs::read(kept.path()).unwrap(), b"abcdef");
}

#[test]
fn the_download_of_another_environment_is_removed_only_after_a_day_without_a_write() {
    let directory = tempfile::tempdir().unwrap();
    let cache = open(directory.path());
    let mut partial = begin(&cache);
    partial.write(0, b"abc").unwrap();
    open(directory.path());
    assert_eq!(partials(directory.path()).len(), 1);
    let path = partials(directory.path()).remove(0);
    let old = SystemTime::now() - ABANDONED_AFTER - Duration::from_secs(60);
    File::open(&path).unwrap().set_modified(old).unwrap();
    open(directory.path());
    assert_eq!(partials(directory.path()).len(), 0);
}

#[test]
fn the_journals_of_an_environment_are_private() {
    let (directory, private) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = |shared| CacheSettings {
        is_shared: Some(shared),
        private_directory: Some(private.path().to_owned()),
        ..CacheSettings::default()
    };
    let cache = Cache::open_with(directory.path(), &settings(true)).unwrap();
    assert!(cache.journals.path().starts_with(private.path()));
    let journal = cache.journal(&ModelName::parse("m").unwrap(), "s3://b/k");
    journal.begin_load(&Digest::of(Sha256::new())).unwrap();
    assert!(private.path().join("loading/m").exists());
    let cache = Cache::open_with(directory.path(), &settings(false)).unwrap();
    assert!(cache.journals.path().starts_with(directory.path()));
}
