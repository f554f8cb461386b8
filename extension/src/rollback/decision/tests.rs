//! Table of the rules for a rollback.

use super::Replayed::{Failed, Succeeded, Unknown};
use super::*;

fn evidence(succeeded: u32, confirmed: u32, unverified: u32, errors: u32) -> Evidence {
    Evidence {
        succeeded,
        confirmed,
        unverified,
        errors,
        inputs: Vec::new(),
    }
}

#[test]
fn a_rollback_takes_more_than_half_of_at_least_six_runs() {
    for (succeeded, failures, is_majority) in [
        (0, 5, false),
        (0, 6, true),
        (2, 3, false),
        (2, 4, true),
        (3, 3, false),
        (3, 4, true),
        (30, 30, false),
        (30, 31, true),
        (97, 3, false),
    ] {
        let earlier = u32::from(succeeded > 0);
        let evidence = evidence(succeeded, earlier, failures - earlier, 0);
        assert_eq!(evidence.is_majority(), is_majority, "{evidence:?}");
        let confirms = evidence.confirms(&[Succeeded; 3], false);
        assert_eq!(confirms, is_majority, "{evidence:?}");
    }
}

#[test]
fn failures_count_if_the_previous_version_succeeds_on_their_inputs() {
    for (succeeded, unverified, replayed, confirms) in [
        (0, 60, &[Failed, Failed, Failed][..], false),
        (4, 60, &[Failed], false),
        (4, 60, &[Unknown, Unknown, Unknown], false),
        (0, 6, &[Succeeded, Succeeded, Unknown], true),
        // Four of six failures count, which are too few runs. Then eight of twelve count.
        (0, 6, &[Succeeded, Succeeded, Failed], false),
        (0, 12, &[Succeeded, Succeeded, Failed], true),
        // One failure counted before.
        (8, 12, &[Succeeded, Succeeded, Failed], true),
        (9, 12, &[Succeeded, Succeeded, Failed], false),
        // After a successful run, most replays must succeed.
        (1, 60, &[Succeeded, Failed, Failed], false),
        (0, 60, &[Succeeded, Failed, Failed], true),
        (0, 60, &[], false),
    ] {
        let evidence = evidence(succeeded, u32::from(succeeded > 0), unverified, 0);
        let what = format!("{evidence:?} {replayed:?}");
        assert_eq!(evidence.confirms(replayed, false), confirms, "{what}");
    }
}

#[test]
fn failures_that_counted_before_still_do() {
    assert!(evidence(5, 4, 6, 0).confirms(&[Succeeded, Succeeded, Failed], false));
    assert!(!evidence(5, 0, 6, 0).confirms(&[Succeeded, Succeeded, Failed], false));
    assert!(!evidence(5, 100, 6, 0).confirms(&[Failed], false));
}

#[test]
fn after_a_successful_run_a_rollback_takes_two_samples() {
    assert!(!evidence(4, 0, 100, 0).confirms(&[Succeeded; 3], false));
    assert!(evidence(4, 1, 100, 0).confirms(&[Succeeded; 3], false));
    assert!(evidence(0, 0, 100, 0).confirms(&[Succeeded; 3], false));
}

#[test]
fn without_replays_a_rollback_takes_a_clear_majority_of_many_500s() {
    for (succeeded, errors, is_clear) in [
        (0, 29, false),
        (0, 30, true),
        (10, 30, false),
        (9, 30, true),
        (0, 0, false),
    ] {
        // Failures with 400 do not matter.
        let evidence = evidence(succeeded, 50, 1_000, errors);
        assert_eq!(evidence.is_clear_majority(), is_clear, "{evidence:?}");
        assert_eq!(evidence.suffices(true), is_clear, "{evidence:?}");
        assert!(!evidence.suffices(false), "no inputs to replay");
    }
}

#[test]
fn a_previous_version_loaded_in_place_stays_unless_all_replays_fail() {
    let evidence = evidence(0, 0, 30, 30);
    for (replayed, confirms) in [
        (&[][..], true),
        (&[Unknown], true),
        (&[Failed, Succeeded, Failed], true),
        (&[Failed, Failed, Unknown], false),
    ] {
        assert_eq!(evidence.confirms(replayed, true), confirms, "{replayed:?}");
    }
}

#[test]
fn the_reason_names_the_replays() {
    let evidence = evidence(2, 1, 6, 3);
    assert_eq!(
        evidence.reason(&[Succeeded, Failed, Unknown]),
        "7 of 9 runs failed inside ONNX Runtime, and the previous version succeeds on 1 of 2 failed inputs"
    );
    assert_eq!(
        evidence.reason(&[Unknown]),
        "7 of 9 runs failed inside ONNX Runtime"
    );
}
