//! Models in folders by number.

use super::*;

fn bench(files: &[(&str, &'static [u8])]) -> Bench {
    let bench = Bench::at("models/");
    for (path, bytes) in files {
        bench.shelf.holds(path, Ok(("1", bytes)));
    }
    bench
}

#[tokio::test]
async fn the_highest_number_is_served_and_a_higher_one_is_the_bump() {
    let bench = bench(&[
        ("wine/1/model.onnx", b"one"),
        ("wine/9/model.onnx", b"nine"),
        ("wine/10/model.onnx", b"ten"),
        ("wine/011/model.onnx", b"no number"),
        ("wine/latest/model.onnx", b"no number"),
        ("wine/config.pbtxt", b""),
        ("other/99/model.onnx", b"other"),
    ]);
    let reloader = bench.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.shelf.transfers(), ["wine/10/model.onnx"]);
    assert_eq!(reloader.check().await, Outcome::Current);
    bench
        .shelf
        .holds("wine/11/model.onnx", Ok(("1", b"eleven")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.shelf.transfers(), ["wine/11/model.onnx"]);
    assert!(matches!(bench.start().check().await, Outcome::Loaded(_)));
    assert_eq!(bench.transfers(), 0, "a second start fetches nothing");
}

#[tokio::test]
async fn the_location_may_be_the_models_own_folder() {
    let bench = bench(&[("1/model.onnx", b"one"), ("2/model.onnx", b"two")]);
    assert!(matches!(bench.start().check().await, Outcome::Loaded(_)));
    assert_eq!(bench.shelf.transfers(), ["2/model.onnx"]);
}

#[tokio::test]
async fn what_is_not_there_is_named_with_what_is() {
    let bench = bench(&[("fraud/1/model.onnx", b""), ("churn/1/model.onnx", b"")]);
    let reloader = bench.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    let problem = bench.problem(&reloader).unwrap();
    assert!(
        problem.contains("there is no wine/NUMBER/model.onnx"),
        "{problem}"
    );
    assert!(problem.contains("churn, fraud"), "{problem}");
}
