//! The rule for a rollback, as a table.

use super::Replayed::{Answered, Failed, Unknown};
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
        let evidence = evidence(succeeded, 0, failures, 0);
        assert_eq!(evidence.is_majority(), is_majority, "{evidence:?}");
        let confirms = evidence.confirms(&[Answered; 3], false);
        assert_eq!(confirms, is_majority, "{evidence:?}");
    }
}

#[test]
fn failures_count_as_far_as_the_previous_version_answers_their_inputs() {
    for (succeeded, unverified, replayed, confirms) in [
        (0, 60, &[Failed, Failed, Failed][..], false),
        (4, 60, &[Failed], false),
        (4, 60, &[Unknown, Unknown, Unknown], false),
        (0, 6, &[Answered, Answered, Unknown], true),
        // Four of six count, which are too few runs, and then eight.
        (0, 6, &[Answered, Answered, Failed], false),
        (0, 12, &[Answered, Answered, Failed], true),
        (7, 12, &[Answered, Answered, Failed], true),
        (8, 12, &[Answered, Answered, Failed], false),
        // A version that has answered something is not rolled back for an exception.
        (1, 60, &[Answered, Failed, Failed], false),
        (0, 60, &[Answered, Failed, Failed], true),
        (0, 60, &[], false),
    ] {
        let evidence = evidence(succeeded, 0, unverified, 0);
        let what = format!("{evidence:?} {replayed:?}");
        assert_eq!(evidence.confirms(replayed, false), confirms, "{what}");
    }
}

#[test]
fn failures_that_counted_before_still_do() {
    assert!(evidence(5, 4, 6, 0).confirms(&[Answered, Answered, Failed], false));
    assert!(!evidence(5, 0, 6, 0).confirms(&[Answered, Answered, Failed], false));
    assert!(!evidence(5, 100, 6, 0).confirms(&[Failed], false));
}

#[test]
fn where_nothing_is_compared_it_takes_a_clear_majority_of_many_runs_with_500() {
    for (succeeded, errors, is_clear) in [
        (0, 29, false),
        (0, 30, true),
        (10, 30, false),
        (9, 30, true),
        (0, 0, false),
    ] {
        // Refused inputs do not matter, however many.
        let evidence = evidence(succeeded, 50, 1_000, errors);
        assert_eq!(evidence.is_clear_majority(), is_clear, "{evidence:?}");
        assert_eq!(evidence.suffices(true), is_clear, "{evidence:?}");
        assert!(!evidence.suffices(false), "there is nothing to compare");
    }
}

#[test]
fn a_previous_version_in_the_place_of_the_active_one_stays_unless_it_fails_on_all_inputs() {
    let evidence = evidence(0, 0, 30, 30);
    for (replayed, confirms) in [
        (&[][..], true),
        (&[Unknown], true),
        (&[Failed, Answered, Failed], true),
        (&[Failed, Failed, Unknown], false),
    ] {
        assert_eq!(evidence.confirms(replayed, true), confirms, "{replayed:?}");
    }
}

#[test]
fn the_reason_says_what_was_compared() {
    let evidence = evidence(2, 1, 6, 3);
    assert_eq!(
        evidence.reason(&[Answered, Failed, Unknown]),
        "7 of 9 runs failed inside ONNX Runtime, and the previous version answers 1 of 2 failed inputs"
    );
    assert_eq!(
        evidence.reason(&[Unknown]),
        "7 of 9 runs failed inside ONNX Runtime"
    );
}
