//! Versions that fail, callers that make any version fail, and what is neither.

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;

fn version(number: u64) -> Key {
    let digest = Digest::of(Sha256::new().chain_update(number.to_le_bytes()));
    (digest, Timestamp(number))
}

impl Trial {
    fn told(&mut self, (digest, loaded_at): Key, ended: Ended) -> Option<Doubt> {
        self.note(&digest, loaded_at, ended)
    }
}

fn ended(failed: bool) -> Ended {
    if failed { Ended::Failed } else { Ended::Well }
}

/// Runs a version; after how many runs it was doubted.
fn run(trial: &mut Trial, number: u64, runs: impl IntoIterator<Item = bool>) -> Option<u32> {
    let mut runs = (1..).zip(runs);
    let doubted = runs.find(|&(_, failed)| trial.told(version(number), ended(failed)).is_some());
    doubted.map(|(count, _)| count)
}

/// Every `n`th run fails.
fn every(n: u32) -> impl Iterator<Item = bool> {
    (1..).map(move |run| run % n == 0)
}

fn never() -> impl Iterator<Item = bool> {
    std::iter::repeat(false)
}

fn always() -> impl Iterator<Item = bool> {
    std::iter::repeat(true)
}

#[test]
fn a_version_that_always_fails_is_doubted_at_its_third_run_whatever_was_before() {
    let mut first = Trial::default();
    assert_eq!(run(&mut first, 1, always()), Some(3), "nothing was before");
    for runs_before in [1, 5, 1_000] {
        let mut trial = Trial::default();
        assert_eq!(run(&mut trial, 1, never().take(runs_before)), None);
        assert_eq!(run(&mut trial, 2, always()), Some(3), "after {runs_before}");
    }
}

#[test]
fn a_version_that_fails_at_times_is_doubted_where_the_one_before_did_not() {
    let mut trial = Trial::default();
    run(&mut trial, 1, never().take(200));
    assert_eq!(run(&mut trial, 2, every(5)), Some(15));
    // Without a judge it takes more than half.
    let mut trial = Trial::default();
    assert_eq!(run(&mut trial, 2, every(2).take(200)), None);
}

#[test]
fn callers_who_make_any_version_fail_move_nothing() {
    for share in [1, 2, 3, 10, 40] {
        let mut trial = Trial::default();
        run(&mut trial, 1, every(share).take(200));
        assert_eq!(run(&mut trial, 2, every(share).take(500)), None, "{share}");
    }
    let mut trial = Trial::default();
    run(&mut trial, 1, every(2).take(200));
    assert_eq!(
        run(&mut trial, 2, always().take(200)),
        None,
        "nobody is to judge"
    );
}

#[test]
fn a_version_that_has_proved_itself_is_doubted_no_more() {
    let mut trial = Trial::default();
    run(&mut trial, 1, never().take(200));
    run(&mut trial, 2, never().take(100));
    assert_eq!(run(&mut trial, 2, always().take(500)), None);
}

#[test]
fn a_doubt_comes_again_until_it_is_settled() {
    let mut trial = Trial::default();
    assert_eq!(run(&mut trial, 1, always()), Some(3));
    assert_eq!(run(&mut trial, 1, [false]), None, "a success raises none");
    let doubt = trial.told(version(1), Ended::Failed).unwrap();
    assert_eq!(
        doubt.to_string(),
        "4 of the version's first 5 runs failed inside ONNX Runtime"
    );
    trial.settle();
    assert_eq!(run(&mut trial, 1, always().take(200)), None);
}

#[test]
fn the_version_that_returns_is_not_doubted_for_the_sake_of_the_one_that_failed_and_the_next_is() {
    let mut trial = Trial::default();
    run(&mut trial, 1, never().take(200));
    assert_eq!(run(&mut trial, 2, always()), Some(3));
    trial.settle();
    // One that began before the version answers again.
    assert_eq!(run(&mut trial, 2, always().take(1)), None);
    let again = (version(1).0, Timestamp(3));
    for _ in 0..20 {
        assert_eq!(trial.told(again.clone(), Ended::Well), None);
    }
    assert_eq!(
        run(&mut trial, 2, always().take(9)),
        None,
        "late ones say nothing"
    );
    assert_eq!(run(&mut trial, 4, always()), Some(3));
}

proptest! {
    /// In what order whatever comes: nobody is doubted without failures enough, nor where more than a third failed before.
    #[test]
    fn a_doubt_always_has_its_grounds(runs in prop::collection::vec((0..4_u64, any::<bool>()), 0..600)) {
        let mut trial = Trial::default();
        for (number, failed) in runs {
            if let Some(doubt) = trial.told(version(number), ended(failed)) {
                prop_assert!(failed && doubt.failed >= 3 && doubt.failed <= doubt.runs && doubt.runs <= 100);
                prop_assert!(3 * doubt.failed_before < doubt.runs_before + 3);
                trial.settle();
            }
        }
    }
}

#[test]
fn a_graph_that_refuses_whatever_comes_is_doubted_where_the_version_before_took_it() {
    let refused = |trial: &mut Trial, number| {
        (1..=10).find(|_| trial.told(version(number), Ended::RefusedInside).is_some())
    };
    let mut first = Trial::default();
    assert_eq!(refused(&mut first, 1), None, "it may well be the caller");
    for (runs_before, doubted) in [(JUDGE - 1, None), (JUDGE, Some(3))] {
        let mut trial = Trial::default();
        assert_eq!(run(&mut trial, 1, never().take(runs_before as usize)), None);
        assert_eq!(refused(&mut trial, 2), doubted, "after {runs_before}");
    }
    // Callers that make any version refuse have changed themselves.
    let mut trial = Trial::default();
    for _ in 0..50 {
        trial.told(version(1), Ended::Well);
        trial.told(version(1), Ended::RefusedInside);
    }
    assert_eq!(refused(&mut trial, 2), None);
}
