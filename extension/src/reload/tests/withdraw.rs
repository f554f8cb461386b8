//! Rollbacks: a version whose runs fail, and what the version before makes of the same inputs.

use super::*;
use crate::status::{Evidence, FailedInput, Replayed, RollbackOutcome};

/// An input that every version but those that begin with `fail` answers, and one on which each fails.
const GOOD: [f32; 2] = [1.0, 2.0];
const BAD: [f32; 2] = [-1.0, 2.0];

const KEPT: fn(Vec<Replayed>) -> RollbackOutcome = RollbackOutcome::Kept;

/// Nothing but failures, all with 500, of which these are inputs.
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

impl Bench {
    /// A bench with so much memory, on which a version is active that another one came before.
    async fn released(
        mode: Reload,
        before: &'static [u8],
        after: &'static [u8],
    ) -> (Self, Process, String) {
        let mut bench = Self::new(Ok(("1", before)));
        bench.mode = mode;
        let reloader = bench.start();
        reloader.check().await;
        let previous = bench.version(&reloader).unwrap();
        bench.holds(Ok(("2", after)));
        reloader.check().await;
        assert_ne!(bench.version(&reloader).as_ref(), Some(&previous));
        (bench, reloader, previous)
    }

    /// Rolls back what is active.
    async fn roll_back(&self, reloader: &Reloader, evidence: Evidence) -> RollbackOutcome {
        let active = reloader.shared.models.current(&self.name).unwrap();
        let digest = active.digest.clone();
        drop(active);
        reloader.roll_back(&digest, evidence).await
    }
}

#[tokio::test]
async fn the_version_before_answers_again_and_stays_until_the_source_changes() {
    let (bench, reloader, good) = Bench::released(Reload::Auto, b"model one", b"fails two").await;
    let outcome = bench.roll_back(&reloader, failures(6, &[GOOD; 3])).await;
    assert_eq!(outcome, RollbackOutcome::Replaced);
    assert_eq!(bench.version(&reloader).as_ref(), Some(&good));
    let reason = "6 of 6 runs failed inside ONNX Runtime, and the previous version succeeds on 3 of 3 failed inputs";
    assert!(bench.problem(&reloader).unwrap().contains(reason));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(bench.version(&reloader).as_ref(), Some(&good));
    assert!(bench.problem(&reloader).unwrap().contains(reason));
    // So does the start that follows, and the same bytes uploaded again are no new version.
    let again = bench.start();
    again.check().await;
    assert_eq!(bench.version(&again).as_ref(), Some(&good));
    assert!(bench.problem(&again).unwrap().contains(reason));
    assert_eq!(bench.transfers(), 2);
    bench.holds(Ok(("3", b"fails two")));
    assert_eq!(again.check().await, Outcome::Failed);
    assert_eq!(bench.version(&again).as_ref(), Some(&good));
    bench.holds(Ok(("4", b"model four")));
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.problem(&again), None);
}

#[tokio::test]
async fn inputs_on_which_the_version_before_fails_as_well_change_nothing() {
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
        let (bench, reloader, _) = Bench::released(mode, b"model one", b"model two").await;
        let active = bench.version(&reloader);
        let mut evidence = failures(1_000, inputs);
        evidence.succeeded = 4;
        let outcome = bench.roll_back(&reloader, evidence).await;
        assert_eq!(outcome, KEPT(results), "{mode:?} {inputs:?}");
        assert_eq!(bench.version(&reloader), active);
        assert_eq!(bench.problem(&reloader), None);
        // Nothing is held against it, and what was dropped is gone.
        assert_eq!(reloader.check().await, Outcome::Current);
        let again = bench.start();
        again.check().await;
        assert_eq!(bench.version(&again), active);
        drop(reloader);
        assert_eq!(bench.problem(&again), None);
    }
}

#[tokio::test]
async fn the_version_that_is_dropped_is_taken_apart_before_the_next_check() {
    let (bench, reloader, _) = Bench::released(Reload::Overlap, b"model one", b"model two").await;
    let outcome = bench.roll_back(&reloader, failures(6, &[BAD])).await;
    assert_eq!(outcome, KEPT(vec![Replayed::Failed]));
    bench.holds(Ok(("3", b"model three")));
    reloader.check().await;
    let alive = bench.seen.lock().unwrap().alive_before.clone();
    assert_eq!(alive.last(), Some(&1), "{alive:?}");
}

#[tokio::test]
async fn where_memory_does_not_hold_both_it_takes_a_clear_majority_of_many_runs() {
    let (bench, reloader, previous) =
        Bench::released(Reload::Replace, b"model one", b"fails two").await;
    let active = bench.version(&reloader);
    let loads = bench.loads();
    // Refused inputs do not count.
    let mut refused = failures(1_000, &[GOOD; 3]);
    refused.errors = 0;
    for evidence in [failures(20, &[GOOD; 3]), refused] {
        let outcome = bench.roll_back(&reloader, evidence).await;
        assert_eq!(outcome, RollbackOutcome::InsufficientEvidence);
        assert_eq!(
            (bench.version(&reloader), bench.loads()),
            (active.clone(), loads)
        );
        assert_eq!(bench.problem(&reloader), None);
    }
    // With inputs too large to be kept as well.
    let outcome = bench.roll_back(&reloader, failures(30, &[])).await;
    assert_eq!(outcome, RollbackOutcome::Replaced);
    assert_eq!(bench.version(&reloader), Some(previous));
    let problem = bench.problem(&reloader).unwrap();
    assert!(problem.contains("30 of 30 runs failed"), "{problem}");
}

#[tokio::test]
async fn without_an_input_to_compare_nothing_is_loaded_alongside() {
    let (bench, reloader, _) = Bench::released(Reload::Overlap, b"model one", b"fails two").await;
    let (active, loads) = (bench.version(&reloader), bench.loads());
    let outcome = bench.roll_back(&reloader, failures(1_000, &[])).await;
    assert_eq!(outcome, RollbackOutcome::InsufficientEvidence);
    assert_eq!((bench.version(&reloader), bench.loads()), (active, loads));
}

#[tokio::test]
async fn a_replay_that_does_not_end_says_nothing() {
    tokio::time::pause();
    let (bench, reloader, _) = Bench::released(Reload::Overlap, b"endless one", b"fails two").await;
    let active = bench.version(&reloader);
    let outcome = bench.roll_back(&reloader, failures(6, &[GOOD])).await;
    assert_eq!(outcome, KEPT(vec![Replayed::Unknown]));
    assert_eq!(bench.version(&reloader), active);
}

#[tokio::test]
async fn a_replay_takes_no_memory_that_is_not_there() {
    let mut bench = Bench::new(Ok(("1", b"model one")));
    (bench.mode, bench.free) = (Reload::Overlap, Some(1 << 20));
    let reloader = bench.start();
    reloader.check().await;
    bench.holds(Ok(("2", b"fails two")));
    reloader.check().await;
    let outcome = bench.roll_back(&reloader, failures(6, &[GOOD])).await;
    assert_eq!(outcome, KEPT(vec![Replayed::Unknown]));
    assert!(bench.seen.lock().unwrap().runs.is_empty());
}

#[tokio::test]
async fn a_process_that_dies_in_a_replay_blames_no_version() {
    let (bench, reloader, _) = Bench::released(Reload::Overlap, b"endless one", b"fails two").await;
    let active = bench.version(&reloader);
    let rollback = bench.roll_back(&reloader, failures(6, &[GOOD]));
    let runs = async {
        while bench.seen.lock().unwrap().runs.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        outcome = rollback => panic!("{outcome:?}"),
        () = runs => {}
    }
    // What the process leaves behind, as it is then.
    assert_eq!(
        std::fs::read_dir(bench.directory.path().join("loading"))
            .unwrap()
            .count(),
        0
    );
    let again = bench.start();
    again.check().await;
    assert_eq!(
        (bench.version(&again), bench.problem(&again)),
        (active, None)
    );
}

#[tokio::test]
async fn a_version_with_none_before_it_stays() {
    let bench = Bench::new(Ok(("1", b"fails one")));
    let reloader = bench.start();
    reloader.check().await;
    let only = bench.version(&reloader);
    let outcome = bench.roll_back(&reloader, failures(6, &[GOOD; 3])).await;
    assert_eq!(outcome, RollbackOutcome::Unavailable { may_retry: false });
    assert_eq!(bench.version(&reloader), only);
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(bench.problem(&reloader), None);
}

#[tokio::test]
async fn a_newer_version_in_the_source_is_moved_to_and_nothing_is_held_against_the_active_one() {
    let bench = Bench::new(Ok(("1", b"fails one")));
    let reloader = bench.start();
    reloader.check().await;
    let first = bench.version(&reloader);
    bench.holds(Ok(("2", b"model two")));
    let outcome = bench.roll_back(&reloader, failures(6, &[GOOD; 3])).await;
    assert_eq!(outcome, RollbackOutcome::Replaced);
    assert_ne!(bench.version(&reloader), first);
    assert_eq!(bench.problem(&reloader), None);
    bench.holds(Ok(("3", b"fails one")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
}

#[tokio::test]
async fn what_answers_no_more_is_not_rolled_back() {
    let (bench, reloader, previous) =
        Bench::released(Reload::Auto, b"model one", b"fails two").await;
    let old = reloader
        .shared
        .models
        .current(&bench.name)
        .unwrap()
        .digest
        .clone();
    bench.holds(Ok(("3", b"model three")));
    reloader.check().await;
    let new = bench.version(&reloader);
    let outcome = reloader.roll_back(&old, failures(6, &[GOOD; 3])).await;
    assert_eq!(outcome, RollbackOutcome::Replaced);
    assert_eq!(bench.version(&reloader), new);
    assert_ne!(new, Some(previous));
    assert_eq!(bench.problem(&reloader), None);
}
