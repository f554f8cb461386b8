//! The cache on disk, from one process to the next.

mod adoption;
mod shared_directory;

use std::fs;

use sha2::{Digest as _, Sha256};

use super::directory::{entries, temporary_file};
use super::*;
use crate::ids::{ETag, FilePath, Identity};
use crate::tensor::Signature;

/// Adds a file that no journal references.
fn add_file(cache: &Cache, bytes: &[u8]) -> (CachedFile, Digest) {
    let digest = Digest::of(Sha256::new().chain_update(bytes));
    let file = cache.store.lease(&digest);
    fs::write(file.path(), bytes).unwrap();
    (file, digest)
}

fn add_active(cache: &Cache, model: &ModelName, bytes: &[u8]) -> (PathBuf, ModelRecord) {
    let (file, digest) = add_file(cache, bytes);
    let identity = Identity {
        etag: ETag("\"1\"".to_owned()),
        version_id: None,
    };
    let file_record = FileRecord {
        path: FilePath::parse("m.onnx").unwrap(),
        identity,
        size: bytes.len() as u64,
        digest,
    };
    let record = ModelRecord::new(file_record, Vec::new(), None);
    let mut journal = cache.journal(model, "s3://b/k");
    journal.update(|history| {
        history.set_candidate(record.clone(), None);
        history.accept(&record, Signature::default());
    });
    (file.path().to_owned(), record)
}

#[test]
fn a_file_is_found_until_a_byte_changes() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path()).unwrap();
    let model = ModelName::parse("m").unwrap();
    let (path, record) = add_active(&cache, &model, b"model bytes");
    let again = Cache::open(directory.path()).unwrap();
    assert_eq!(again.find_model(&record).unwrap().path(), path);
    fs::write(&path, b"model bytez").unwrap();
    assert!(again.find_model(&record).is_none());
    assert!(!path.exists(), "a damaged file is removed");
}

#[test]
fn an_unreadable_file_is_not_found_and_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path()).unwrap();
    let digest = Digest::of(Sha256::new().chain_update(b"bytes"));
    // A link to itself cannot be opened.
    let path = cache.store.path(&digest);
    std::os::unix::fs::symlink(&path, &path).unwrap();
    assert!(cache.find(&digest).is_none());
    assert!(path.is_symlink());
}

#[test]
fn temporary_files_of_interrupted_writes_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path()).unwrap();
    let (_, interrupted) = temporary_file(cache.journals.path())
        .unwrap()
        .keep()
        .unwrap();
    let undotted = directory.path().join("partials/partial-a1B2c3");
    fs::write(&undotted, b"half").unwrap();
    Cache::open(directory.path()).unwrap();
    assert!(!interrupted.exists() && !undotted.exists());
}

#[test]
fn the_journal_and_load_marker_of_a_model_with_any_name_are_kept() {
    for name in [
        "partial-wine",
        "partial-",
        "partial-a1B2c3",
        "origins",
        "files",
        "journals",
        "loading",
        "partials",
        "rollout-position",
        "a.json",
        "-",
        "_",
        "CON",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open(directory.path()).unwrap();
        let model = ModelName::parse(name).unwrap();
        let (_, record) = add_active(&cache, &model, b"model bytes");
        cache
            .journal(&model, "s3://b/k")
            .begin_load(&record.digest())
            .unwrap();
        let again = Cache::open(directory.path()).unwrap();
        let markers = directory.path().join("loading");
        assert_eq!(entries(&markers).len(), 1, "{name}");
        let journal = again.journal(&model, "s3://b/k");
        assert_eq!(journal.history().last_active(), Some(&record), "{name}");
    }
}

#[test]
fn a_symbolic_link_as_cache_directory_is_rejected_unless_the_cache_is_shared() {
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    fs::create_dir(&target).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let error = Cache::open(&link).unwrap_err().to_string();
    assert!(error.contains("symbolic link"), "{error}");
    assert!(entries(&target).is_empty(), "nothing was created there");
    let cache = folder.path().join("cache");
    fs::create_dir(&cache).unwrap();
    std::os::unix::fs::symlink(&target, cache.join("files")).unwrap();
    assert!(Cache::open(&cache).is_err(), "nor inside the directory");
    let shared = CacheSettings {
        is_shared: Some(true),
        ..CacheSettings::default()
    };
    Cache::open_with(&link, &shared).unwrap();
}

#[test]
fn the_error_of_an_unwritable_directory_names_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Cache::open(file.path()).unwrap_err().to_string();
    assert!(
        error.contains(&file.path().display().to_string()),
        "{error}"
    );
}

#[test]
fn a_process_that_ended_without_a_shutdown_was_killed() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Cache::open(directory.path()).unwrap();
    assert!(!open().is_after_kill());
    for _ in 0..2 {
        assert!(open().is_after_kill());
    }
    let cache = open();
    assert_eq!(cache.bytes(), Some(0));
    let (_file, _) = add_file(&cache, b"model");
    assert_eq!(cache.bytes(), Some(5));
    cache.close_loads();
    assert!(!open().is_after_kill());
}
