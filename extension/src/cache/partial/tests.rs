//! PartialDownload files from one process to the next.

use std::iter::once;

use super::*;
use crate::ids::ETag;

/// More than any file here has.
const PART: u64 = 1 << 20;

fn wanted(etag: &str, size: u64) -> RemoteFile {
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

fn unfinished(
    wanted: RemoteFile,
    missing: impl IntoIterator<Item = Range<u64>>,
) -> ResumableDownload {
    let missing = missing.into_iter().collect();
    ResumableDownload { wanted, missing }
}

fn files(cache: &Cache) -> usize {
    entries(&cache.partials).len()
}

#[test]
fn what_has_arrived_is_found_by_the_next_process_and_is_gone_once_whole() {
    let (directory, cache) = cache();
    let mut partial = cache.partial(wanted("1", 6), PART).unwrap();
    assert!(cache.unfinished("s3://b/m.onnx").is_none(), "no byte yet");
    partial.write(0, b"abc").unwrap();
    drop(partial);

    let cache = Cache::open(directory.path()).unwrap();
    assert!(cache.unfinished("s3://b/other.onnx").is_none());
    let found = cache.unfinished("s3://b/m.onnx").unwrap();
    assert_eq!(found, unfinished(wanted("1", 6), once(3..6)));
    let mut partial = cache.partial(found.wanted, PART).unwrap();
    partial.prepare().unwrap();
    let mut bytes = [0; 9];
    assert_eq!(partial.read(1, &mut bytes).unwrap(), 2);
    assert_eq!((&bytes[..2], partial.has(3)), (&b"bc"[..], false));
    partial.write(3, b"def").unwrap();
    assert_eq!((partial.have(), partial.missing()), (6, vec![]));
    let digest = Digest::of(Sha256::new().chain_update(b"abcdef"));
    let kept = cache.complete(partial, &digest).unwrap();
    assert_eq!(fs::read(kept.path()).unwrap(), b"abcdef");
    assert_eq!(files(&cache), 0);
}

#[test]
fn another_version_begins_at_nothing_and_removes_what_was_left_of_the_last() {
    let (_directory, cache) = cache();
    for other in [wanted("2", 6), wanted("1", 7)] {
        cache
            .partial(wanted("1", 6), PART)
            .unwrap()
            .write(0, b"abc")
            .unwrap();
        let mut partial = cache.partial(other.clone(), PART).unwrap();
        assert_eq!((partial.have(), files(&cache)), (0, 2));
        partial.write(0, b"x").unwrap();
        assert_eq!(
            cache.unfinished("s3://b/m.onnx").unwrap(),
            unfinished(other.clone(), once(1..other.size))
        );
    }
}

#[test]
fn a_checksum_that_was_declared_once_is_kept() {
    let (_directory, cache) = cache();
    let checksum = Some(Checksum {
        algorithm: crate::ids::ChecksumAlgorithm::Crc32,
        value: "AAAAAA==".to_owned(),
    });
    let declared = RemoteFile {
        checksum: checksum.clone(),
        ..wanted("1", 6)
    };
    drop(cache.partial(declared, PART).unwrap());
    assert_eq!(
        cache
            .partial(wanted("1", 6), PART)
            .unwrap()
            .wanted()
            .checksum,
        checksum
    );
}

#[test]
fn two_at_once_do_not_write_into_one_file() {
    let (_directory, cache) = cache();
    let mut first = cache.partial(wanted("1", 3), PART).unwrap();
    first.write(0, b"ab").unwrap();
    let mut second = cache.partial(wanted("1", 3), PART).unwrap();
    assert_eq!(second.have(), 0);
    second.write(0, b"abc").unwrap();
    first.write(2, b"c").unwrap();
    let digest = Digest::of(Sha256::new().chain_update(b"abc"));
    for partial in [first, second] {
        let kept = cache.complete(partial, &digest).unwrap();
        assert_eq!(fs::read(kept.path()).unwrap(), b"abc");
    }
    assert_eq!(files(&cache), 0);
    let mut given_up = cache.partial(wanted("2", 3), PART).unwrap();
    given_up.write(0, b"ab").unwrap();
    let in_use = files(&cache);
    drop(cache.partial(wanted("3", 3), PART).unwrap());
    assert_eq!(files(&cache), in_use + 2, "another's is not swept");
}

#[test]
fn whoever_waited_for_a_file_that_became_whole_begins_another() {
    let (_directory, cache) = cache();
    let mut first = cache.partial(wanted("1", 3), PART).unwrap();
    first.write(0, b"abc").unwrap();
    let path = cache
        .partials
        .join(format!("{}.part", stem(first.wanted())));
    let opened = || {
        let fds = entries(Path::new("/proc/self/fd"));
        let of_it = |fd: &&PathBuf| fs::read_link(fd).is_ok_and(|file| file == path);
        fds.iter().filter(of_it).count()
    };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| cache.partial(wanted("1", 3), PART).unwrap());
        while opened() < 2 && !waiting.is_finished() {
            std::thread::yield_now();
        }
        let digest = Digest::of(Sha256::new().chain_update(b"abc"));
        let kept = cache.complete(first, &digest).unwrap();
        let mut second = waiting.join().unwrap();
        assert_eq!(second.have(), 0);
        second.write(0, b"x").unwrap();
        assert_eq!(fs::read(kept.path()).unwrap(), b"abc");
    });
}

/// What is here of a file of 30 bytes in parts of 10 whose parts came in no order.
fn scattered(cache: &Cache) -> PartialDownload {
    let mut partial = cache.partial(wanted("1", 30), 10).unwrap();
    partial.prepare().unwrap();
    for (offset, bytes) in [(20, "uvwxyzUVWX"), (0, "abc"), (10, "kl"), (3, "d")] {
        partial.write(offset, bytes.as_bytes()).unwrap();
    }
    partial
}

#[test]
fn parts_that_came_in_any_order_are_found_each_with_its_beginning() {
    let (directory, cache) = cache();
    drop(scattered(&cache));
    let cache = Cache::open(directory.path()).unwrap();
    let found = cache.unfinished("s3://b/m.onnx").unwrap();
    assert_eq!(found, unfinished(wanted("1", 30), [4..10, 12..20]));

    // Another function might have other parts; the file has its own.
    let mut partial = cache.partial(found.wanted, 3).unwrap();
    assert_eq!(
        (partial.have(), partial.missing()),
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
fn one_that_makes_no_sense_begins_anew() {
    let (_directory, cache) = cache();
    let partial = scattered(&cache);
    let length = partial.file.metadata().unwrap().len();
    // Longer than any file of this size, and cut in the middle of what it says of itself.
    for wrong in [length + 1, length - 1] {
        partial.file.set_len(wrong).unwrap();
        assert!(cache.unfinished("s3://b/m.onnx").is_none());
    }
    drop(partial);
    let partial = cache.partial(wanted("1", 30), 10).unwrap();
    assert_eq!((partial.have(), partial.missing().len()), (0, 3));
}

#[test]
fn what_is_reserved_already_is_not_needed_again() {
    let (_directory, cache) = cache();
    let needs = || {
        let mut partial = cache.partial(wanted("1", 1 << 20), PART).unwrap();
        let needs = partial.needs().unwrap();
        partial.prepare().unwrap();
        needs
    };
    assert_eq!(needs(), 1 << 20);
    // Nothing where the file system can reserve, and no more than before where it cannot.
    assert!([0, 1 << 20].contains(&needs()));
}
