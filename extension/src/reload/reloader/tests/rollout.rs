//! Selection of the version that an environment runs: pinned, by label, as a canary.

use serde_json::{Value as Json, json};

use super::manifest::{MANIFEST, Versions, manifest, publish, upload};
use super::*;

const THREE: Versions<'static> = &[
    ("1", &[("model.onnx", b"model one")]),
    ("2", &[("model.onnx", b"model two")]),
    ("3", &[("model.onnx", b"model three")]),
];

/// A manifest with current version 2, previous version 1, and these fields.
fn with(versions: Versions<'_>, more: &Json) -> &'static [u8] {
    let mut manifest: Json = serde_json::from_slice(manifest("2", Some("1"), versions)).unwrap();
    for (field, value) in more.as_object().unwrap() {
        manifest[field] = value.clone();
    }
    manifest.to_string().into_bytes().leak()
}

fn fixture(choice: Choice, more: &Json) -> Fixture {
    let fixture = Fixture {
        choice,
        ..Fixture::at(MANIFEST)
    };
    upload(&fixture, THREE);
    publish(&fixture, "a", with(THREE, more));
    fixture
}

fn version(name: &str) -> Choice {
    Choice::Version(name.to_owned())
}

fn canary(percent: u8) -> Json {
    json!({"canary": {"version": "3", "percent": percent}})
}

#[tokio::test]
async fn a_pinned_version_stays_whatever_is_published() {
    let fixture = fixture(version("1"), &json!({}));
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model one");
    publish(&fixture, "b", with(THREE, &canary(100)));
    assert_eq!(reloader.check().await, Outcome::Current);
    // Nothing that the journal records of the pinned version applies to another version.
    let moved = Fixture {
        choice: version("3"),
        ..fixture
    };
    let again = moved.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(moved.active_content(), b"model three");
}

#[tokio::test]
async fn a_pinned_version_that_is_bad_or_missing_has_no_fallback() {
    let bad: Versions<'_> = &[
        ("1", &[("model.onnx", b"model one")]),
        ("2", &[("model.onnx", b"bad model")]),
    ];
    let fixture = Fixture {
        choice: version("2"),
        ..Fixture::at(MANIFEST)
    };
    upload(&fixture, bad);
    publish(&fixture, "a", with(bad, &json!({})));
    let reloader = fixture.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(fixture.version(&reloader), None);

    let fixture = Fixture {
        choice: version("9"),
        ..fixture
    };
    let reloader = fixture.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(
        fixture.problem(&reloader).unwrap(),
        "s3://b/manifest.json: MODEL_VERSION=\"9\" cannot be run: the manifest has no version \"9\"; its versions \
         are 1, 2"
    );
}

#[tokio::test]
async fn a_label_is_followed_where_it_moves() {
    let labels = |stable| json!({"version_labels": {"stable": stable, "latest": "2"}});
    let fixture = fixture(Choice::Label("stable".to_owned()), &labels("1"));
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model one");
    publish(&fixture, "b", with(THREE, &labels("3")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model three");
    // A removed label leaves the active version, and is reported.
    publish(&fixture, "c", with(THREE, &json!({})));
    assert_eq!(reloader.check().await, Outcome::Failed);
    let problem = fixture.problem(&reloader).unwrap();
    assert!(
        problem.contains("has no label \"stable\" in version_labels; its labels are none"),
        "{problem}"
    );
    assert_eq!(fixture.active_content(), b"model three");
}

#[tokio::test]
async fn a_canary_runs_where_it_is_drawn_and_ends_with_its_entry() {
    let fixture = fixture(Choice::Newest, &canary(0));
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model two");
    publish(&fixture, "b", with(THREE, &canary(100)));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model three");
    publish(&fixture, "c", with(THREE, &canary(0)));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model two");
}

#[tokio::test]
async fn a_snapshot_holds_the_current_version_and_each_environment_draws_for_itself() {
    let fixture = Fixture {
        snap_start: true,
        ..fixture(Choice::Newest, &canary(100))
    };
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model two");
    assert!(!fixture.directory.path().join("rollout-position").exists());
    assert_eq!(reloader.check().await, Outcome::Current);
    reloader.shared.status.ready_for_snapshot();
    assert_eq!(reloader.check().await, Outcome::Current);
    reloader.shared.status.restored();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model three");
    assert!(fixture.directory.path().join("rollout-position").exists());
    assert_eq!(reloader.check().await, Outcome::Current);
}

#[tokio::test]
async fn another_start_in_the_same_environment_runs_the_same() {
    for _ in 0..10 {
        let fixture = fixture(Choice::Newest, &canary(50));
        fixture.start().check().await;
        let first = fixture.active_content();
        // Its journal is lost, so that it reads the manifest again.
        std::fs::remove_dir_all(fixture.directory.path().join("journals")).unwrap();
        fixture.start().check().await;
        assert_eq!(fixture.active_content(), first);
    }
}

#[tokio::test]
async fn a_first_start_over_a_bad_canary_takes_the_current_version() {
    let bad: Versions<'_> = &[
        ("1", &[("model.onnx", b"model one")]),
        ("2", &[("model.onnx", b"model two")]),
        ("3", &[("model.onnx", b"bad model")]),
    ];
    let fixture = Fixture::at(MANIFEST);
    upload(&fixture, bad);
    publish(&fixture, "a", with(bad, &canary(100)));
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model two");
    assert!(fixture.problem(&reloader).unwrap().contains("not a model"));
    assert_eq!(reloader.check().await, Outcome::Current);
}

#[tokio::test]
async fn a_pinned_folder_of_a_repository_stays_and_one_that_is_missing_is_named() {
    let fixture = Fixture {
        choice: version("9"),
        ..Fixture::at("models/")
    };
    for (path, bytes) in [
        ("wine/9/model.onnx", &b"nine"[..]),
        ("wine/10/model.onnx", b"ten"),
    ] {
        fixture.source.holds(path, Ok(("1", bytes)));
    }
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.source.transfers(), ["wine/9/model.onnx"]);
    assert_eq!(reloader.check().await, Outcome::Current);

    let fixture = Fixture {
        choice: version("8"),
        ..fixture
    };
    let reloader = fixture.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(
        fixture.problem(&reloader).unwrap(),
        "s3://b/models/: MODEL_VERSION=\"8\" is not there; the highest numbers are 10, 9"
    );
}

#[tokio::test]
async fn a_pinned_version_of_a_plain_object_is_fetched_once() {
    let fixture = Fixture {
        choice: version("v1"),
        ..Fixture::at("wine.onnx")
    };
    fixture
        .source
        .keeps("wine.onnx", "v1", Ok(("v1", b"model one")));
    fixture
        .source
        .keeps("wine.onnx", "v2", Ok(("v2", b"model two")));
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model one");
    assert_eq!(fixture.source.asked_for_versions(), ["v1"]);
    fixture
        .source
        .keeps("wine.onnx", "v3", Ok(("v3", b"model three")));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert!(matches!(fixture.start().check().await, Outcome::Loaded(_)));
    assert_eq!(
        (fixture.active_content(), fixture.transfers()),
        (b"model one".to_vec(), 1)
    );
}

#[tokio::test]
async fn a_pinned_version_with_data_files_needs_a_manifest() {
    let fixture = Fixture {
        choice: version("v1"),
        ..Fixture::at("wine.onnx")
    };
    let refers = files::model("weights.bin", "one");
    fixture.source.keeps("wine.onnx", "v1", Ok(("v1", refers)));
    fixture
        .source
        .holds("weights.bin", Ok(("1", b"of any moment")));
    let reloader = fixture.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    let problem = fixture.problem(&reloader).unwrap();
    let words = "cannot use s3://b/wine.onnx?versionId=v1: it refers to weights.bin";
    assert!(
        problem.contains(words) && problem.contains("manifest"),
        "{problem}"
    );
}
