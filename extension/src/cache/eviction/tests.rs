//! What goes and what stays, on a real directory and against a model of it.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::cache::{
    CacheSettings, CachedFile, FileRecord, ModelRecord, RejectionCause, RemoteFile,
};
use crate::ids::{ETag, FilePath, Identity, ModelName};
use crate::tensor::Signature;

/// What every file here takes of the disk.
const SIZE: usize = 16 * 1024;

struct Bench {
    _directory: tempfile::TempDir,
    cache: Cache,
}

impl Bench {
    /// A cache that may take so many files.
    fn with(files: u64) -> Self {
        Self::open(&CacheSettings {
            max_bytes: Some(files * SIZE as u64),
            ..CacheSettings::default()
        })
    }

    fn open(settings: &CacheSettings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::open_with(directory.path(), settings).unwrap();
        Self {
            _directory: directory,
            cache,
        }
    }

    /// A whole file, used last at this second.
    fn keep(&self, which: u8, second: u64) -> (CachedFile, Digest) {
        let bytes = [which; SIZE];
        let digest = Digest::of(Sha256::new().chain_update(bytes));
        let file = self.cache.lease(&digest);
        fs::write(file.path(), bytes).unwrap();
        use_at(file.path(), second);
        (file, digest)
    }

    /// A file that the journal of a model names as the last that was good.
    fn load(&self, model: &str, which: u8, second: u64) -> Digest {
        let (_, record) = self.fetched(model, which, second);
        let model = ModelName::parse(model).unwrap();
        let mut journal = self.cache.journal(&model, "s3://b/k");
        journal.update(|history| history.accept(&record, Signature::default()));
        record.digest()
    }

    fn fetched(&self, model: &str, which: u8, second: u64) -> (CachedFile, ModelRecord) {
        let (file, digest) = self.keep(which, second);
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
        let files = entries(&self.cache.files).into_iter();
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
fn earlier_versions_stay_while_there_is_room_and_go_in_the_order_of_their_use() {
    let bench = Bench::with(4);
    for which in 1..=3 {
        bench.load("m", which, u64::from(which));
    }
    bench.cache.sweep();
    assert_eq!(bench.has(), [1, 2, 3].into());
    // The first answers once more.
    let digest = bench.keep(1, 1).1;
    drop(bench.cache.find(&digest).unwrap());
    bench.free_space(2).unwrap();
    assert_eq!(bench.has(), [1, 3].into());
}

#[test]
fn what_is_in_hand_or_the_last_good_one_never_goes() {
    let bench = Bench::with(4);
    bench.load("m", 1, 1);
    bench.load("other", 2, 2);
    let (in_hand, _) = bench.keep(3, 3);
    bench.keep(4, 4);
    let refused = bench.free_space(2).unwrap_err();
    assert_eq!(bench.has(), [1, 2, 3, 4].into(), "in vain nothing goes");
    let size = SIZE as u64;
    let expected = InsufficientSpace {
        required: 2 * size,
        available: size,
        retained: 3 * size,
        limit: Some(4 * size),
    };
    assert_eq!(refused, expected);
    let words = "no room for the model: it needs 32768 bytes, and MODEL_CACHE_DIR has 16384 free, beside 49152 bytes of \
                 what is loaded, is being loaded or was the last that could be, of the 65536 that MODEL_CACHE_MB allows";
    assert_eq!(refused.to_string(), words);
    bench.free_space(1).unwrap();
    assert_eq!(bench.has(), [1, 2, 3].into());
    drop(in_hand);
    bench.free_space(2).unwrap();
    assert_eq!(bench.has(), [1, 2].into());
}

#[test]
fn what_is_given_up_goes_last_and_only_from_nobodys_hand() {
    let bench = Bench::with(3);
    let good = bench.load("m", 1, 1);
    bench.keep(2, 2);
    let (in_hand, other) = bench.keep(3, 3);
    let give_up = [good, other];
    let free_space = |files: u64| bench.cache.free_space(files * SIZE as u64, &give_up);
    free_space(1).unwrap();
    assert_eq!(bench.has(), [1, 3].into());
    assert!(free_space(3).is_err(), "one is in hand");
    free_space(2).unwrap();
    assert_eq!(bench.has(), [3].into());
    drop(in_hand);
    free_space(3).unwrap();
    assert_eq!(bench.has(), [].into());
}

#[test]
fn a_version_that_could_not_be_loaded_goes_at_once() {
    let bench = Bench::with(9);
    bench.load("m", 1, 1);
    let (file, record) = bench.fetched("m", 2, 2);
    let model = ModelName::parse("m").unwrap();
    let mut journal = bench.cache.journal(&model, "s3://b/k");
    journal.update(|history| history.reject(&record, RejectionCause::Content, "of no use"));
    bench.cache.sweep();
    assert_eq!(bench.has(), [1, 2].into(), "in hand");
    drop(file);
    bench.cache.sweep();
    assert_eq!(bench.has(), [1].into());
}

#[test]
fn a_transfer_that_was_given_up_goes_too_unless_somebody_is_at_it() {
    let bench = Bench::with(2);
    let wanted = |which: &str| RemoteFile {
        location: format!("s3://b/{which}"),
        identity: Identity {
            etag: ETag("1".to_owned()),
            version_id: None,
        },
        size: 1 << 20,
        checksum: None,
    };
    let begin = |which: &str| {
        let mut partial = bench.cache.partial(wanted(which), 1 << 20).unwrap();
        partial.write(0, &[7; SIZE / 2]).unwrap();
        partial
    };
    let under_way = begin("begun");
    drop(begin("given-up"));
    bench.free_space(1).unwrap();
    assert!(bench.cache.unfinished("s3://b/begun").is_some());
    assert!(bench.cache.unfinished("s3://b/given-up").is_none());
    drop(under_way);
}

#[test]
fn the_disk_is_a_limit_where_no_other_is_set() {
    let bench = Bench::open(&CacheSettings::default());
    bench.load("m", 1, 1);
    let refused = bench.cache.free_space(1 << 60, &[]).unwrap_err();
    assert_eq!(refused.limit, None);
    assert!(
        refused
            .to_string()
            .ends_with("(raise the function's ephemeral storage)")
    );
    let limits = |total| Limits::new(None, Some(Disk { total, free: 0 })).keep;
    let mb = 1024 * 1024;
    assert_eq!([limits(512 * mb), limits(1 << 50)], [256 * mb, MAX_KEPT]);
}

#[test]
fn a_directory_that_others_share_is_left_as_it_is() {
    let bench = Bench::open(&CacheSettings {
        max_bytes: Some(SIZE as u64),
        is_shared: Some(true),
        private_directory: None,
    });
    bench.keep(1, 1);
    bench.keep(2, 2);
    bench.cache.sweep();
    assert!(bench.free_space(1).is_err());
    assert_eq!(bench.has(), [1, 2].into());
}

/// What a file is to those who make room.
#[derive(Clone, Copy, Debug)]
enum Tie {
    None,
    InHand,
    Good,
    GivenUp,
}

fn tie() -> impl Strategy<Value = Tie> {
    prop_oneof![
        4 => Just(Tie::None),
        1 => Just(Tie::InHand),
        1 => Just(Tie::Good),
        1 => Just(Tie::GivenUp),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The model: the file that goes next is the one that was used first of those with no tie, then of those that were
    /// given up; until there is room, and none if that does not help.
    #[test]
    fn files_go_as_in_a_simple_model(
        files in proptest::collection::vec((tie(), 0..50_u64), 0..9),
        most in 1..12_u64,
        needs in 0..12_u64,
    ) {
        let bench = Bench::with(most);
        let (mut hands, mut given_up) = (Vec::new(), Vec::new());
        let mut spare = Vec::new();
        for (which, (tie, second)) in (0_u8..).zip(&files) {
            // No two are used at once: which of them goes first would be a matter of their names.
            let used = second * 16 + u64::from(which);
            match tie {
                Tie::None => drop(bench.keep(which, used)),
                Tie::InHand => hands.push(bench.keep(which, used)),
                Tie::Good => drop(bench.load(&format!("m{which}"), which, used)),
                Tie::GivenUp => given_up.push(bench.load(&format!("m{which}"), which, used)),
            }
            match tie {
                Tie::None => spare.push((false, used, which)),
                Tie::GivenUp => spare.push((true, used, which)),
                Tie::InHand | Tie::Good => {}
            }
        }
        let mut left: BTreeSet<u8> = (0..).zip(&files).map(|(which, _)| which).collect();
        let all = left.clone();
        spare.sort_unstable();
        let mut next = spare.into_iter();
        let fits = loop {
            if left.len() as u64 + needs <= most {
                break true;
            }
            let Some((_, _, which)) = next.next() else {
                break false;
            };
            left.remove(&which);
        };
        let made = bench.cache.free_space(needs * SIZE as u64, &given_up);
        prop_assert_eq!(made.is_ok(), fits || needs == 0, "{:?}", made);
        if fits {
            prop_assert_eq!(bench.has(), left);
        } else if needs > 0 {
            prop_assert_eq!(bench.has(), all);
        }
    }
}
