//! The journal on a disk, over starts that end in every way.

use sha2::{Digest as _, Sha256};

use super::history::MAX_DEATHS;
use super::*;
use crate::cache::ModelRecord;
use crate::ids::ETag;
use crate::manifest::GoldenTensor;
use crate::tensor::Signature;

struct Bench {
    directory: tempfile::TempDir,
    model: ModelName,
}

impl Bench {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            model: ModelName::parse("wine").unwrap(),
        }
    }

    /// The journal as a new process finds it.
    fn start(&self) -> Journal {
        let cache = Cache::open(self.directory.path()).unwrap();
        cache.journal(&self.model, "s3://b/wine.onnx")
    }
}

fn record(version: &str) -> ModelRecord {
    let model = FileRecord {
        path: FilePath::parse("wine.onnx").unwrap(),
        identity: Identity {
            etag: ETag(format!("\"{version}\"")),
            version_id: None,
        },
        size: 9,
        digest: Digest::of(Sha256::new().chain_update(version)),
    };
    ModelRecord::new(model, Vec::new(), None)
}

impl Journal {
    /// The newest version that may be loaded, whether its terms are known or not.
    fn usable(&self) -> Option<ModelRecord> {
        let history = self.history();
        let newest = history.newest().filter(|_| history.rejection().is_none());
        newest.or(history.last_active()).cloned()
    }

    fn seen_whole(&mut self, record: &ModelRecord) {
        self.update(|history| history.set_candidate(record.clone(), None));
    }
}

fn load(journal: &mut Journal, record: &ModelRecord) {
    journal.seen_whole(record);
    journal.begin_load(&record.digest()).unwrap();
    journal.end_load();
    journal.update(|history| history.accept(record, Signature::default()));
}

#[test]
fn a_version_that_killed_the_process_gives_way_to_the_good_one() {
    let bench = Bench::new();
    let (good, bad) = (record("1"), record("2"));
    let mut first = bench.start();
    load(&mut first, &good);
    first.seen_whole(&bad);
    first.begin_load(&bad.digest()).unwrap();
    drop(first);
    let mut second = bench.start();
    assert_eq!(
        second.history().newest(),
        Some(&bad),
        "the source is asked for what differs from it"
    );
    assert_eq!(second.usable().as_ref(), Some(&good));
    assert!(
        second
            .history()
            .rejection()
            .unwrap()
            .contains("died while it loaded")
    );
    // It stays refused, also when the same bytes are put there again; other bytes are not.
    let mut again = bad;
    again.model.identity = record("3").model.identity;
    second.seen_whole(&again);
    assert_eq!(bench.start().usable().as_ref(), Some(&good));
    second.seen_whole(&record("4"));
    assert_eq!(bench.start().usable().as_ref(), Some(&record("4")));
}

#[test]
fn a_version_with_nothing_behind_it_is_tried_three_times() {
    let bench = Bench::new();
    let only = record("1");
    bench.start().seen_whole(&only);
    for _ in 0..MAX_DEATHS {
        let journal = bench.start();
        assert_eq!(journal.usable().as_ref(), Some(&only));
        journal.begin_load(&only.digest()).unwrap();
    }
    let journal = bench.start();
    assert_eq!(journal.usable().as_ref(), None);
    assert!(
        journal
            .history()
            .rejection()
            .unwrap()
            .contains("died 3 times")
    );
}

#[test]
fn a_version_that_was_active_here_is_tried_three_times_though_there_is_another() {
    let bench = Bench::new();
    let (earlier, active) = (record("1"), record("2"));
    let mut first = bench.start();
    load(&mut first, &earlier);
    load(&mut first, &active);
    for _ in 0..MAX_DEATHS {
        let journal = bench.start();
        assert_eq!(journal.usable().as_ref(), Some(&active));
        journal.begin_load(&active.digest()).unwrap();
    }
    assert_eq!(bench.start().usable().as_ref(), Some(&earlier));
}

#[test]
fn of_several_loads_in_which_a_process_died_none_is_blamed() {
    let bench = Bench::new();
    load(&mut bench.start(), &record("1"));
    let mut first = bench.start();
    first.seen_whole(&record("2"));
    first.begin_load(&record("2").digest()).unwrap();
    let cache = Cache::open(bench.directory.path()).unwrap();
    assert!(
        cache.requires_sequential_loads(),
        "one death names one version"
    );
    let other = ModelName::parse("other").unwrap();
    let other = cache.journal(&other, "s3://b/other.onnx");
    other.begin_load(&record("3").digest()).unwrap();
    let cache = Cache::open(bench.directory.path()).unwrap();
    assert!(cache.requires_sequential_loads());
    assert_eq!(bench.start().usable().as_ref(), Some(&record("2")));
}

#[test]
fn a_start_after_another_one_in_the_same_environment_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Cache::open(directory.path()).unwrap();
    assert!(!open().is_restart());
    let bench = Bench {
        directory,
        model: ModelName::parse("wine").unwrap(),
    };
    bench.start().seen_whole(&record("1"));
    assert!(Cache::open(bench.directory.path()).unwrap().is_restart());
}

#[test]
fn a_load_that_succeeds_clears_what_came_before() {
    let bench = Bench::new();
    let only = record("1");
    bench.start().seen_whole(&only);
    bench.start().begin_load(&only.digest()).unwrap();
    let mut second = bench.start();
    load(&mut second, &only);
    for _ in 0..MAX_DEATHS - 1 {
        bench.start().begin_load(&only.digest()).unwrap();
    }
    assert_eq!(bench.start().usable().as_ref(), Some(&only));
}

#[test]
fn an_end_in_good_order_is_no_death() {
    let bench = Bench::new();
    let mut first = bench.start();
    load(&mut first, &record("1"));
    first.seen_whole(&record("2"));
    first.begin_load(&record("2").digest()).unwrap();
    Cache::open(bench.directory.path()).unwrap().close_loads();
    assert_eq!(bench.start().usable().as_ref(), Some(&record("2")));
}

#[test]
fn a_death_in_a_warm_up_costs_the_example_alone() {
    let bench = Bench::new();
    let only = record("1");
    let tensor = r#"{"name": "x", "shape": [2], "datatype": "BYTES", "data": [ "a", "\u00e9" ]}"#;
    let example: Vec<GoldenTensor> = vec![serde_json::from_str(tensor).unwrap()];
    let published = ManifestMetadata {
        manifest: record("m").model.identity,
        example: Some(example.clone()),
        criteria: record("t").digest(),
    };
    bench
        .start()
        .update(|history| history.set_candidate(only.clone(), Some(published)));
    let begin = |journal: &Journal| {
        journal.begin_load(&only.digest()).unwrap();
        journal.warm_up_callback(&only.digest())
    };
    // Removed before the warm-up begins.
    let journal = bench.start();
    let warm_up_callback = begin(&journal);
    Cache::open(bench.directory.path()).unwrap().close_loads();
    warm_up_callback();
    let journal = bench.start();
    assert_eq!(journal.history().example(&only), Some(&example[..]));
    begin(&journal)();
    for journal in [bench.start(), bench.start()] {
        assert_eq!(journal.usable().as_ref(), Some(&only));
        assert_eq!(journal.history().example(&only), None);
    }
}

#[test]
fn what_is_known_of_another_place_is_of_no_use() {
    let bench = Bench::new();
    load(&mut bench.start(), &record("1"));
    let cache = Cache::open(bench.directory.path()).unwrap();
    assert_eq!(
        cache
            .journal(&bench.model, "s3://b/other.onnx")
            .history()
            .newest(),
        None
    );
    fs::write(cache.journal_path(&bench.model), b"{\"torn").unwrap();
    assert_eq!(bench.start().history().newest(), None);
}
