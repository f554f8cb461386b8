//! Invalid configurations: the sidecar reports every error at once and does not start.

use std::os::unix::process::ExitStatusExt as _;

use lab::s3::S3Server;

use crate::support::{Alone, BUCKET, features, lambda, s3_with, sidecar};

/// Variables, their invalid values, and the allowed ones.
const WRONG: [(&str, &str, &str); 5] = [
    ("MODEL_URI", "https://models/wine.onnx", "s3://BUCKET/KEY"),
    ("MODEL_PORT", "99999", "a whole number from 0 to 65535"),
    ("MODEL_REFRESH_INTERVAL", "60", "with a unit"),
    (
        "MODEL_METRICS",
        "prometheus",
        "one of cloudwatch, emf, none",
    ),
    ("MODEL_SOCKET", "sidecar.sock", "an absolute path"),
];

fn wrong() -> Vec<(&'static str, &'static str)> {
    WRONG
        .iter()
        .map(|(name, value, _)| (*name, *value))
        .collect()
}

/// Asserts that a text names every variable, its value and the allowed ones.
fn assert_reports_every_error(text: &str) {
    for (name, value, allowed) in WRONG {
        let words = format!("{name}={value:?} is not allowed: expected ");
        let mistake = text
            .split(&words)
            .nth(1)
            .unwrap_or_else(|| panic!("no {words}: {text}"));
        let (mistake, _) = mistake.split_once("; ").unwrap_or((mistake, ""));
        assert!(mistake.contains(allowed), "{name}: {mistake}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_logged_and_the_invocation_fails() {
    let s3 = S3Server::start().await.unwrap();
    let lambda = lambda(&s3).envs(wrong()).start().await.unwrap();
    let invocation = lambda.invoke(&features(1)).await.unwrap();
    assert!(invocation.function_error().is_some(), "{invocation:?}");
    let line = lambda.wait_for("invalid configuration").await.unwrap();
    assert_reports_every_error(&line);
    // The sidecar reported the error to the platform.
    lambda.wait_for("Extension.InitError").await.unwrap();
    assert!(s3.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_code_is_64_without_lambda() {
    let s3 = S3Server::start().await.unwrap();
    let alone = Alone::start(&s3, &wrong());
    assert_eq!(alone.process.wait().await.unwrap().code(), Some(64));
    assert_reports_every_error(&alone.process.log().text());
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_names_are_rejected_before_any_request_to_s3() {
    let s3 = s3_with("wine-v1.onnx").await;
    for (name, value, words) in [
        ("MODEL_BUCKET", "s3://models", "a bucket's name"),
        (
            "MODEL_BUCKET",
            "arn:aws:s3:::models",
            "BUCKET for arn:aws:s3:::BUCKET",
        ),
        (
            "MODEL_KEY",
            "wine/\u{1b}[0mmodel.onnx",
            "control characters",
        ),
        ("MODEL_NAME", "wi\nne", "control characters"),
    ] {
        let mut variables = vec![
            ("MODEL_URI", ""),
            ("MODEL_BUCKET", BUCKET),
            ("MODEL_KEY", "wine/model.onnx"),
        ];
        variables.push((name, value));
        let alone = Alone::start(&s3, &variables);
        assert_eq!(alone.process.wait().await.unwrap().code(), Some(64));
        let log = alone.process.log().text();
        assert!(log.contains(&format!("{name}=")), "{log}");
        assert!(log.contains(words), "{log}");
    }
    assert!(s3.requests().is_empty());
    let padded = [
        ("MODEL_URI", " s3://models/wine/model.onnx\n"),
        ("MODEL_NAME", "wine\r\n"),
    ];
    let alone = Alone::ready(&s3, &padded).await;
    assert_eq!(alone.predict(1).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_model_the_error_lists_the_variables() {
    let process = sidecar().start().unwrap();
    assert_eq!(process.wait().await.unwrap().code(), Some(64));
    for name in ["MODEL_URI", "MODELS", "MODEL_BUCKET", "MODEL_KEY"] {
        assert!(process.log().text().contains(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_variables_are_reported_and_ignored() {
    let s3 = s3_with("wine-v1.onnx").await;
    let alone = Alone::ready(&s3, &[("MODEL_REFRESH", "1s")]).await;
    alone
        .process
        .wait_for("MODEL_REFRESH is not a variable of the sidecar")
        .await
        .unwrap();
    assert_eq!(alone.predict(1).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn command_line() {
    for (argument, code, words) in [
        ("--help", 0, "MODEL_URI"),
        ("-h", 0, "MODEL_METRICS_INTERVAL"),
        ("--version", 0, "model-sidecar 0."),
        ("-V", 0, "model-sidecar 0."),
        ("serve", 64, "\"serve\""),
    ] {
        let process = sidecar().arg(argument).start().unwrap();
        let status = process.wait().await.unwrap();
        assert_eq!(
            (status.code(), status.signal()),
            (Some(code), None),
            "{argument}"
        );
        let text = process.log().text();
        assert!(text.contains(words), "{argument}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_required_model_fails_init() {
    let s3 = S3Server::start().await.unwrap();
    s3.create_bucket(BUCKET);
    let lambda = lambda(&s3).env("MODEL_REQUIRED", "true");
    let lambda = lambda.start().await.unwrap();
    let invocation = lambda.invoke(&features(1)).await.unwrap();
    assert!(invocation.function_error().is_some(), "{invocation:?}");
    let line = lambda.wait_for("MODEL_REQUIRED=true").await.unwrap();
    assert!(
        line.contains("there is no object wine/model.onnx"),
        "{line}"
    );
    lambda.wait_for("Extension.InitError").await.unwrap();

    let alone = Alone::start(&s3, &[("MODEL_REQUIRED", "true")]);
    assert_eq!(alone.process.wait().await.unwrap().code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_onnx_runtime_is_reported() {
    let s3 = s3_with("wine-v1.onnx").await;
    let alone = Alone::start(&s3, &[("ORT_DYLIB_PATH", "/no/such/libonnxruntime.so")]);
    alone
        .process
        .wait_for("/no/such/libonnxruntime.so")
        .await
        .unwrap();
    let answer = alone.predict(1).await;
    assert_eq!(answer.status, 503);
    // The path is logged, not returned to callers.
    let words = answer.text();
    assert!(words.contains("cannot open ONNX Runtime"), "{words}");
    assert!(!words.contains("/no/such"), "{words}");
}
