//! Eviction on a real directory, also against a reference model.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::cache::directory::entries;
use crate::cache::{
    Cache, CacheSettings, CachedFile, FileRecord, ModelRecord, RejectionCause, RemoteFile,
};
use crate::ids::{ETag, FilePath, Identity, ModelName};
use crate::tensor::Signature;

/// Size of every file, in bytes.
const SIZE: usize = 16 * 1024;

struct TestCache {
    directory: tempfile::TempDir,
    cache: Cache,
}

impl TestCache {
    /// A cache with space for this number of files.
    fn with(files: u64) -> Self {
        Self::open(&CacheSettings {
            max_bytes: Some(files * SIZE as u64),
            ..CacheSettings::default()
        })
    }

    fn open(settings: &CacheSettings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open_with(directory.path(), settings).unwrap();
        Self { directory, cache }
    }

    /// Adds a file that was last used at this second.
    fn add_file(&self, which: u8, second: u64) -> (CachedFile, Digest) {
        let bytes = [which; SIZE];
        let digest = Digest::of(Sha256::new().chain_update(bytes));
        let file = self.cache.store.lease(&digest);
        fs::write(file.path(), bytes).unwrap();
        use_at(file.path(), second);
        (file, digest)
    }

    /// Adds a file that the journal of a model references as last active.
    fn add_active(&self, model: &str, which: u8, second: u64) -> Digest {
        let (_, record) = self.add_candidate(model, which, second);
        let model = ModelName::parse(model).unwrap();
        let mut journal = self.cache.journal(&model, "s3://b/k");
        journal.update(|history| history.accept(&record, Signature::default()));
        record.digest()
    }

    /// Adds a file that the journal of a model references as candidate.
    fn add_candidate(&self, model: &str, which: u8, second: u64) -> (CachedFile, ModelRecord) {
        let (file, digest) = self.add_file(which, second);
        let model_file = FileRecord {
            path: FilePath::parse("m.onnx").unwrap(),
            identity: Identity {
                etag: ETag(which.to_string()),
                version_id: None,
            },
            size: SIZE as u64,
            digest,
        };
        let record = ModelRecord::new(model_file, Vec::new(), None);
        let model = ModelName::parse(model).unwrap();
        let mut journal = self.cache.journal(&model, "s3://b/k");
        journal.update(|history| history.set_candidate(record.clone(), None));
        (file, record)
    }

    fn has(&self) -> BTreeSet<u8> {
        let files = entries(&self.directory.path().join("files")).into_iter();
        files.map(|file| fs::read(file).unwrap()[0]).collect()
    }

    fn free_space(&self, files: u64) -> Result<(), InsufficientSpace> {
        self.cache.free_space(files * SIZE as u64, &[])
    }
}

fn use_at(path: &Path, second: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + second);
    File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn earlier_versions_are_evicted_for_space_in_the_order_of_their_last_use() {
    let test = TestCache::with(4);
    for which in 1..=3 {
        test.add_active("m", which, u64::from(which));
    }
    test.cache.sweep();
    assert_eq!(test.has(), [1, 2, 3].into());
    // The first version is used again.
    let digest = test.add_file(1, 1).1;
    drop(test.cache.find(&digest).unwrap());
    test.free_space(2).unwrap();
    assert_eq!(test.has(), [1, 3].into());
}

#[test]
fn leased_files_and_last_active_versions_are_never_evicted() {
    let test = TestCache::with(4);
    test.add_active("m", 1, 1);
    test.add_active("other", 2, 2);
    let (leased, _) = test.add_file(3, 3);
    test.add_file(4, 4);
    let error = test.free_space(2).unwrap_err();
    assert_eq!(
        test.has(),
        [1, 2, 3, 4].into(),
        "nothing is evicted in vain"
    );
    let size = SIZE as u64;
    let expected = InsufficientSpace {
        required: 2 * size,
        available: size,
        retained: 3 * size,
        limit: Some(4 * size),
    };
    assert_eq!(error, expected);
    let message = "not enough cache space for the model: 32768 bytes are required, 16384 bytes are available in \
                   MODEL_CACHE_DIR, 49152 bytes are in use by active, loading and fallback versions; raise MODEL_CACHE_MB, \
                   which allows 65536 bytes";
    assert_eq!(error.to_string(), message);
    test.free_space(1).unwrap();
    assert_eq!(test.has(), [1, 2, 3].into());
    drop(leased);
    test.free_space(2).unwrap();
    assert_eq!(test.has(), [1, 2].into());
}

#[test]
fn expendable_files_are_evicted_last_and_never_while_leased() {
    let test = TestCache::with(3);
    let active = test.add_active("m", 1, 1);
    test.add_file(2, 2);
    let (leased, other) = test.add_file(3, 3);
    let expendable = [active, other];
    let free_space = |files: u64| test.cache.free_space(files * SIZE as u64, &expendable);
    free_space(1).unwrap();
    assert_eq!(test.has(), [1, 3].into());
    assert!(free_space(3).is_err(), "a file is leased");
    free_space(2).unwrap();
    assert_eq!(test.has(), [3].into());
    drop(leased);
    free_space(3).unwrap();
    assert_eq!(test.has(), [].into());
}

#[test]
fn the_file_of_a_rejected_version_is_removed_by_the_next_sweep() {
    let test = TestCache::with(9);
    test.add_active("m", 1, 1);
    let (file, record) = test.add_candidate("m", 2, 2);
    let model = ModelName::parse("m").unwrap();
    let mut journal = test.cache.journal(&model, "s3://b/k");
    journal.update(|history| history.reject(&record, RejectionCause::Content, "damaged"));
    test.cache.sweep();
    assert_eq!(test.has(), [1, 2].into(), "leased");
    drop(file);
    test.cache.sweep();
    assert_eq!(test.has(), [1].into());
}

#[test]
fn an_abandoned_partial_download_is_evicted_unless_it_is_locked() {
    let test = TestCache::with(2);
    let remote = |which: &str| RemoteFile {
        location: format!("s3://b/{which}"),
        identity: Identity {
            etag: ETag("1".to_owned()),
            version_id: None,
        },
        size: 1 << 20,
        checksum: None,
    };
    let begin = |which: &str| {
        let mut partial = test.cache.start_download(remote(which), 1 << 20).unwrap();
        partial.write(0, &[7; SIZE / 2]).unwrap();
        partial
    };
    let locked = begin("locked");
    drop(begin("abandoned"));
    test.free_space(1).unwrap();
    assert!(test.cache.resumable_download("s3://b/locked").is_some());
    assert!(test.cache.resumable_download("s3://b/abandoned").is_none());
    drop(locked);
}

#[test]
fn without_a_configured_limit_the_disk_is_the_limit() {
    let test = TestCache::open(&CacheSettings::default());
    test.add_active("m", 1, 1);
    let error = test.cache.free_space(1 << 60, &[]).unwrap_err();
    assert_eq!(error.limit, None);
    assert!(
        error
            .to_string()
            .ends_with("; raise the function's ephemeral storage")
    );
    let limits = |total| SpaceLimits::new(None, Some(Disk { total, free: 0 })).swept;
    let mb = 1024 * 1024;
    assert_eq!(
        [limits(512 * mb), limits(1 << 50)],
        [256 * mb, MAX_UNREFERENCED_BYTES]
    );
}

#[test]
fn nothing_is_evicted_from_a_shared_directory() {
    let test = TestCache::open(&CacheSettings {
        max_bytes: Some(SIZE as u64),
        is_shared: Some(true),
        private_directory: None,
    });
    test.add_file(1, 1);
    test.add_file(2, 2);
    test.cache.sweep();
    assert!(test.free_space(1).is_err());
    assert_eq!(test.has(), [1, 2].into());
}

/// State of a file with respect to eviction.
#[derive(Clone, Copy, Debug)]
enum FileUse {
    Unreferenced,
    Leased,
    Active,
    Expendable,
}

fn file_state() -> impl Strategy<Value = FileUse> {
    prop_oneof![
        4 => Just(FileUse::Unreferenced),
        1 => Just(FileUse::Leased),
        1 => Just(FileUse::Active),
        1 => Just(FileUse::Expendable),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Reference model: unreferenced files are evicted in the order of their last use, then expendable ones, until the
    /// required space is free. Nothing is evicted if that is not enough.
    #[test]
    fn eviction_agrees_with_the_reference_model(
        files in proptest::collection::vec((file_state(), 0..50_u64), 0..9),
        most in 1..12_u64,
        needs in 0..12_u64,
    ) {
        let test = TestCache::with(most);
        let (mut leases, mut expendable) = (Vec::new(), Vec::new());
        let mut candidates = Vec::new();
        for (which, (state, second)) in (0_u8..).zip(&files) {
            // Distinct times: for equal ones the order would depend on the names.
            let used = second * 16 + u64::from(which);
            match state {
                FileUse::Unreferenced => drop(test.add_file(which, used)),
                FileUse::Leased => leases.push(test.add_file(which, used)),
                FileUse::Active => drop(test.add_active(&format!("m{which}"), which, used)),
                FileUse::Expendable => expendable.push(test.add_active(&format!("m{which}"), which, used)),
            }
            match state {
                FileUse::Unreferenced => candidates.push((false, used, which)),
                FileUse::Expendable => candidates.push((true, used, which)),
                FileUse::Leased | FileUse::Active => {}
            }
        }
        let mut left: BTreeSet<u8> = (0..).zip(&files).map(|(which, _)| which).collect();
        let all = left.clone();
        candidates.sort_unstable();
        let mut next = candidates.into_iter();
        let fits = loop {
            if left.len() as u64 + needs <= most {
                break true;
            }
            let Some((_, _, which)) = next.next() else {
                break false;
            };
            left.remove(&which);
        };
        let result = test.cache.free_space(needs * SIZE as u64, &expendable);
        prop_assert_eq!(result.is_ok(), fits || needs == 0, "{:?}", result);
        if fits {
            prop_assert_eq!(test.has(), left);
        } else if needs > 0 {
            prop_assert_eq!(test.has(), all);
        }
    }
}
