//! Models of several files.

use super::*;
use crate::onnx::tests::write::{bytes, join, tensor};

/// A model's file that refers to `weights`, in the wire format of ONNX; `seed` makes it another.
pub(super) fn model(weights: &str, seed: &str) -> &'static [u8] {
    let tensor = tensor("w", Some(weights));
    let graph = join([bytes(2, seed.as_bytes()), bytes(5, &tensor)]);
    bytes(7, &graph).leak()
}

const MODEL: &str = "wine.onnx";
const WEIGHTS: &str = "weights.bin";

fn bench() -> Bench {
    let bench = Bench::new(Ok(("m1", model(WEIGHTS, "one"))));
    bench.shelf.holds(WEIGHTS, Ok(("w1", b"weights one")));
    bench
}

impl Bench {
    fn last_loaded(&self) -> Loads {
        self.seen.lock().unwrap().loaded.pop().unwrap()
    }
}

fn loads(model: &[u8], weights: &[u8]) -> Loads {
    (model.to_vec(), Some(weights.to_vec()))
}

#[tokio::test]
async fn a_model_is_loaded_with_the_file_that_it_refers_to_beside_it() {
    let bench = bench();
    let reloader = bench.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    let pair = loads(model(WEIGHTS, "one"), b"weights one");
    assert_eq!(bench.last_loaded(), pair);
    assert_eq!(bench.shelf.transfers(), [MODEL, WEIGHTS]);
    assert_eq!(reloader.check().await, Outcome::Current);
    assert!(matches!(bench.start().check().await, Outcome::Loaded(_)));
    assert_eq!(bench.last_loaded(), pair);
    assert_eq!(bench.transfers(), 0, "a second start fetches nothing");
}

#[tokio::test]
async fn a_change_of_either_file_alone_is_a_version_and_the_other_is_not_fetched_again() {
    let bench = bench();
    let reloader = bench.start();
    reloader.check().await;
    let first = bench.version(&reloader);
    bench.transfers();

    bench.shelf.holds(WEIGHTS, Ok(("w2", b"weights two")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    let pair = loads(model(WEIGHTS, "one"), b"weights two");
    assert_eq!(bench.last_loaded(), pair);
    assert_eq!(bench.shelf.transfers(), [WEIGHTS]);
    let second = bench.version(&reloader);
    assert_ne!(second, first);

    bench.holds(Ok(("m2", model(WEIGHTS, "two"))));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    let pair = loads(model(WEIGHTS, "two"), b"weights two");
    assert_eq!(bench.last_loaded(), pair);
    assert_eq!(bench.shelf.transfers(), [MODEL]);
    assert_ne!(bench.version(&reloader), second);
}

#[tokio::test]
async fn a_file_that_changes_while_the_other_is_fetched_is_fetched_anew() {
    let bench = bench();
    let reloader = bench.start();
    let overwrite = |shelf: &Shelf| shelf.holds(MODEL, Ok(("m2", model(WEIGHTS, "two"))));
    bench.shelf.trap(WEIGHTS, overwrite);
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    let pair = loads(model(WEIGHTS, "two"), b"weights one");
    assert_eq!(bench.seen.lock().unwrap().loaded[..], [pair]);
    assert_eq!(bench.shelf.transfers(), [MODEL, WEIGHTS, MODEL]);
}

#[tokio::test]
async fn a_file_that_the_cache_has_lost_is_fetched_again_by_itself() {
    let bench = bench();
    bench.start().check().await;
    bench.transfers();
    for file in std::fs::read_dir(bench.directory.path().join("files")).unwrap() {
        let path = file.unwrap().path();
        if std::fs::read(&path).unwrap().starts_with(b"weights") {
            std::fs::write(path, b"torn").unwrap();
        }
    }
    assert!(matches!(bench.start().check().await, Outcome::Loaded(_)));
    let pair = loads(model(WEIGHTS, "one"), b"weights one");
    assert_eq!(bench.last_loaded(), pair);
    let transfers = bench.shelf.transfers();
    assert!(transfers.contains(&WEIGHTS.to_owned()), "{transfers:?}");
}

#[tokio::test]
async fn a_file_that_is_missing_is_named_and_changes_nothing() {
    let bench = bench();
    let reloader = bench.start();
    reloader.check().await;
    let first = bench.version(&reloader);
    bench.holds(Ok(("m2", model("other.bin", "two"))));
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(bench.version(&reloader), first);
    let problem = bench.problem(&reloader).unwrap();
    assert!(
        problem.contains("s3://b/other.bin: there is no such object"),
        "{problem}"
    );
    bench.transfers();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(bench.transfers(), 0, "what is here is not fetched again");
    bench.shelf.holds("other.bin", Ok(("o1", b"others")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_ne!(bench.version(&reloader), first);
    assert_eq!(bench.shelf.transfers(), ["other.bin"]);
}

#[tokio::test]
async fn a_file_outside_of_the_models_folder_is_refused_by_its_name() {
    for outside in ["../secret.bin", "/etc/passwd"] {
        let bench = Bench::new(Ok(("m1", model(outside, "one"))));
        let reloader = bench.start();
        assert_eq!(reloader.check().await, Outcome::Failed);
        let problem = bench.problem(&reloader).unwrap();
        assert!(problem.contains(outside), "{problem}");
        assert_eq!(reloader.check().await, Outcome::Failed);
        assert_eq!(bench.shelf.transfers(), [MODEL], "once");
    }
}
