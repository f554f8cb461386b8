//! Which version an environment runs.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::*;
use super::fixtures::{file, whole};
use crate::config::Choice;
use crate::ids::ModelName;

/// Versions 5 to 8, of which 7 is current and 6 was before, with more fields.
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

/// The chosen version and its stand-ins by name, and why.
fn chosen(manifest: &Manifest, choice: &Choice) -> (Vec<String>, Why) {
    let chosen = manifest
        .choose(choice, &model("fraud"), || RolloutPosition(1))
        .unwrap();
    let all = std::iter::once(&chosen.version).chain(&chosen.stand_ins);
    (all.map(|(name, _)| name.to_string()).collect(), chosen.why)
}

fn version(name: &str) -> Choice {
    Choice::Version(name.to_owned())
}

fn label(name: &str) -> Choice {
    Choice::Label(name.to_owned())
}

#[test]
fn what_is_chosen_and_what_stands_in_for_it() {
    let canary =
        |version: &str, percent: u8| json!({"canary": {"version": version, "percent": percent}});
    let labels = json!({
        "canary": {"version": "8", "percent": 100},
        "version_labels": {"stable": "5", "before": "6", "beta": "8"},
    });
    for (more, choice, names, why) in [
        (json!({}), Choice::Newest, &["7", "6"][..], Why::Current),
        (
            canary("8", 100),
            Choice::Newest,
            &["8", "7", "6"],
            Why::Canary,
        ),
        (canary("8", 0), Choice::Newest, &["7", "6"], Why::Current),
        (canary("7", 100), Choice::Newest, &["7", "6"], Why::Current),
        (canary("6", 100), Choice::Newest, &["6", "7"], Why::Canary),
        // Whoever pins, or follows a label, is no guinea pig.
        (labels.clone(), version("7"), &["7"], Why::Pinned),
        (labels.clone(), version("5"), &["5"], Why::Pinned),
        (labels.clone(), label("stable"), &["5", "6"], Why::Labelled),
        (labels.clone(), label("beta"), &["8", "6"], Why::Labelled),
        (labels, label("before"), &["6"], Why::Labelled),
    ] {
        let (named, reason) = chosen(&manifest(&more), &choice);
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
fn what_is_not_there_is_named_with_what_is() {
    let labelled = Manifest::parse(whole().to_string().as_bytes()).unwrap();
    for (manifest, choice, error) in [
        (
            &labelled,
            version("5"),
            "the manifest's versions: there is no \"5\"; there are 6.1, 7",
        ),
        (
            &labelled,
            label("beta"),
            "the manifest's version_labels: there is no \"beta\"; there are latest, stable",
        ),
        (
            &manifest(&json!({})),
            label("beta"),
            "the manifest's version_labels: there is no \"beta\"; there are none",
        ),
    ] {
        let refused = manifest.choose(&choice, &model("fraud"), || RolloutPosition(1));
        assert_eq!(refused.unwrap_err().to_string(), error);
    }
}

/// Whether these environments run a canary of this share.
fn share(of: &str, version: &str, percent: f64, draws: std::ops::Range<u64>) -> Vec<bool> {
    let manifest = manifest(&json!({"canary": {"version": version, "percent": percent}}));
    let runs = |draw| {
        let chosen = manifest.choose(&Choice::Newest, &model(of), || RolloutPosition(draw));
        chosen.unwrap().why == Why::Canary
    };
    draws.map(runs).collect()
}

fn count(which: impl Iterator<Item = bool>) -> usize {
    which.filter(|is| *is).count()
}

#[test]
fn the_share_is_as_set_and_another_version_has_others() {
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
    fn whoever_is_in_stays_in_when_the_share_grows(draw in any::<u64>(), less in 0.0..=100.0, more in 0.0..=100.0) {
        let (less, more): (f64, f64) = if less < more { (less, more) } else { (more, less) };
        let is_in = |percent| share("fraud", "8", percent, draw..draw.saturating_add(1)) == [true];
        prop_assert!(!is_in(less) || is_in(more));
        prop_assert!(!is_in(0.0));
        prop_assert!(draw == u64::MAX || is_in(100.0));
    }
}
