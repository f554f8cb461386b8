//! Repositories: versions in folders by number.

use super::*;

fn fixture(files: &[(&str, &'static [u8])]) -> Fixture {
    let fixture = Fixture::at("models/");
    for (path, bytes) in files {
        fixture.source.holds(path, Ok(("1", bytes)));
    }
    fixture
}

#[tokio::test]
async fn the_highest_number_is_served_and_a_higher_one_follows() {
    let fixture = fixture(&[
        ("wine/1/model.onnx", b"one"),
        ("wine/9/model.onnx", b"nine"),
        ("wine/10/model.onnx", b"ten"),
        ("wine/011/model.onnx", b"no number"),
        ("wine/latest/model.onnx", b"no number"),
        ("wine/config.pbtxt", b""),
        ("other/99/model.onnx", b"other"),
    ]);
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.source.transfers(), ["wine/10/model.onnx"]);
    assert_eq!(reloader.check().await, Outcome::Current);
    fixture
        .source
        .holds("wine/11/model.onnx", Ok(("1", b"eleven")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.source.transfers(), ["wine/11/model.onnx"]);
    assert!(matches!(fixture.start().check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.transfers(), 0, "a second start fetches nothing");
}

#[tokio::test]
async fn the_location_may_be_the_models_own_folder() {
    let fixture = fixture(&[("1/model.onnx", b"one"), ("2/model.onnx", b"two")]);
    assert!(matches!(fixture.start().check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.source.transfers(), ["2/model.onnx"]);
}

#[tokio::test]
async fn a_missing_version_is_reported_with_the_available_ones() {
    let fixture = fixture(&[("fraud/1/model.onnx", b""), ("churn/1/model.onnx", b"")]);
    let reloader = fixture.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    let problem = fixture.problem(&reloader).unwrap();
    assert!(
        problem.contains("there is no wine/NUMBER/model.onnx"),
        "{problem}"
    );
    assert!(problem.contains("churn, fraud"), "{problem}");
}
