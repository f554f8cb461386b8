//! Partial downloads from one process to the next.

use std::iter::once;

use sha2::{Digest as _, Sha256};

use super::*;
use crate::cache::Cache;
use crate::ids::{Checksum, Digest, ETag, Identity};

/// Longer than any file of these tests.
const PART: u64 = 1 << 20;

fn remote(etag: &str, size: u64) -> RemoteFile {
    RemoteFile {
        location: "s3://b/m.onnx".to_owned(),
        identity: Identity {
            etag: ETag(etag.to_owned()),
            version_id: None,
        },
        size,
        checksum: None,
    }
}

fn cache() -> (tempfile::TempDir, Cache) {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(directory.path()).unwrap();
    (directory, cache)
}

fn resumable(
    remote: RemoteFile,
    missing: impl IntoIterator<Item = Range<u64>>,
) -> ResumableDownload {
    let missing = missing.into_iter().collect();
    ResumableDownload { remote, missing }
}

fn files(cache: &Cache) -> usize {
    cache.store.partials().entries().len()
}

#[test]
fn a_partial_download_is_resumed_by_the_next_process_and_is_removed_once_complete() {
    let (directory, cache) = cache();
    let mut partial = cache.start_download(remote("1", 6), PART).unwrap();
    assert!(
        cache.resumable_download("s3://b/m.onnx").is_none(),
        "no byte has been written"
    );
    partial.write(0, b"abc").unwrap();
    drop(partial);

    let cache = Cache::open(directory.path()).unwrap();
    assert!(cache.resumable_download("s3://b/other.onnx").is_none());
    let found = cache.resumable_download("s3://b/m.onnx").unwrap();
    assert_eq!(found, resumable(remote("1", 6), once(3..6)));
    let mut partial = cache.start_download(found.remote, PART).unwrap();
    partial.prepare().unwrap();
    let mut bytes = [0; 9];
    assert_eq!(partial.read(1, &mut bytes).unwrap(), 2);
    assert_eq!((&bytes[..2], partial.has(3)), (&b"bc"[..], false));
    partial.write(3, b"def").unwrap();
    assert_eq!((partial.downloaded(), partial.missing()), (6, vec![]));
    let digest = Digest::of(Sha256::new().chain_update(b"abcdef"));
    let kept = cache.complete(partial, &digest).unwrap();
    assert_eq!(fs::read(kept.path()).unwrap(), b"abcdef");
    assert_eq!(files(&cache), 0);
}

#[test]
fn the_download_of_another_version_starts_empty_and_removes_the_partial_download() {
    let (_directory, cache) = cache();
    for other in [remote("2", 6), remote("1", 7)] {
        cache
            .start_download(remote("1", 6), PART)
            .unwrap()
            .write(0, b"abc")
            .unwrap();
        let mut partial = cache.start_download(other.clone(), PART).unwrap();
        assert_eq!((partial.downloaded(), files(&cache)), (0, 2));
        partial.write(0, b"x").unwrap();
        assert_eq!(
            cache.resumable_download("s3://b/m.onnx").unwrap(),
            resumable(other.clone(), once(1..other.size))
        );
    }
}

#[test]
fn a_declared_checksum_is_kept() {
    let (_directory, cache) = cache();
    let checksum = Some(Checksum {
        algorithm: crate::ids::ChecksumAlgorithm::Crc32,
        value: "AAAAAA==".to_owned(),
    });
    let declared = RemoteFile {
        checksum: checksum.clone(),
        ..remote("1", 6)
    };
    drop(cache.start_download(declared, PART).unwrap());
    assert_eq!(
        cache
            .start_download(remote("1", 6), PART)
            .unwrap()
            .remote()
            .checksum,
        checksum
    );
}

#[test]
fn concurrent_downloads_do_not_write_to_one_file() {
    let (_directory, cache) = cache();
    let mut first = cache.start_download(remote("1", 3), PART).unwrap();
    first.write(0, b"ab").unwrap();
    let mut second = cache.start_download(remote("1", 3), PART).unwrap();
    assert_eq!(second.downloaded(), 0);
    second.write(0, b"abc").unwrap();
    first.write(2, b"c").unwrap();
    let digest = Digest::of(Sha256::new().chain_update(b"abc"));
    for partial in [first, second] {
        let kept = cache.complete(partial, &digest).unwrap();
        assert_eq!(fs::read(kept.path()).unwrap(), b"abc");
    }
    assert_eq!(files(&cache), 0);
    let mut abandoned = cache.start_download(remote("2", 3), PART).unwrap();
    abandoned.write(0, b"ab").unwrap();
    let in_use = files(&cache);
    drop(cache.start_download(remote("3", 3), PART).unwrap());
    assert_eq!(
        files(&cache),
        in_use + 2,
        "a locked download is not removed"
    );
}

#[test]
fn a_download_that_waited_for_a_complete_file_starts_another_file() {
    let (_directory, cache) = cache();
    let mut first = cache.start_download(remote("1", 3), PART).unwrap();
    first.write(0, b"abc").unwrap();
    let path = cache.store.partials().download_path(first.remote());
    let opened = || {
        let fds = entries(Path::new("/proc/self/fd"));
        let of_it = |fd: &&PathBuf| fs::read_link(fd).is_ok_and(|file| file == path);
        fds.iter().filter(of_it).count()
    };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| cache.start_download(remote("1", 3), PART).unwrap());
        while opened() < 2 && !waiting.is_finished() {
            std::thread::yield_now();
        }
        let digest = Digest::of(Sha256::new().chain_update(b"abc"));
        let kept = cache.complete(first, &digest).unwrap();
        let mut second = waiting.join().unwrap();
        assert_eq!(second.downloaded(), 0);
        second.write(0, b"x").unwrap();
        assert_eq!(fs::read(kept.path()).unwrap(), b"abc");
    });
}

/// A partial download of 30 bytes, in parts of 10 that arrived out of order.
fn scattered(cache: &Cache) -> PartialDownload {
    let mut partial = cache.start_download(remote("1", 30), 10).unwrap();
    partial.prepare().unwrap();
    for (offset, bytes) in [(20, "uvwxyzUVWX"), (0, "abc"), (10, "kl"), (3, "d")] {
        partial.write(offset, bytes.as_bytes()).unwrap();
    }
    partial
}

#[test]
fn parts_written_in_any_order_are_resumed_each_from_its_count() {
    let (directory, cache) = cache();
    drop(scattered(&cache));
    let cache = Cache::open(directory.path()).unwrap();
    let found = cache.resumable_download("s3://b/m.onnx").unwrap();
    assert_eq!(found, resumable(remote("1", 30), [4..10, 12..20]));

    // The parts of the file take precedence over those of another function.
    let mut partial = cache.start_download(found.remote, 3).unwrap();
    assert_eq!(
        (partial.downloaded(), partial.missing()),
        (16, vec![4..10, 12..20])
    );
    partial.prepare().unwrap();
    partial.write(4, b"efghij").unwrap();
    partial.write(12, b"mnopqrst").unwrap();
    assert_eq!(partial.missing(), []);
    let digest = Digest::of(Sha256::new());
    let kept = cache.complete(partial, &digest).unwrap();
    let bytes = fs::read(kept.path()).unwrap();
    assert_eq!(bytes, b"abcdefghijklmnopqrstuvwxyzUVWX");
}

#[test]
fn an_invalid_partial_download_starts_anew() {
    let (_directory, cache) = cache();
    let partial = scattered(&cache);
    let length = partial.file().metadata().unwrap().len();
    // Longer than any file of this size, and truncated within the table.
    for wrong in [length + 1, length - 1] {
        partial.file().set_len(wrong).unwrap();
        assert!(cache.resumable_download("s3://b/m.onnx").is_none());
    }
    drop(partial);
    let partial = cache.start_download(remote("1", 30), 10).unwrap();
    assert_eq!((partial.downloaded(), partial.missing().len()), (0, 3));
}

#[test]
fn reserved_space_is_not_needed_again() {
    let (_directory, cache) = cache();
    let unallocated = || {
        let mut partial = cache.start_download(remote("1", 1 << 20), PART).unwrap();
        let bytes = partial.unallocated_bytes().unwrap();
        partial.prepare().unwrap();
        bytes
    };
    assert_eq!(unallocated(), 1 << 20);
    // Zero where the file system supports reservation, unchanged where it does not.
    assert!([0, 1 << 20].contains(&unallocated()));
}
