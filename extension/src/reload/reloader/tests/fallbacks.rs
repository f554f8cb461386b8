//! First starts whose newest version is not usable: an earlier version is the fallback.

use super::*;

const FILE: &str = "wine.onnx";

/// A bucket with versioning, with these versions of one object by their ids; the last is the current version.
fn kept(versions: &[(&'static str, &'static [u8])]) -> Fixture {
    let fixture = Fixture::at(FILE);
    for (id, bytes) in versions {
        fixture.source.keeps(FILE, id, Ok((id, bytes)));
    }
    fixture
}

#[tokio::test]
async fn a_first_start_over_a_bad_version_takes_the_one_before() {
    let fixture = kept(&[("v1", b"model one"), ("v2", b"bad model")]);
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model one");
    assert!(fixture.problem(&reloader).unwrap().contains("not a model"));
    assert_eq!(fixture.transfers(), 2);
    // The fallback is now the last good version, as if it had been loaded when it was new.
    assert_eq!(reloader.check().await, Outcome::Current);
    let again = fixture.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.version(&again), fixture.version(&reloader));
    assert_eq!(
        (fixture.transfers(), fixture.active_content()),
        (0, b"model one".to_vec())
    );
    fixture.source.keeps(FILE, "v3", Ok(("v3", b"model three")));
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(
        (fixture.active_content(), fixture.problem(&again)),
        (b"model three".to_vec(), None)
    );
}

#[tokio::test]
async fn a_fallback_has_the_name_that_it_had_as_the_newest_version() {
    let fixture = kept(&[("v1", b"model one")]);
    let reloader = fixture.start();
    reloader.check().await;
    let other = kept(&[("v1", b"model one"), ("v2", b"bad model")]);
    let late = other.start();
    late.check().await;
    assert_eq!(other.version(&late), fixture.version(&reloader));
}

#[tokio::test]
async fn the_next_earlier_version_follows_a_bad_fallback() {
    let fixture = kept(&[
        ("v1", b"model one"),
        ("v2", b"bad model 2"),
        ("v3", b"bad model 3"),
    ]);
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model one");
    assert_eq!(fixture.source.lists.load(Ordering::Relaxed), 1);
    assert_eq!(reloader.check().await, Outcome::Current);
}

#[tokio::test]
async fn a_first_start_after_the_object_was_deleted_takes_its_last_version() {
    let fixture = kept(&[("v1", b"model one"), ("v2", b"model two")]);
    fixture.holds(Err("it was deleted"));
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model two");
    assert!(
        fixture
            .problem(&reloader)
            .unwrap()
            .contains("it was deleted")
    );
    // The last good version stays active.
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert!(fixture.version(&reloader).is_some());
    fixture.source.keeps(FILE, "v3", Ok(("v3", b"model three")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.problem(&reloader), None);
}

#[tokio::test]
async fn without_earlier_versions_there_is_no_fallback() {
    let fixture = Fixture::new(Ok(("1", b"bad model")));
    let reloader = fixture.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(fixture.version(&reloader), None);
}

#[tokio::test]
async fn a_version_with_data_files_is_no_fallback() {
    let fixture = Fixture::at(FILE);
    let refers = files::model("weights.bin", "one");
    fixture.source.keeps(FILE, "v1", Ok(("v1", refers)));
    fixture.source.keeps(FILE, "v2", Ok(("v2", b"bad model")));
    fixture
        .source
        .holds("weights.bin", Ok(("1", b"of another moment")));
    let reloader = fixture.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(fixture.version(&reloader), None);
}

#[tokio::test]
async fn in_a_repository_the_next_lower_number_is_the_fallback() {
    let fixture = Fixture::at("models/");
    for (path, bytes) in [
        ("wine/1/model.onnx", &b"one"[..]),
        ("wine/2/model.onnx", b"two"),
        ("wine/10/model.onnx", b"bad model"),
    ] {
        fixture.source.holds(path, Ok(("1", bytes)));
    }
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"two");
    assert!(fixture.problem(&reloader).unwrap().contains("not a model"));
    assert_eq!(reloader.check().await, Outcome::Current);
    fixture
        .source
        .holds("wine/11/model.onnx", Ok(("1", b"eleven")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"eleven");
}
