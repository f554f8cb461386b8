//! A start where the newest version is of no use, and none was loaded here before: an earlier one stands in.

use super::*;

const FILE: &str = "wine.onnx";

/// A bucket that keeps versions, with these of one object by their ids; the last is the present one.
fn kept(versions: &[(&'static str, &'static [u8])]) -> Bench {
    let bench = Bench::at(FILE);
    for (id, bytes) in versions {
        bench.shelf.keeps(FILE, id, Ok((id, bytes)));
    }
    bench
}

#[tokio::test]
async fn a_first_start_over_a_bad_version_takes_the_one_before() {
    let bench = kept(&[("v1", b"model one"), ("v2", b"bad model")]);
    let reloader = bench.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model one");
    assert!(bench.problem(&reloader).unwrap().contains("not a model"));
    assert_eq!(bench.transfers(), 2);
    // From then on it is the last good one, as if it had been loaded while it was new.
    assert_eq!(reloader.check().await, Outcome::Current);
    let again = bench.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.version(&again), bench.version(&reloader));
    assert_eq!(
        (bench.transfers(), bench.answers()),
        (0, b"model one".to_vec())
    );
    bench.shelf.keeps(FILE, "v3", Ok(("v3", b"model three")));
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(
        (bench.answers(), bench.problem(&again)),
        (b"model three".to_vec(), None)
    );
}

#[tokio::test]
async fn it_names_the_version_that_it_had_while_it_was_new() {
    let bench = kept(&[("v1", b"model one")]);
    let reloader = bench.start();
    reloader.check().await;
    let other = kept(&[("v1", b"model one"), ("v2", b"bad model")]);
    let late = other.start();
    late.check().await;
    assert_eq!(other.version(&late), bench.version(&reloader));
}

#[tokio::test]
async fn where_that_one_is_bad_too_the_one_before_it_is_taken() {
    let bench = kept(&[
        ("v1", b"model one"),
        ("v2", b"bad model 2"),
        ("v3", b"bad model 3"),
    ]);
    let reloader = bench.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model one");
    assert_eq!(bench.shelf.lists.load(Ordering::Relaxed), 1);
    assert_eq!(reloader.check().await, Outcome::Current);
}

#[tokio::test]
async fn a_first_start_after_the_object_was_deleted_takes_its_last_version() {
    let bench = kept(&[("v1", b"model one"), ("v2", b"model two")]);
    bench.holds(Err("it was deleted"));
    let reloader = bench.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model two");
    assert!(bench.problem(&reloader).unwrap().contains("it was deleted"));
    // The last good one keeps answering.
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert!(bench.version(&reloader).is_some());
    bench.shelf.keeps(FILE, "v3", Ok(("v3", b"model three")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.problem(&reloader), None);
}

#[tokio::test]
async fn without_earlier_versions_nothing_stands_in() {
    let bench = Bench::new(Ok(("1", b"bad model")));
    let reloader = bench.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(bench.version(&reloader), None);
}

#[tokio::test]
async fn one_with_files_beside_it_does_not_stand_in() {
    let bench = Bench::at(FILE);
    let refers = files::model("weights.bin", "one");
    bench.shelf.keeps(FILE, "v1", Ok(("v1", refers)));
    bench.shelf.keeps(FILE, "v2", Ok(("v2", b"bad model")));
    bench
        .shelf
        .holds("weights.bin", Ok(("1", b"of another moment")));
    let reloader = bench.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(bench.version(&reloader), None);
}

#[tokio::test]
async fn in_a_repository_the_next_lower_number_stands_in() {
    let bench = Bench::at("models/");
    for (path, bytes) in [
        ("wine/1/model.onnx", &b"one"[..]),
        ("wine/2/model.onnx", b"two"),
        ("wine/10/model.onnx", b"bad model"),
    ] {
        bench.shelf.holds(path, Ok(("1", bytes)));
    }
    let reloader = bench.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"two");
    assert!(bench.problem(&reloader).unwrap().contains("not a model"));
    assert_eq!(reloader.check().await, Outcome::Current);
    bench
        .shelf
        .holds("wine/11/model.onnx", Ok(("1", b"eleven")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"eleven");
}
