//! Which version an environment runs: pinned, by its label, as a canary.

use serde_json::{Value as Json, json};

use super::published::{MANIFEST, Versions, manifest, publish, upload};
use super::*;

const THREE: Versions<'static> = &[
    ("1", &[("model.onnx", b"model one")]),
    ("2", &[("model.onnx", b"model two")]),
    ("3", &[("model.onnx", b"model three")]),
];

/// Version 2 is current, 1 was before, and these fields are there as well.
fn with(versions: Versions<'_>, more: &Json) -> &'static [u8] {
    let mut manifest: Json = serde_json::from_slice(manifest("2", Some("1"), versions)).unwrap();
    for (field, value) in more.as_object().unwrap() {
        manifest[field] = value.clone();
    }
    manifest.to_string().into_bytes().leak()
}

fn bench(choice: Choice, more: &Json) -> Bench {
    let bench = Bench {
        choice,
        ..Bench::at(MANIFEST)
    };
    upload(&bench, THREE);
    publish(&bench, "a", with(THREE, more));
    bench
}

fn version(name: &str) -> Choice {
    Choice::Version(name.to_owned())
}

fn canary(percent: u8) -> Json {
    json!({"canary": {"version": "3", "percent": percent}})
}

#[tokio::test]
async fn a_pinned_version_stays_whatever_is_published() {
    let bench = bench(version("1"), &json!({}));
    let reloader = bench.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model one");
    publish(&bench, "b", with(THREE, &canary(100)));
    assert_eq!(reloader.check().await, Outcome::Current);
    // Of what is known of the pinned one nothing holds for another.
    let moved = Bench {
        choice: version("3"),
        ..bench
    };
    let again = moved.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(moved.answers(), b"model three");
}

#[tokio::test]
async fn for_a_pinned_version_that_is_bad_or_not_there_nothing_stands_in() {
    let bad: Versions<'_> = &[
        ("1", &[("model.onnx", b"model one")]),
        ("2", &[("model.onnx", b"bad model")]),
    ];
    let bench = Bench {
        choice: version("2"),
        ..Bench::at(MANIFEST)
    };
    upload(&bench, bad);
    publish(&bench, "a", with(bad, &json!({})));
    let reloader = bench.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(bench.version(&reloader), None);

    let bench = Bench {
        choice: version("9"),
        ..bench
    };
    let reloader = bench.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(
        bench.problem(&reloader).unwrap(),
        "s3://b/manifest.json: MODEL_VERSION=\"9\" cannot be run: the manifest has no version \"9\"; its versions \
         are 1, 2"
    );
}

#[tokio::test]
async fn a_label_is_followed_where_it_moves() {
    let labels = |stable| json!({"version_labels": {"stable": stable, "latest": "2"}});
    let bench = bench(Choice::Label("stable".to_owned()), &labels("1"));
    let reloader = bench.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model one");
    publish(&bench, "b", with(THREE, &labels("3")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model three");
    // Taken away, it changes nothing but says so.
    publish(&bench, "c", with(THREE, &json!({})));
    assert_eq!(reloader.check().await, Outcome::Failed);
    let problem = bench.problem(&reloader).unwrap();
    assert!(
        problem.contains("has no label \"stable\" in version_labels; its labels are none"),
        "{problem}"
    );
    assert_eq!(bench.answers(), b"model three");
}

#[tokio::test]
async fn a_canary_runs_where_it_is_drawn_and_is_taken_back() {
    let bench = bench(Choice::Newest, &canary(0));
    let reloader = bench.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model two");
    publish(&bench, "b", with(THREE, &canary(100)));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model three");
    publish(&bench, "c", with(THREE, &canary(0)));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model two");
}

#[tokio::test]
async fn a_snapshot_holds_the_current_version_and_each_environment_draws_for_itself() {
    let bench = Bench {
        snap_start: true,
        ..bench(Choice::Newest, &canary(100))
    };
    let reloader = bench.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model two");
    assert!(!bench.directory.path().join("rollout-position").exists());
    assert_eq!(reloader.check().await, Outcome::Current);
    reloader.shared.status.invocation_began(1);
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model three");
    assert!(bench.directory.path().join("rollout-position").exists());
    assert_eq!(reloader.check().await, Outcome::Current);
}

#[tokio::test]
async fn another_start_in_the_same_environment_runs_the_same() {
    for _ in 0..10 {
        let bench = bench(Choice::Newest, &canary(50));
        bench.start().check().await;
        let first = bench.answers();
        // Its journal is lost, so that it reads the manifest again.
        std::fs::remove_dir_all(bench.directory.path().join("journals")).unwrap();
        bench.start().check().await;
        assert_eq!(bench.answers(), first);
    }
}

#[tokio::test]
async fn a_first_start_over_a_bad_canary_takes_the_current_version() {
    let bad: Versions<'_> = &[
        ("1", &[("model.onnx", b"model one")]),
        ("2", &[("model.onnx", b"model two")]),
        ("3", &[("model.onnx", b"bad model")]),
    ];
    let bench = Bench::at(MANIFEST);
    upload(&bench, bad);
    publish(&bench, "a", with(bad, &canary(100)));
    let reloader = bench.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model two");
    assert!(bench.problem(&reloader).unwrap().contains("not a model"));
    assert_eq!(reloader.check().await, Outcome::Current);
}

#[tokio::test]
async fn a_pinned_folder_of_a_repository_stays_and_one_that_is_missing_is_named() {
    let bench = Bench {
        choice: version("9"),
        ..Bench::at("models/")
    };
    for (path, bytes) in [
        ("wine/9/model.onnx", &b"nine"[..]),
        ("wine/10/model.onnx", b"ten"),
    ] {
        bench.shelf.holds(path, Ok(("1", bytes)));
    }
    let reloader = bench.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.shelf.transfers(), ["wine/9/model.onnx"]);
    assert_eq!(reloader.check().await, Outcome::Current);

    let bench = Bench {
        choice: version("8"),
        ..bench
    };
    let reloader = bench.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(
        bench.problem(&reloader).unwrap(),
        "s3://b/models/: MODEL_VERSION=\"8\" is not there; the highest numbers are 10, 9"
    );
}

#[tokio::test]
async fn a_pinned_version_of_a_plain_object_is_fetched_once() {
    let bench = Bench {
        choice: version("v1"),
        ..Bench::at("wine.onnx")
    };
    bench
        .shelf
        .keeps("wine.onnx", "v1", Ok(("v1", b"model one")));
    bench
        .shelf
        .keeps("wine.onnx", "v2", Ok(("v2", b"model two")));
    let reloader = bench.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model one");
    assert_eq!(bench.shelf.asked_for_versions(), ["v1"]);
    bench
        .shelf
        .keeps("wine.onnx", "v3", Ok(("v3", b"model three")));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert!(matches!(bench.start().check().await, Outcome::Loaded(_)));
    assert_eq!(
        (bench.answers(), bench.transfers()),
        (b"model one".to_vec(), 1)
    );
}

#[tokio::test]
async fn a_pinned_version_with_files_beside_it_needs_a_manifest() {
    let bench = Bench {
        choice: version("v1"),
        ..Bench::at("wine.onnx")
    };
    let refers = files::model("weights.bin", "one");
    bench.shelf.keeps("wine.onnx", "v1", Ok(("v1", refers)));
    bench
        .shelf
        .holds("weights.bin", Ok(("1", b"of any moment")));
    let reloader = bench.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    let problem = bench.problem(&reloader).unwrap();
    let words = "s3://b/wine.onnx?versionId=v1 refers to weights.bin";
    assert!(
        problem.contains(words) && problem.contains("manifest"),
        "{problem}"
    );
}
