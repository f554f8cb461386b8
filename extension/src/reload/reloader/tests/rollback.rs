//! Rollbacks: a version whose runs fail, and the replay of their inputs on the previous version.

use super::*;
use crate::rollback::{Evidence, FailedInput, Replayed, RollbackOutcome};

/// An input on which only versions that begin with `fail` fail, and one on which every version fails.
const GOOD: [f32; 2] = [1.0, 2.0];
const BAD: [f32; 2] = [-1.0, 2.0];

const KEPT: fn(Vec<Replayed>) -> RollbackOutcome = RollbackOutcome::Kept;

/// Evidence of failures alone, all with 500, with these inputs.
fn failures(count: u32, inputs: &[[f32; 2]]) -> Evidence {
    let input = |row: &[f32; 2]| {
        let x = Tensor::new(vec![1, 2], row.to_vec()).unwrap();
        Arc::new(FailedInput {
            inputs: vec![("x".to_owned(), Value::Tensor(x))],
            outputs: Vec::new(),
        })
    };
    Evidence {
        unverified: count,
        errors: count,
        inputs: inputs.iter().map(input).collect(),
        ..Evidence::default()
    }
}

impl Fixture {
    /// A fixture with `free` bytes of memory, with an active and a previous version.
    async fn released(
        mode: Reload,
        before: &'static [u8],
        after: &'static [u8],
    ) -> (Self, Process, String) {
        let mut fixture = Self::new(Ok(("1", before)));
        fixture.mode = mode;
        let reloader = fixture.start();
        reloader.check().await;
        let previous = fixture.version(&reloader).unwrap();
        fixture.holds(Ok(("2", after)));
        reloader.check().await;
        assert_ne!(fixture.version(&reloader).as_ref(), Some(&previous));
        (fixture, reloader, previous)
    }

    /// Rolls back the active version.
    async fn roll_back(&self, reloader: &Reloader, evidence: Evidence) -> RollbackOutcome {
        let active = reloader.shared.models.current(&self.name).unwrap();
        let digest = active.digest.clone();
        drop(active);
        reloader.roll_back(&digest, evidence).await
    }
}

#[tokio::test]
async fn the_previous_version_is_active_again_until_the_source_changes() {
    let (fixture, reloader, good) =
        Fixture::released(Reload::Auto, b"model one", b"fails two").await;
    let outcome = fixture.roll_back(&reloader, failures(6, &[GOOD; 3])).await;
    assert_eq!(outcome, RollbackOutcome::Replaced);
    assert_eq!(fixture.version(&reloader).as_ref(), Some(&good));
    let reason = "6 of 6 runs failed inside ONNX Runtime, and the previous version succeeds on 3 of 3 failed inputs";
    assert!(fixture.problem(&reloader).unwrap().contains(reason));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(fixture.version(&reloader).as_ref(), Some(&good));
    assert!(fixture.problem(&reloader).unwrap().contains(reason));
    // The next start also keeps the good version, and the same bytes uploaded again are not a new version.
    let again = fixture.start();
    again.check().await;
    assert_eq!(fixture.version(&again).as_ref(), Some(&good));
    assert!(fixture.problem(&again).unwrap().contains(reason));
    assert_eq!(fixture.transfers(), 2);
    fixture.holds(Ok(("3", b"fails two")));
    assert_eq!(again.check().await, Outcome::Failed);
    assert_eq!(fixture.version(&again).as_ref(), Some(&good));
    fixture.holds(Ok(("4", b"model four")));
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.problem(&again), None);
}

#[tokio::test]
async fn inputs_on_which_the_previous_version_fails_as_well_change_nothing() {
    use Replayed::{Failed, Succeeded};
    for (mode, inputs, results) in [
        (Reload::Overlap, &[BAD; 3][..], vec![Failed; 3]),
        (
            Reload::Overlap,
            &[BAD, GOOD, BAD],
            vec![Failed, Succeeded, Failed],
        ),
        (Reload::Replace, &[BAD, BAD], vec![Failed; 2]),
    ] {
        let (fixture, reloader, _) = Fixture::released(mode, b"model one", b"model two").await;
        let active = fixture.version(&reloader);
        let mut evidence = failures(1_000, inputs);
        evidence.succeeded = 4;
        let outcome = fixture.roll_back(&reloader, evidence).await;
        assert_eq!(outcome, KEPT(results), "{mode:?} {inputs:?}");
        assert_eq!(fixture.version(&reloader), active);
        assert_eq!(fixture.problem(&reloader), None);
        // Neither a check nor another start rejects the version.
        assert_eq!(reloader.check().await, Outcome::Current);
        let again = fixture.start();
        again.check().await;
        assert_eq!(fixture.version(&again), active);
        drop(reloader);
        assert_eq!(fixture.problem(&again), None);
    }
}

#[tokio::test]
async fn an_unconfirmed_version_is_dropped_before_the_next_check() {
    let (fixture, reloader, _) =
        Fixture::released(Reload::Overlap, b"model one", b"model two").await;
    let outcome = fixture.roll_back(&reloader, failures(6, &[BAD])).await;
    assert_eq!(outcome, KEPT(vec![Replayed::Failed]));
    fixture.holds(Ok(("3", b"model three")));
    reloader.check().await;
    let alive = fixture.seen.lock().unwrap().alive_before.clone();
    assert_eq!(alive.last(), Some(&1), "{alive:?}");
}

#[tokio::test]
async fn where_memory_does_not_hold_both_it_takes_a_clear_majority_of_many_runs() {
    let (fixture, reloader, previous) =
        Fixture::released(Reload::Replace, b"model one", b"fails two").await;
    let active = fixture.version(&reloader);
    let loads = fixture.loads();
    // Failures with 400 do not count.
    let mut rejected = failures(1_000, &[GOOD; 3]);
    rejected.errors = 0;
    for evidence in [failures(20, &[GOOD; 3]), rejected] {
        let outcome = fixture.roll_back(&reloader, evidence).await;
        assert_eq!(outcome, RollbackOutcome::InsufficientEvidence);
        assert_eq!(
            (fixture.version(&reloader), fixture.loads()),
            (active.clone(), loads)
        );
        assert_eq!(fixture.problem(&reloader), None);
    }
    // The same with inputs that are too large for the sample.
    let outcome = fixture.roll_back(&reloader, failures(30, &[])).await;
    assert_eq!(outcome, RollbackOutcome::Replaced);
    assert_eq!(fixture.version(&reloader), Some(previous));
    let problem = fixture.problem(&reloader).unwrap();
    assert!(problem.contains("30 of 30 runs failed"), "{problem}");
}

#[tokio::test]
async fn without_an_input_to_compare_nothing_is_loaded_alongside() {
    let (fixture, reloader, _) =
        Fixture::released(Reload::Overlap, b"model one", b"fails two").await;
    let (active, loads) = (fixture.version(&reloader), fixture.loads());
    let outcome = fixture.roll_back(&reloader, failures(1_000, &[])).await;
    assert_eq!(outcome, RollbackOutcome::InsufficientEvidence);
    assert_eq!(
        (fixture.version(&reloader), fixture.loads()),
        (active, loads)
    );
}

#[tokio::test]
async fn a_replay_that_does_not_end_proves_nothing() {
    tokio::time::pause();
    let (fixture, reloader, _) =
        Fixture::released(Reload::Overlap, b"endless one", b"fails two").await;
    let active = fixture.version(&reloader);
    let outcome = fixture.roll_back(&reloader, failures(6, &[GOOD])).await;
    assert_eq!(outcome, KEPT(vec![Replayed::Unknown]));
    assert_eq!(fixture.version(&reloader), active);
}

#[tokio::test]
async fn a_replay_runs_only_with_free_memory() {
    let mut fixture = Fixture::new(Ok(("1", b"model one")));
    (fixture.mode, fixture.free) = (Reload::Overlap, Some(1 << 20));
    let reloader = fixture.start();
    reloader.check().await;
    fixture.holds(Ok(("2", b"fails two")));
    reloader.check().await;
    let outcome = fixture.roll_back(&reloader, failures(6, &[GOOD])).await;
    assert_eq!(outcome, KEPT(vec![Replayed::Unknown]));
    assert!(fixture.seen.lock().unwrap().runs.is_empty());
}

#[tokio::test]
async fn a_process_that_dies_in_a_replay_blames_no_version() {
    let (fixture, reloader, _) =
        Fixture::released(Reload::Overlap, b"endless one", b"fails two").await;
    let active = fixture.version(&reloader);
    let rollback = fixture.roll_back(&reloader, failures(6, &[GOOD]));
    let runs = async {
        while fixture.seen.lock().unwrap().runs.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        outcome = rollback => panic!("{outcome:?}"),
        () = runs => {}
    }
    // The interrupted rollback leaves no load marker.
    assert_eq!(
        std::fs::read_dir(fixture.directory.path().join("loading"))
            .unwrap()
            .count(),
        0
    );
    let again = fixture.start();
    again.check().await;
    assert_eq!(
        (fixture.version(&again), fixture.problem(&again)),
        (active, None)
    );
}

#[tokio::test]
async fn without_a_previous_version_the_active_one_stays() {
    let fixture = Fixture::new(Ok(("1", b"fails one")));
    let reloader = fixture.start();
    reloader.check().await;
    let only = fixture.version(&reloader);
    let outcome = fixture.roll_back(&reloader, failures(6, &[GOOD; 3])).await;
    assert_eq!(outcome, RollbackOutcome::Unavailable { may_retry: false });
    assert_eq!(fixture.version(&reloader), only);
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(fixture.problem(&reloader), None);
}

#[tokio::test]
async fn a_newer_version_in_the_source_replaces_the_active_one_without_a_rejection() {
    let fixture = Fixture::new(Ok(("1", b"fails one")));
    let reloader = fixture.start();
    reloader.check().await;
    let first = fixture.version(&reloader);
    fixture.holds(Ok(("2", b"model two")));
    let outcome = fixture.roll_back(&reloader, failures(6, &[GOOD; 3])).await;
    assert_eq!(outcome, RollbackOutcome::Replaced);
    assert_ne!(fixture.version(&reloader), first);
    assert_eq!(fixture.problem(&reloader), None);
    fixture.holds(Ok(("3", b"fails one")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
}

#[tokio::test]
async fn a_version_that_is_no_longer_active_is_not_rolled_back() {
    let (fixture, reloader, previous) =
        Fixture::released(Reload::Auto, b"model one", b"fails two").await;
    let old = reloader
        .shared
        .models
        .current(&fixture.name)
        .unwrap()
        .digest
        .clone();
    fixture.holds(Ok(("3", b"model three")));
    reloader.check().await;
    let new = fixture.version(&reloader);
    let outcome = reloader.roll_back(&old, failures(6, &[GOOD; 3])).await;
    assert_eq!(outcome, RollbackOutcome::Replaced);
    assert_eq!(fixture.version(&reloader), new);
    assert_ne!(new, Some(previous));
    assert_eq!(fixture.problem(&reloader), None);
}
