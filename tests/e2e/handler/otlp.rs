//! OpenTelemetry: spans of sampled requests, decoded by an independent collector.

use lab::http;
use lab::reference::WINE;
use lab::rotel::{PrintedSpan, Rotel};
use serde_json::json;

use crate::support::{Alone, features, http_event, platform, s3_with};

/// Trace of a caller, and its span.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// X-Ray's trace and segment of the first invocation.
const X_RAY: &str = "Root=1-581cf771-a006649127e371903a2de979;Parent=53995c3f42cd8ad8;Sampled=1";
const X_RAY_TRACE: &str = "581cf771a006649127e371903a2de979";
const X_RAY_PARENT: &str = "53995c3f42cd8ad8";
/// Value of a header of each export.
const SECRET: &str = "never-in-a-log";

/// Names of the spans of the first request, which waited for the load.
const FIRST: [&str; 7] = [
    "model-sidecar",
    "decode",
    "queue",
    "infer",
    "encode",
    "fetch",
    "load",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_exports_spans() {
    check("forward").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sidecar_as_the_runtime_exports_spans() {
    check("attach").await;
}

async fn check(handler: &str) {
    let s3 = s3_with("wine-v1.onnx").await;
    let collector = Rotel::start().await.unwrap();
    let function = platform(&s3)
        .env("MODEL_HANDLER", handler)
        .env("AWS_LAMBDA_LOG_LEVEL", "DEBUG")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .env("OTEL_EXPORTER_OTLP_HEADERS", format!("x-api-key={SECRET}"))
        .env("OTEL_SERVICE_NAME", "fraud")
        // The last export ends without a further invocation.
        .freeze_when_idle(false);
    let function = function.start().await.unwrap();
    let invoked = function
        .invoke_with(features(2).to_string(), Some(X_RAY.to_owned()), None)
        .await;
    WINE.v1.check(&invoked.json.unwrap(), 0..2);
    // Neither is sampled.
    function.answer(&features(2)).await.unwrap();
    let mut event = http_event("POST", "/predict", &json!({ "features": "none" }));
    event["headers"]["traceparent"] = format!("00-{TRACE}-{PARENT}-00").into();
    function.answer(&event).await.unwrap();
    event["headers"]["traceparent"] = format!("00-{TRACE}-{PARENT}-01").into();
    event["headers"]["tracestate"] = "vendor=1".into();
    function.answer(&event).await.unwrap();
    collector.wait_for("error.type: Str(400)").await.unwrap();
    let log = function.shutdown().await.text();
    assert!(!log.contains(SECRET), "{log}");

    let spans = collector.spans();
    assert_eq!(names(&spans), [&FIRST[..], &["model-sidecar"]].concat());
    check_first(&spans[..7]);
    let failed = &spans[7];
    assert_eq!(failed["Trace ID"], TRACE);
    assert_eq!(failed["Parent ID"], PARENT);
    assert_eq!(failed["TraceState"], "vendor=1");
    assert_eq!(failed["Status code"], "STATUS_CODE_ERROR");
    assert_eq!(failed["http.response.status_code"], "Int(400)");
    let service = "service.name: Str(fraud)";
    collector.wait_for(service).await.unwrap();
}

/// Checks the spans of the first invocation: the call with its stages, and the steps of the load.
fn check_first(spans: &[PrintedSpan]) {
    for span in spans {
        assert_eq!(span["Trace ID"], X_RAY_TRACE);
        assert!(nanoseconds(span, "Start time") <= nanoseconds(span, "End time"));
    }
    let call = &spans[0];
    assert_eq!(call["Parent ID"], X_RAY_PARENT);
    assert_eq!(call["Kind"], "SPAN_KIND_CLIENT");
    assert_eq!(call["http.response.status_code"], "Int(200)");
    assert_eq!(call["model.name"], "Str(wine)");
    assert!(call.contains_key("faas.invocation_id"));
    for stage in &spans[1..5] {
        assert_eq!(stage["Parent ID"], call["ID"]);
        assert_eq!(stage["Kind"], "SPAN_KIND_INTERNAL");
        assert!(nanoseconds(call, "Start time") <= nanoseconds(stage, "Start time"));
    }
    for step in &spans[5..7] {
        assert_eq!(step["Parent ID"], X_RAY_PARENT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_the_functions_own_code_has_server_spans() {
    let s3 = s3_with("wine-v1.onnx").await;
    let collector = Rotel::start().await.unwrap();
    let url = collector.url();
    let alone = Alone::ready(&s3, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]).await;
    let send = async |sampled: &str, remote: bool| {
        let mut request = http::post("/predict", &features(2)).unwrap();
        let headers = request.headers_mut();
        let parent = format!("00-{TRACE}-{PARENT}-{sampled}");
        headers.insert("traceparent", parent.parse().unwrap());
        if remote {
            headers.insert("x-model-remote", "true".parse().unwrap());
        }
        let answer = alone.client().send(request).await.unwrap();
        WINE.v1.check(&answer.json().unwrap(), 0..2);
    };
    // The first is not sampled, and the second is the handler's, which has the span.
    send("00", false).await;
    send("01", true).await;
    send("01", false).await;
    alone.process.terminate().await.unwrap();
    collector.wait_for("Name           : encode").await.unwrap();
    let spans = collector.spans();
    assert_eq!(names(&spans), FIRST[..5]);
    assert_eq!(spans[0]["Kind"], "SPAN_KIND_SERVER");
    assert_eq!(spans[0]["Parent ID"], PARENT);
    for stage in &spans[1..] {
        assert_eq!(stage["Trace ID"], TRACE);
        assert_eq!(stage["Parent ID"], spans[0]["ID"]);
    }
}

fn names(spans: &[PrintedSpan]) -> Vec<&str> {
    spans.iter().map(|span| &*span["Name"]).collect()
}

fn nanoseconds(span: &PrintedSpan, name: &str) -> u64 {
    span[name].parse().unwrap()
}
