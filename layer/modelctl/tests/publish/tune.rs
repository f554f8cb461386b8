//! `modelctl tune`, with the staged layer at two memory sizes.

use lab::lambda::Limits;

use crate::support::{Store, library, model, wines};

#[tokio::test(flavor = "multi_thread")]
async fn memory_sizes_are_measured_and_one_is_recommended() {
    let mut store = Store::lab().await;
    // The lab starts bubblewrap and a shell.
    store.variables = vec![("PATH".to_owned(), std::env::var("PATH").unwrap())];
    let folder = tempfile::tempdir().unwrap();
    let plot = folder.path().join("tune.svg");
    let layer = lab::artifacts::layer().unwrap();
    let function = lab::artifacts::function().unwrap();
    let rows = wines(folder.path(), 3);
    let model = model("wine-v1.onnx");
    let tune = [
        "tune",
        &model,
        "--rows",
        &rows,
        "--memory",
        "1769,512",
        "--cold-starts",
        "1",
        "--requests",
        "4",
        "--layer",
        layer.to_str().unwrap(),
        "--function",
        function.to_str().unwrap(),
        "--plot",
        plot.to_str().unwrap(),
        &library(),
    ];
    if let Err(error) = Limits::for_memory(512) {
        let reason = store.fails(1, &tune).await;
        assert!(reason.contains(&error.to_string()), "{reason}");
        return;
    }
    let result = store.ok(&tune).await;
    let sizes = result["sizes"].as_array().unwrap();
    let memory: Vec<_> = sizes.iter().map(|size| &size["memory_mb"]).collect();
    assert_eq!(memory, [512, 1769]);
    for size in sizes {
        let number = |name: &str| size[name].as_f64().unwrap();
        assert!(number("warm_p50_ms") > 0.0, "{size}");
        assert!(number("warm_p99_ms") >= number("warm_p50_ms"), "{size}");
        // The caller waits for Init, and for a response over a link of 30 ms.
        assert!(number("cold_ms") >= number("init_ms"), "{size}");
        assert!(number("cold_ms") >= 30.0, "{size}");
        // A request is billed in whole milliseconds: $0.20 and at least one of them.
        let gb = number("memory_mb") / 1024.0;
        assert!(number("warm_billed_ms") >= 1.0, "{size}");
        assert!(
            number("dollars_per_million") > 0.2 + gb * 1_000.0 * 0.000_013,
            "{size}"
        );
    }
    let recommended = &result["recommended"]["memory_mb"];
    assert!(memory.contains(&recommended), "{recommended}");
    let svg = std::fs::read_to_string(plot).unwrap();
    assert_eq!(svg.matches("<circle").count(), 6);
    assert!(svg.contains("512 MB") && svg.contains("1769 MB"), "{svg}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_missing_is_named() {
    let store = Store::lab().await;
    let folder = tempfile::tempdir().unwrap();
    let (rows, model) = (wines(folder.path(), 1), model("wine-v1.onnx"));
    let missing = folder.path().to_str().unwrap();
    let tune = [
        "tune",
        &model,
        "--rows",
        &rows,
        "--layer",
        missing,
        "--memory",
        "512",
        &library(),
    ];
    let error = store.fails(1, &tune).await;
    let expected = if Limits::for_memory(512).is_ok() {
        "extensions/model-sidecar is missing; run `make layer`"
    } else {
        "cannot limit memory and CPU"
    };
    assert!(error.contains(expected), "{error}");
}
