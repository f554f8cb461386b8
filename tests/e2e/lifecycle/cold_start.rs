//! The first invocation: requests to S3, phases of Init, format of the log.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use lab::s3::{Rule, S3Server};
use lab::soak::adder::{self, Size};
use serde_json::{Value, json};

use crate::support::any_s3::{AnyS3, with_every_s3};
use crate::support::{
    Alone, BUCKET, KEY, features, invoke_until_logged, lambda, model, platform, s3_with,
};
use lab::reference::WINE;

with_every_s3!(polls_download_nothing_until_the_object_changes);

#[tokio::test(flavor = "multi_thread")]
async fn first_invocation_sends_one_request_to_s3() {
    let s3 = s3_with("wine-v1.onnx").await;
    let lambda = lambda(&s3).start().await.unwrap();
    let answer = lambda.answer(&features(3)).await.unwrap();
    WINE.v1.check(&answer, 0..3);

    let requests = s3.requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert_eq!((&*requests[0].method, &*requests[0].key), ("GET", KEY));
    assert_eq!(requests[0].sent, model("wine-v1.onnx").len() as u64);

    let socket = lambda.tmp().join("model-sidecar.sock");
    let mode = socket.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{mode:o}");
}

async fn polls_download_nothing_until_the_object_changes(s3: AnyS3) {
    let s3 = s3.holds("wine-v1.onnx").await;
    let function = platform(&s3).env("MODEL_REFRESH_INTERVAL", "0");
    let function = function.start().await.unwrap();
    for _ in 0..3 {
        let answer = function.answer(&features(9)).await.unwrap();
        WINE.v1.check(&answer, 0..9);
    }
    assert!(s3.gets(304, 2).await >= 2);
    assert_eq!(s3.transfers(1).await, 1);

    s3.put(KEY, model("wine-v2.onnx")).await;
    invoke_until_logged(&function, "a new version is active").await;
    let answer = function.answer(&features(9)).await.unwrap();
    WINE.v2.check(&answer, 0..9);
    assert_eq!(s3.transfers(2).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_of_a_large_model_are_for_huge_pages() {
    if !Path::new("/sys/kernel/mm/transparent_hugepage").is_dir() {
        return;
    }
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, KEY, adder::adder(Size::LARGE, 5));
    let alone = Alone::ready(&s3, &[]).await;
    // The flag `hg` marks the mapping. The kernel may have no huge page free.
    let maps = std::fs::read_to_string(format!("/proc/{}/smaps", alone.process.pid())).unwrap();
    let (mut size, mut marked) = (0, 0);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Size:") => size = words.next().unwrap().parse::<u32>().unwrap(),
            Some("VmFlags:") if words.any(|flag| flag == "hg") => marked += size,
            _ => {}
        }
    }
    assert!(marked >= 12 * 1024, "{marked} KiB of 12 MiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_line_has_the_duration_of_every_phase() {
    let s3 = s3_with("wine-v1.onnx").await;
    let lambda = lambda(&s3).env("AWS_LAMBDA_LOG_FORMAT", "JSON");
    let lambda = lambda.start().await.unwrap();
    lambda.answer(&features(1)).await.unwrap();
    let line = lambda.wait_for(r#""message":"ready""#).await.unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();

    let ms = |name: &str| {
        line[name]
            .as_f64()
            .unwrap_or_else(|| panic!("{name}: {line}"))
    };
    let total = ms("total_ms");
    for phase in [
        "register_ms",
        "configure_ms",
        "build_ms",
        "open_onnxruntime_ms",
        "check_ms",
        "fetch_ms",
        "load_ms",
    ] {
        assert!(ms(phase) > 0.0 && ms(phase) <= total, "{phase}: {line}");
    }
    assert_eq!((&line["models"], &line["loaded"]), (&1.into(), &1.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_json_with_log_format_json() {
    let s3 = s3_with("wine-v1.onnx").await;
    // An interrupted download and an invalid request add a warning and an error.
    s3.fail(Rule::on("GET").first(1).truncate_after(100));
    let lambda = lambda(&s3).env("AWS_LAMBDA_LOG_FORMAT", "JSON");
    let lambda = lambda.start().await.unwrap();
    lambda.answer(&features(1)).await.unwrap();
    lambda.invoke(&json!({})).await.unwrap();
    let log = lambda.shutdown().await.unwrap();

    let lines = log.lines();
    let ours = lines.iter().filter(|line| !is_the_emulators(line));
    let ours: Vec<Value> = ours
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect();
    for line in &ours {
        for field in ["timestamp", "level", "message"] {
            assert!(line[field].is_string(), "no {field}: {line}");
        }
    }
    for (level, words) in [
        ("WARN", "resuming the download at byte"),
        ("INFO", "the model is loaded"),
        ("INFO", "ready"),
        ("ERROR", "missing required field: features"),
        ("INFO", "shutting down"),
    ] {
        let said = |line: &Value| {
            line["level"] == level && line["message"].as_str().unwrap().contains(words)
        };
        assert!(ours.iter().any(said), "{level} {words}: {ours:?}");
    }
}

/// Returns `true` if the emulator wrote the line.
fn is_the_emulators(line: &str) -> bool {
    let starts = ["START RequestId: ", "END RequestId: ", "REPORT RequestId: "];
    line.contains(" (rapid) ") || starts.iter().any(|start| line.starts_with(start))
}
