//! Selection of the version that an environment runs.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::*;
use super::fixtures::{file, whole};
use crate::ids::ModelName;

/// A manifest with versions 5 to 8, current version 7 and previous version 6, extended by the fields of `more`.
fn manifest(more: &Value) -> Manifest {
    let version = json!({"files": [file("model.onnx")]});
    let mut manifest = json!({
        "format": FORMAT,
        "current": "7",
        "previous": "6",
        "versions": {"5": version, "6": version, "7": version, "8": version},
    });
    for (field, value) in more.as_object().unwrap() {
        manifest[field] = value.clone();
    }
    Manifest::parse(manifest.to_string().as_bytes()).unwrap()
}

fn model(name: &str) -> ModelName {
    ModelName::parse(name).unwrap()
}

/// Names of the selected version and its fallbacks, with the reason.
fn selected(manifest: &Manifest, choice: &Choice) -> (Vec<String>, SelectionReason) {
    let selection = manifest
        .select(choice, &model("fraud"), || RolloutPosition(1))
        .unwrap();
    let all = std::iter::once(&selection.version).chain(&selection.fallbacks);
    (
        all.map(|(name, _)| name.to_string()).collect(),
        selection.reason,
    )
}

fn version(name: &str) -> Choice {
    Choice::Version(name.to_owned())
}

fn label(name: &str) -> Choice {
    Choice::Label(name.to_owned())
}

#[test]
fn selection_and_fallbacks_follow_choice_and_canary() {
    let canary =
        |version: &str, percent: u8| json!({"canary": {"version": version, "percent": percent}});
    let labels = json!({
        "canary": {"version": "8", "percent": 100},
        "version_labels": {"stable": "5", "before": "6", "beta": "8"},
    });
    for (more, choice, names, why) in [
        (
            json!({}),
            Choice::Newest,
            &["7", "6"][..],
            SelectionReason::Current,
        ),
        (
            canary("8", 100),
            Choice::Newest,
            &["8", "7", "6"],
            SelectionReason::Canary,
        ),
        (
            canary("8", 0),
            Choice::Newest,
            &["7", "6"],
            SelectionReason::Current,
        ),
        (
            canary("7", 100),
            Choice::Newest,
            &["7", "6"],
            SelectionReason::Current,
        ),
        (
            canary("6", 100),
            Choice::Newest,
            &["6", "7"],
            SelectionReason::Canary,
        ),
        // A pinned or labelled environment runs no canary.
        (
            labels.clone(),
            version("7"),
            &["7"],
            SelectionReason::Pinned,
        ),
        (
            labels.clone(),
            version("5"),
            &["5"],
            SelectionReason::Pinned,
        ),
        (
            labels.clone(),
            label("stable"),
            &["5", "6"],
            SelectionReason::Labelled,
        ),
        (
            labels.clone(),
            label("beta"),
            &["8", "6"],
            SelectionReason::Labelled,
        ),
        (labels, label("before"), &["6"], SelectionReason::Labelled),
    ] {
        let (named, reason) = selected(&manifest(&more), &choice);
        assert_eq!(
            (&*named, reason),
            (
                &*names.iter().map(ToString::to_string).collect::<Vec<_>>(),
                why
            ),
            "{more}"
        );
    }
}

#[test]
fn an_unknown_name_is_reported_with_the_known_names() {
    let labelled = Manifest::parse(whole().to_string().as_bytes()).unwrap();
    for (manifest, choice, error) in [
        (
            &labelled,
            version("5"),
            "the manifest has no version \"5\"; its versions are 6.1, 7",
        ),
        (
            &labelled,
            label("beta"),
            "the manifest has no label \"beta\" in version_labels; its labels are latest, stable",
        ),
        (
            &manifest(&json!({})),
            label("beta"),
            "the manifest has no label \"beta\" in version_labels; its labels are none",
        ),
    ] {
        let rejection = manifest.select(&choice, &model("fraud"), || RolloutPosition(1));
        assert_eq!(rejection.unwrap_err().to_string(), error);
    }
}

/// Returns for each environment whether it runs a canary of this share.
fn share(of: &str, version: &str, percent: f64, draws: std::ops::Range<u64>) -> Vec<bool> {
    let manifest = manifest(&json!({"canary": {"version": version, "percent": percent}}));
    let runs = |draw| {
        let selection = manifest.select(&Choice::Newest, &model(of), || RolloutPosition(draw));
        selection.unwrap().reason == SelectionReason::Canary
    };
    draws.map(runs).collect()
}

fn count(which: impl Iterator<Item = bool>) -> usize {
    which.filter(|is| *is).count()
}

#[test]
fn share_matches_the_percentage_and_differs_between_canaries() {
    const MANY: u64 = 20_000;
    // Four standard deviations and more; the draws are always the same.
    for (percent, least, most) in [(1.0, 140, 260), (5.0, 870, 1_130), (50.0, 9_700, 10_300)] {
        let there = count(share("fraud", "8", percent, 0..MANY).into_iter());
        assert!((least..=most).contains(&there), "{percent} %: {there}");
    }
    let half = share("fraud", "8", 50.0, 0..MANY);
    for (of, version) in [("fraud", "5"), ("churn", "8")] {
        let other = share(of, version, 50.0, 0..MANY);
        let both = count(half.iter().zip(other).map(|(one, other)| *one && other));
        assert!((4_700..=5_300).contains(&both), "{of} {version}: {both}");
    }
}

proptest! {
    #[test]
    fn a_larger_share_keeps_every_environment_of_the_canary(draw in any::<u64>(), less in 0.0..=100.0, more in 0.0..=100.0) {
        let (less, more): (f64, f64) = if less < more { (less, more) } else { (more, less) };
        let is_in = |percent| share("fraud", "8", percent, draw..draw.saturating_add(1)) == [true];
        prop_assert!(!is_in(less) || is_in(more));
        prop_assert!(!is_in(0.0));
        prop_assert!(draw == u64::MAX || is_in(100.0));
    }
}
