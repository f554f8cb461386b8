//! Models that a manifest names.

use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::ids::Digest;

pub(super) const MANIFEST: &str = "manifest.json";

/// Versions by name, each with its files, the model's first.
pub(super) type Versions<'a> = &'a [(&'a str, &'a [(&'a str, &'static [u8])])];

pub(super) fn manifest(
    current: &str,
    previous: Option<&str>,
    versions: Versions<'_>,
) -> &'static [u8] {
    let versions = versions.iter().map(|(name, files)| {
        let written = files.iter().map(|(path, bytes)| {
            let digest = Digest::of(Sha256::new().chain_update(bytes));
            json!({"path": path, "size": bytes.len(), "sha256": digest.as_str()})
        });
        let written = written.collect::<Json>();
        let version = json!({"model": files[0].0, "files": written});
        ((*name).to_owned(), version)
    });
    let mut manifest = json!({
        "format": "model-sidecar/1",
        "current": current,
        "versions": versions.collect::<Json>(),
    });
    if let Some(previous) = previous {
        manifest["previous"] = previous.into();
    }
    manifest.to_string().into_bytes().leak()
}

pub(super) fn publish(fixture: &Fixture, etag: &'static str, manifest: &'static [u8]) {
    fixture.source.holds(MANIFEST, Ok((etag, manifest)));
}

pub(super) fn upload(fixture: &Fixture, versions: Versions<'_>) {
    for (name, files) in versions {
        for (path, bytes) in *files {
            fixture
                .source
                .holds(&format!("{name}/{path}"), Ok(("1", bytes)));
        }
    }
}

const TWO: Versions<'static> = &[
    ("1", &[("model.onnx", b"model one")]),
    ("2", &[("model.onnx", b"model two")]),
];

fn two(current: &str, previous: Option<&str>) -> &'static [u8] {
    manifest(current, previous, TWO)
}

impl Fixture {
    /// Returns the content of the version that was loaded last.
    pub(super) fn active_content(&self) -> Vec<u8> {
        self.seen.lock().unwrap().loaded.last().unwrap().0.clone()
    }
}

#[tokio::test]
async fn the_manifest_decides_and_one_write_moves_on_and_back() {
    let fixture = Fixture::at(MANIFEST);
    upload(&fixture, TWO);
    publish(&fixture, "a", two("1", None));
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.source.transfers(), [MANIFEST, "1/model.onnx"]);
    assert_eq!(reloader.check().await, Outcome::Current);
    let first = fixture.version(&reloader);

    publish(&fixture, "b", two("2", Some("1")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model two");
    publish(&fixture, "c", two("1", Some("2")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(
        (fixture.active_content(), fixture.version(&reloader)),
        (b"model one".to_vec(), first)
    );

    // The manifest is written again with the same version.
    publish(&fixture, "d", two("1", None));
    assert_eq!(reloader.check().await, Outcome::Current);
    fixture.transfers();
    assert!(matches!(fixture.start().check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.transfers(), 0, "a second start fetches nothing");
}

#[tokio::test]
async fn a_file_that_another_version_brought_is_not_fetched_again() {
    let weights: (&str, &'static [u8]) = ("weights.bin", b"the same weights");
    let versions: Versions<'_> = &[
        ("1", &[("model.onnx", b"model one"), weights]),
        ("2", &[("model.onnx", b"model two"), weights]),
    ];
    let fixture = Fixture::at(MANIFEST);
    upload(&fixture, versions);
    publish(&fixture, "a", manifest("1", None, versions));
    let reloader = fixture.start();
    reloader.check().await;
    fixture.transfers();
    publish(&fixture, "b", manifest("2", None, versions));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.source.transfers(), [MANIFEST, "2/model.onnx"]);
    assert_eq!(
        fixture.last_pair(),
        (b"model two".to_vec(), Some(weights.1.to_vec()))
    );
}

impl Fixture {
    fn last_pair(&self) -> LoadedFiles {
        self.seen.lock().unwrap().loaded.last().unwrap().clone()
    }
}

#[tokio::test]
async fn bytes_that_the_manifest_does_not_promise_are_never_loaded() {
    let fixture = Fixture::at(MANIFEST);
    upload(&fixture, TWO);
    publish(&fixture, "a", two("1", None));
    let reloader = fixture.start();
    reloader.check().await;
    fixture
        .source
        .holds("2/model.onnx", Ok(("2", b"model 2!!")));
    publish(&fixture, "b", two("2", None));
    assert_eq!(reloader.check().await, Outcome::Failed);
    let problem = fixture.problem(&reloader).unwrap();
    assert!(
        problem.contains("s3://b/2/model.onnx") && problem.contains("the manifest declares"),
        "{problem}"
    );
    fixture
        .source
        .holds("2/model.onnx", Ok(("3", b"of another length")));
    assert_eq!(reloader.check().await, Outcome::Failed);
    let problem = fixture.problem(&reloader).unwrap();
    assert!(
        problem.contains("17 bytes, but the manifest declares 9"),
        "{problem}"
    );
    assert_eq!(fixture.active_content(), b"model one");
    fixture
        .source
        .holds("2/model.onnx", Ok(("4", b"model two")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
}

#[tokio::test]
async fn a_start_with_a_bad_current_version_takes_the_previous_one() {
    let versions: Versions<'_> = &[
        ("1", &[("model.onnx", b"model one")]),
        ("2", &[("model.onnx", b"bad model")]),
    ];
    let fixture = Fixture::at(MANIFEST);
    upload(&fixture, versions);
    publish(&fixture, "a", manifest("2", Some("1"), versions));
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model one");
    assert!(fixture.problem(&reloader).unwrap().contains("not a model"));
    fixture.transfers();
    // Neither a check nor another start loads the bad version again.
    assert_eq!(reloader.check().await, Outcome::Current);
    let again = fixture.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert!(fixture.problem(&again).unwrap().contains("not a model"));
    assert_eq!(
        (fixture.transfers(), fixture.active_content()),
        (0, b"model one".to_vec())
    );
}

#[tokio::test]
async fn when_both_are_bad_each_is_tried_once() {
    let versions: Versions<'_> = &[
        ("1", &[("model.onnx", b"bad model 1")]),
        ("2", &[("model.onnx", b"bad model 2")]),
    ];
    let fixture = Fixture::at(MANIFEST);
    upload(&fixture, versions);
    publish(&fixture, "a", manifest("2", Some("1"), versions));
    let reloader = fixture.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert!(fixture.problem(&reloader).unwrap().contains("not a model"));
    let files = ["1/model.onnx", "2/model.onnx"].map(str::to_owned);
    let tried = fixture.source.transfers();
    assert!(files.iter().all(|file| tried.contains(file)), "{tried:?}");
    assert_eq!(reloader.check().await, Outcome::Failed);
    let again = fixture.source.transfers();
    assert!(!again.contains(&files[1]), "{again:?}");
}

#[tokio::test]
async fn a_manifest_that_is_wrong_changes_nothing_and_names_the_field() {
    let fixture = Fixture::at(MANIFEST);
    upload(&fixture, TWO);
    publish(&fixture, "a", two("1", None));
    let reloader = fixture.start();
    reloader.check().await;
    for (etag, wrong, named) in [
        (
            "b",
            &b"{\"format\": \"model-side"[..],
            "s3://b/manifest.json",
        ),
        ("c", two("3", None), "current"),
        ("d", b"<html>", "s3://b/manifest.json"),
    ] {
        publish(&fixture, etag, wrong);
        assert_eq!(reloader.check().await, Outcome::Failed);
        let problem = fixture.problem(&reloader).unwrap();
        assert!(problem.contains(named), "{problem}");
    }
    assert_eq!(fixture.active_content(), b"model one");
    publish(&fixture, "e", vec![b' '; 2 << 20].leak());
    assert_eq!(reloader.check().await, Outcome::Failed);
    let problem = fixture.problem(&reloader).unwrap();
    assert!(problem.contains("2097152 bytes"), "{problem}");
}

#[tokio::test]
async fn a_version_that_lacks_a_file_of_its_model_is_rejected_by_name() {
    let versions: Versions<'_> = &[(
        "1",
        &[("model.onnx", files::model("data/weights.bin", "one"))],
    )];
    let fixture = Fixture::at(MANIFEST);
    upload(&fixture, versions);
    publish(&fixture, "a", manifest("1", None, versions));
    let reloader = fixture.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    let problem = fixture.problem(&reloader).unwrap();
    assert!(
        problem.contains("versions.1.files lacks data/weights.bin"),
        "{problem}"
    );
}
