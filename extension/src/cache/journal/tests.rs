//! The journal on disk, across processes that end in every way.

use sha2::{Digest as _, Sha256};

use super::history::MAX_INTERRUPTED_LOADS;
use super::*;
use crate::cache::{Cache, ModelRecord};
use crate::ids::ETag;
use crate::manifest::GoldenTensor;
use crate::tensor::Signature;

struct JournalEnvironment {
    directory: tempfile::TempDir,
    model: ModelName,
}

impl JournalEnvironment {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            model: ModelName::parse("wine").unwrap(),
        }
    }

    /// Opens the journal as a new process does.
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
    /// Returns the newest version that may be loaded, whether its criteria are known or not.
    fn usable(&self) -> Option<ModelRecord> {
        let history = self.history();
        let newest = history.newest().filter(|_| history.rejection().is_none());
        newest.or(history.last_active()).cloned()
    }

    fn download(&mut self, record: &ModelRecord) {
        self.update(|history| history.set_candidate(record.clone(), None));
    }
}

fn load(journal: &mut Journal, record: &ModelRecord) {
    journal.download(record);
    journal.begin_load(&record.digest()).unwrap();
    journal.end_load();
    journal.update(|history| history.accept(record, Signature::default()));
}

#[test]
fn a_version_that_ended_the_process_is_replaced_by_the_last_active_one() {
    let environment = JournalEnvironment::new();
    let (active, bad) = (record("1"), record("2"));
    let mut first = environment.start();
    load(&mut first, &active);
    first.download(&bad);
    first.begin_load(&bad.digest()).unwrap();
    drop(first);
    let mut second = environment.start();
    assert_eq!(
        second.history().newest(),
        Some(&bad),
        "the next check is conditional on the rejected version"
    );
    assert_eq!(second.usable().as_ref(), Some(&active));
    assert!(
        second
            .history()
            .rejection()
            .unwrap()
            .contains("the process ended while it loaded")
    );
    // The same bytes stay rejected under a new identity; other bytes are not rejected.
    let mut again = bad;
    again.model.identity = record("3").model.identity;
    second.download(&again);
    assert_eq!(environment.start().usable().as_ref(), Some(&active));
    second.download(&record("4"));
    assert_eq!(environment.start().usable().as_ref(), Some(&record("4")));
}

#[test]
fn a_version_without_an_alternative_is_tried_three_times() {
    let environment = JournalEnvironment::new();
    let only = record("1");
    environment.start().download(&only);
    for _ in 0..MAX_INTERRUPTED_LOADS {
        let journal = environment.start();
        assert_eq!(journal.usable().as_ref(), Some(&only));
        journal.begin_load(&only.digest()).unwrap();
    }
    let journal = environment.start();
    assert_eq!(journal.usable().as_ref(), None);
    assert!(
        journal
            .history()
            .rejection()
            .unwrap()
            .contains("the process ended 3 times")
    );
}

#[test]
fn a_version_that_was_active_is_tried_three_times_despite_an_alternative() {
    let environment = JournalEnvironment::new();
    let (earlier, active) = (record("1"), record("2"));
    let mut first = environment.start();
    load(&mut first, &earlier);
    load(&mut first, &active);
    for _ in 0..MAX_INTERRUPTED_LOADS {
        let journal = environment.start();
        assert_eq!(journal.usable().as_ref(), Some(&active));
        journal.begin_load(&active.digest()).unwrap();
    }
    assert_eq!(environment.start().usable().as_ref(), Some(&earlier));
}

#[test]
fn several_interrupted_loads_blame_no_version() {
    let environment = JournalEnvironment::new();
    load(&mut environment.start(), &record("1"));
    let mut first = environment.start();
    first.download(&record("2"));
    first.begin_load(&record("2").digest()).unwrap();
    let cache = Cache::open(environment.directory.path()).unwrap();
    assert!(cache.requires_sequential_loads(), "one marker");
    let other = ModelName::parse("other").unwrap();
    let other = cache.journal(&other, "s3://b/other.onnx");
    other.begin_load(&record("3").digest()).unwrap();
    let cache = Cache::open(environment.directory.path()).unwrap();
    assert!(cache.requires_sequential_loads());
    assert_eq!(environment.start().usable().as_ref(), Some(&record("2")));
}

#[test]
fn a_restart_in_the_same_environment_is_detected() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Cache::open(directory.path()).unwrap();
    assert!(!open().is_restart());
    let environment = JournalEnvironment {
        directory,
        model: ModelName::parse("wine").unwrap(),
    };
    environment.start().download(&record("1"));
    assert!(
        Cache::open(environment.directory.path())
            .unwrap()
            .is_restart()
    );
}

#[test]
fn a_successful_load_resets_the_count_of_interrupted_loads() {
    let environment = JournalEnvironment::new();
    let only = record("1");
    environment.start().download(&only);
    environment.start().begin_load(&only.digest()).unwrap();
    let mut second = environment.start();
    load(&mut second, &only);
    for _ in 0..MAX_INTERRUPTED_LOADS - 1 {
        environment.start().begin_load(&only.digest()).unwrap();
    }
    assert_eq!(environment.start().usable().as_ref(), Some(&only));
}

#[test]
fn a_shutdown_during_a_load_is_no_interrupted_load() {
    let environment = JournalEnvironment::new();
    let mut first = environment.start();
    load(&mut first, &record("1"));
    first.download(&record("2"));
    first.begin_load(&record("2").digest()).unwrap();
    Cache::open(environment.directory.path())
        .unwrap()
        .close_loads();
    assert_eq!(environment.start().usable().as_ref(), Some(&record("2")));
}

#[test]
fn an_interrupted_warm_up_removes_only_the_example() {
    let environment = JournalEnvironment::new();
    let only = record("1");
    let tensor = r#"{"name": "x", "shape": [2], "datatype": "BYTES", "data": [ "a", "\u00e9" ]}"#;
    let example: Vec<GoldenTensor> = vec![serde_json::from_str(tensor).unwrap()];
    let published = ManifestMetadata {
        manifest: record("m").model.identity,
        example: Some(example.clone()),
        baseline: Vec::new(),
        criteria: record("t").digest(),
    };
    environment
        .start()
        .update(|history| history.set_candidate(only.clone(), Some(published)));
    let begin = |journal: &Journal| {
        journal.begin_load(&only.digest()).unwrap();
        journal.warm_up_callback(&only.digest())
    };
    // The marker is removed before the warm-up begins.
    let journal = environment.start();
    let warm_up_callback = begin(&journal);
    Cache::open(environment.directory.path())
        .unwrap()
        .close_loads();
    warm_up_callback();
    let journal = environment.start();
    assert_eq!(journal.history().example(&only), Some(&example[..]));
    begin(&journal)();
    for journal in [environment.start(), environment.start()] {
        assert_eq!(journal.usable().as_ref(), Some(&only));
        assert_eq!(journal.history().example(&only), None);
    }
}

#[test]
fn a_journal_of_another_location_or_a_damaged_one_is_not_used() {
    let environment = JournalEnvironment::new();
    load(&mut environment.start(), &record("1"));
    let cache = Cache::open(environment.directory.path()).unwrap();
    assert_eq!(
        cache
            .journal(&environment.model, "s3://b/other.onnx")
            .history()
            .newest(),
        None
    );
    fs::write(cache.journals.path_of(&environment.model), b"{\"torn").unwrap();
    assert_eq!(environment.start().history().newest(), None);
}
