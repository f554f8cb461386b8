//! Credentials: none of them is in the log, the metrics, the traces or a response, whatever fails.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use lab::cloudwatch::CloudWatch;
use lab::credentials::{ACCESS_KEY, SECRET_KEY};
use lab::http::{Client, post};
use lab::lambda::Function;
use lab::s3::Rule;
use lab::xray::XRayDaemon;
use serde_json::json;

use crate::support::{
    BUCKET, KEY, features, http_event, invoke_until_logged, model, platform, s3_with,
};

/// Value of `AWS_SESSION_TOKEN`, which `MODEL_TOKEN=session` requires of callers.
const TOKEN: &str = "IQoJb3JpZ2luX2VjEXAMPLESESSIONTOKEN";
/// Credentials of a proxy.
const PROXY: &str = "modelsidecar:passwordofproxy";

#[tokio::test(flavor = "multi_thread")]
async fn no_credentials_leave_the_handler_and_the_sidecar() {
    check("forward", "Text").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credentials_leave_the_sidecar_as_the_runtime() {
    check("attach", "JSON").await;
}

async fn check(handler: &str, log_format: &str) {
    let s3 = s3_with("wine-v1.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let daemon = XRayDaemon::start().await.unwrap();
    s3.fail(Rule::on("GET").first(1).status(403, "AccessDenied"));
    let function = platform(&s3)
        .envs(cloudwatch.env())
        .env("MODEL_HANDLER", handler)
        .env("AWS_SESSION_TOKEN", TOKEN)
        .env("MODEL_TOKEN", "session")
        .env("HTTPS_PROXY", format!("http://{PROXY}@127.0.0.1:9"))
        .env("AWS_LAMBDA_LOG_FORMAT", log_format)
        .env("AWS_LAMBDA_LOG_LEVEL", "DEBUG")
        .env("MODEL_LOG_LEVEL", "DEBUG")
        .env("MODEL_METRICS", "cloudwatch")
        .env("MODEL_METRICS_INTERVAL", "0")
        .env("MODEL_REFRESH_INTERVAL", "0")
        .xray_daemon(daemon.address())
        // The local calls need a process that runs.
        .freeze_when_idle(false);
    let function = function.start().await.unwrap();
    let mut seen = String::new();
    let mut note = |text: &str| writeln!(seen, "{text}").unwrap();
    let invalid = json!({ "features": "none" });
    let events = [
        features(2),
        invalid.clone(),
        http_event("POST", "/predict", &invalid),
    ];
    for event in &events {
        let trace = "Root=1-581cf771-a006649127e371903a2de979;Parent=53995c3f42cd8ad8;Sampled=1";
        let trace = Some(trace.to_owned());
        note(
            &function
                .invoke_with(event.to_string(), trace, None)
                .await
                .text(),
        );
    }
    s3.fail(Rule::any().first(2).status(503, "SlowDown"));
    s3.put(BUCKET, KEY, model("garbage.onnx"));
    invoke_until_logged(&function, "keeping the active version").await;
    for path in ["/predict", "/metrics"] {
        for token in ["", "wrong", TOKEN] {
            note(&call(&function, path, token).await);
        }
    }
    let sent = cloudwatch.wait_until("metrics", |all| !all.is_empty());
    note(&format!("{:?}", sent.await.unwrap()));
    // The rest goes to the log.
    cloudwatch.fail_next(1_000, 403, "AccessDenied");
    function.answer(&features(2)).await.unwrap();
    let log = function.shutdown().await.text();
    note(&format!("{:?}", daemon.datagrams()));
    for expected in ["_aws", "DEBUG", "keeping the active version"] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
    assert!(
        seen.contains("model-sidecar") && seen.contains("TYPE"),
        "{seen}"
    );

    let encoded = BASE64_STANDARD.encode(PROXY);
    let password = PROXY.split(':').next_back().unwrap();
    for secret in [ACCESS_KEY, SECRET_KEY, TOKEN, password, &encoded] {
        for text in [&log, &seen] {
            let line = text.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "{secret}");
        }
    }
}

/// Calls the sidecar on its socket with a token; returns status, headers and body.
async fn call(function: &Function, path: &str, token: &str) -> String {
    let socket = function
        .environment()
        .unwrap()
        .tmp()
        .join("model-sidecar.sock");
    let mut request = post(path, &features(1)).unwrap();
    if path == "/metrics" {
        *request.method_mut() = http::Method::GET;
    }
    let token = HeaderValue::from_str(token).unwrap();
    request.headers_mut().insert("x-model-token", token);
    let answer = Client::unix(socket).send(request).await.unwrap();
    format!("{answer:?} {}", answer.text())
}
