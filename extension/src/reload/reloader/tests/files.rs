//! Models of several files.

use super::*;
use crate::onnx::tests::write::{bytes, join, tensor};

/// A model's file that refers to `weights`, in the wire format of ONNX; `seed` varies its content.
pub(super) fn model(weights: &str, seed: &str) -> &'static [u8] {
    let tensor = tensor("w", Some(weights));
    let graph = join([bytes(2, seed.as_bytes()), bytes(5, &tensor)]);
    bytes(7, &graph).leak()
}

const MODEL: &str = "wine.onnx";
const WEIGHTS: &str = "weights.bin";

fn fixture() -> Fixture {
    let fixture = Fixture::new(Ok(("m1", model(WEIGHTS, "one"))));
    fixture.source.holds(WEIGHTS, Ok(("w1", b"weights one")));
    fixture
}

impl Fixture {
    fn last_loaded(&self) -> LoadedFiles {
        self.seen.lock().unwrap().loaded.pop().unwrap()
    }
}

fn loads(model: &[u8], weights: &[u8]) -> LoadedFiles {
    (model.to_vec(), Some(weights.to_vec()))
}

#[tokio::test]
async fn a_model_is_loaded_with_the_data_file_that_it_refers_to() {
    let fixture = fixture();
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    let pair = loads(model(WEIGHTS, "one"), b"weights one");
    assert_eq!(fixture.last_loaded(), pair);
    assert_eq!(fixture.source.transfers(), [MODEL, WEIGHTS]);
    assert_eq!(reloader.check().await, Outcome::Current);
    assert!(matches!(fixture.start().check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.last_loaded(), pair);
    assert_eq!(fixture.transfers(), 0, "a second start fetches nothing");
}

#[tokio::test]
async fn a_change_of_either_file_alone_is_a_version_and_the_other_is_not_fetched_again() {
    let fixture = fixture();
    let reloader = fixture.start();
    reloader.check().await;
    let first = fixture.version(&reloader);
    fixture.transfers();

    fixture.source.holds(WEIGHTS, Ok(("w2", b"weights two")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    let pair = loads(model(WEIGHTS, "one"), b"weights two");
    assert_eq!(fixture.last_loaded(), pair);
    assert_eq!(fixture.source.transfers(), [WEIGHTS]);
    let second = fixture.version(&reloader);
    assert_ne!(second, first);

    fixture.holds(Ok(("m2", model(WEIGHTS, "two"))));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    let pair = loads(model(WEIGHTS, "two"), b"weights two");
    assert_eq!(fixture.last_loaded(), pair);
    assert_eq!(fixture.source.transfers(), [MODEL]);
    assert_ne!(fixture.version(&reloader), second);
}

#[tokio::test]
async fn a_file_that_changes_during_the_download_is_fetched_again() {
    let fixture = fixture();
    let reloader = fixture.start();
    let overwrite = |source: &FakeSource| source.holds(MODEL, Ok(("m2", model(WEIGHTS, "two"))));
    fixture.source.trap(WEIGHTS, overwrite);
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    let pair = loads(model(WEIGHTS, "two"), b"weights one");
    assert_eq!(fixture.seen.lock().unwrap().loaded[..], [pair]);
    assert_eq!(fixture.source.transfers(), [MODEL, WEIGHTS, MODEL]);
}

#[tokio::test]
async fn a_file_that_the_cache_has_lost_is_fetched_again_by_itself() {
    let fixture = fixture();
    fixture.start().check().await;
    fixture.transfers();
    for file in std::fs::read_dir(fixture.directory.path().join("files")).unwrap() {
        let path = file.unwrap().path();
        if std::fs::read(&path).unwrap().starts_with(b"weights") {
            std::fs::write(path, b"torn").unwrap();
        }
    }
    assert!(matches!(fixture.start().check().await, Outcome::Loaded(_)));
    let pair = loads(model(WEIGHTS, "one"), b"weights one");
    assert_eq!(fixture.last_loaded(), pair);
    let transfers = fixture.source.transfers();
    assert!(transfers.contains(&WEIGHTS.to_owned()), "{transfers:?}");
}

#[tokio::test]
async fn a_file_that_is_missing_is_named_and_changes_nothing() {
    let fixture = fixture();
    let reloader = fixture.start();
    reloader.check().await;
    let first = fixture.version(&reloader);
    fixture.holds(Ok(("m2", model("other.bin", "two"))));
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(fixture.version(&reloader), first);
    let problem = fixture.problem(&reloader).unwrap();
    assert!(
        problem.contains("s3://b/other.bin: there is no such object"),
        "{problem}"
    );
    fixture.transfers();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(fixture.transfers(), 0, "what is here is not fetched again");
    fixture.source.holds("other.bin", Ok(("o1", b"others")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_ne!(fixture.version(&reloader), first);
    assert_eq!(fixture.source.transfers(), ["other.bin"]);
}

#[tokio::test]
async fn a_file_outside_the_models_folder_is_rejected_by_name() {
    for outside in ["../secret.bin", "/etc/passwd"] {
        let fixture = Fixture::new(Ok(("m1", model(outside, "one"))));
        let reloader = fixture.start();
        assert_eq!(reloader.check().await, Outcome::Failed);
        let problem = fixture.problem(&reloader).unwrap();
        assert!(problem.contains(outside), "{problem}");
        assert_eq!(reloader.check().await, Outcome::Failed);
        assert_eq!(fixture.source.transfers(), [MODEL], "once");
    }
}
