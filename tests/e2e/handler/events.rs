//! Every kind of Lambda event, from AWS's samples.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lab::rie::ExecutionEnvironment;
use lab::s3::S3Server;
use serde_json::{Value, json};

use crate::support::{body, error, features, lambda, s3_with, sample};
use lab::reference::WINE;

/// Samples of HTTP events.
const HTTP: [&str; 6] = [
    "rest.json",
    "http-v1.json",
    "http.json",
    "function-url.json",
    "alb.json",
    "alb-multi.json",
];

/// Sample event with another method, path and body.
fn event(name: &str, method: &str, path: &str, body: &str) -> Value {
    let mut event = sample(name);
    match name {
        "http.json" | "function-url.json" => {
            let stage = if name == "http.json" { "/prod" } else { "" };
            event["rawPath"] = format!("{stage}{path}").into();
            event["requestContext"]["http"]["method"] = method.into();
        }
        _ => {
            let stage = if name == "http-v1.json" { "/dev" } else { "" };
            event["path"] = format!("{stage}{path}").into();
            event["httpMethod"] = method.into();
        }
    }
    event["body"] = body.into();
    event["isBase64Encoded"] = false.into();
    event
}

async fn wine() -> (S3Server, ExecutionEnvironment) {
    let s3 = s3_with("wine-v1.onnx").await;
    let lambda = lambda(&s3).start().await.unwrap();
    lambda.answer(&features(1)).await.unwrap();
    (s3, lambda)
}

/// All kinds of events in one environment, in which the sidecar itself receives them.
#[tokio::test(flavor = "multi_thread")]
async fn the_sidecar_as_the_runtime_handles_each_event_the_same_way() {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = lambda(&s3)
        .env("MODEL_HANDLER", "attach")
        .env("MODEL_BASE_PATH", "/ml")
        .env("MODEL_REPOSITORY_API", "true");
    let function = function.start().await.unwrap();
    function.answer(&features(1)).await.unwrap();
    check_formats(&function).await;
    check_base64(&function).await;
    check_invalid_http(&function).await;
    check_invalid_direct(&function).await;
    check_health(&function).await;
    check_bare_http(&function).await;
    check_base_paths(&function).await;
    check_operations(&function).await;
    for event in warm_ups() {
        let answer = function.answer(&event).await.unwrap();
        assert_eq!(answer, json!({ "ready": true }), "{event}");
    }
    let log = function.log().text();
    assert!(
        log.contains("the function's bootstrap is attached"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_http_event_gets_its_format_of_response() {
    let (_s3, lambda) = wine().await;
    check_formats(&lambda).await;
}

async fn check_formats(lambda: &ExecutionEnvironment) {
    for name in HTTP {
        for path in ["/predict", "/models/wine/predict", "/"] {
            let event = event(name, "POST", path, &features(5).to_string());
            let reply = lambda.answer(&event).await.unwrap();
            assert_eq!(reply["statusCode"], 200, "{name} {path}: {reply}");
            assert_eq!(reply["isBase64Encoded"], false, "{name}");
            let answer = body(&reply);
            WINE.v1.check(&answer, 0..5);

            let version = &answer["model_version"];
            if name == "alb-multi.json" {
                let headers = &reply["multiValueHeaders"];
                assert_eq!(headers["x-model-version"], json!([version]));
                assert!(reply["headers"].is_null(), "{reply}");
            } else {
                assert_eq!(&reply["headers"]["x-model-version"], version, "{name}");
                assert_eq!(reply["headers"]["content-type"], "application/json");
            }
            let description = &reply["statusDescription"];
            assert_eq!(description == "200 OK", name.starts_with("alb"), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn base64_bodies() {
    let (_s3, lambda) = wine().await;
    check_base64(&lambda).await;
}

async fn check_base64(lambda: &ExecutionEnvironment) {
    for name in HTTP {
        let text = BASE64_STANDARD.encode(features(5).to_string());
        let mut event = event(name, "POST", "/predict", &text);
        event["isBase64Encoded"] = true.into();
        let reply = lambda.answer(&event).await.unwrap();
        assert_eq!(reply["statusCode"], 200, "{name}: {reply}");
        WINE.v1.check(&body(&reply), 0..5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_http_requests_get_a_status_and_a_hint() {
    let (_s3, lambda) = wine().await;
    check_invalid_http(&lambda).await;
}

async fn check_invalid_http(lambda: &ExecutionEnvironment) {
    let narrow = json!({ "features": [[1, 2, 3]] }).to_string();
    let words = json!({ "features": [["red", 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]] }).to_string();
    for (method, path, body_sent, status, hint) in [
        (
            "POST",
            "/predict",
            "{\"rows\":[]}",
            400,
            "missing required field: features",
        ),
        (
            "POST",
            "/predict",
            "{\"features\":[[1,",
            400,
            "not a prediction request",
        ),
        ("POST", "/predict", "", 400, "not a prediction request"),
        ("POST", "/predict", narrow.as_str(), 400, "13"),
        ("POST", "/predict", words.as_str(), 400, "red"),
        ("GET", "/predict", "", 405, "POST"),
        (
            "POST",
            "/models/other/predict",
            "{}",
            404,
            "unknown model \"other\"",
        ),
        ("GET", "/nowhere", "", 404, "POST /predict"),
        ("POST", "/v2/models/wine/infer", "{}", 400, "inputs"),
    ] {
        for name in HTTP {
            let event = event(name, method, path, body_sent);
            let reply = lambda.answer(&event).await.unwrap();
            assert_eq!(
                reply["statusCode"], status,
                "{name} {method} {path}: {reply}"
            );
            let answer = body(&reply);
            assert!(
                error(&answer).contains(hint),
                "{name} {method} {path} {hint}: {answer}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_direct_invocations_are_function_errors() {
    let (_s3, lambda) = wine().await;
    check_invalid_direct(&lambda).await;
}

async fn check_invalid_direct(lambda: &ExecutionEnvironment) {
    for (event, kind, hint) in [
        (
            json!({}),
            "Model.BadRequest",
            "missing required field: features",
        ),
        (
            json!([1, 2]),
            "Model.BadRequest",
            "not a prediction request",
        ),
        (
            json!("text"),
            "Model.BadRequest",
            "not a prediction request",
        ),
        (json!(null), "Model.BadRequest", "not a prediction request"),
        (json!({ "features": [[1, 2]] }), "Model.BadRequest", "13"),
        (
            json!({ "model": "other", "features": [] }),
            "Model.NotFound",
            "\"other\"",
        ),
        (sample("s3.json"), "Model.BadRequest", "Amazon S3"),
        (sample("sqs.json"), "Model.BadRequest", "features"),
        (
            json!({ "Records": [{ "EventSource": "aws:sns", "Sns": {} }] }),
            "Model.BadRequest",
            "Amazon SNS",
        ),
        (
            json!({ "requestContext": { "connectionId": "L0SM9", "eventType": "MESSAGE" }, "body": "{}" }),
            "Model.BadRequest",
            "WebSocket",
        ),
        (
            json!({ "messageVersion": "1.0", "agent": {}, "apiPath": "/predict", "httpMethod": "POST" }),
            "Model.BadRequest",
            "Bedrock",
        ),
    ] {
        let invocation = lambda.invoke(&event).await.unwrap();
        let failure = invocation
            .function_error()
            .unwrap_or_else(|| panic!("{event}"));
        assert_eq!(failure.error_type, kind, "{event}: {failure:?}");
        assert!(failure.message.contains(hint), "{event}: {failure:?}");
    }
    WINE.v1
        .check(&lambda.answer(&features(3)).await.unwrap(), 0..3);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metadata() {
    let (_s3, lambda) = wine().await;
    check_health(&lambda).await;
}

async fn check_health(lambda: &ExecutionEnvironment) {
    for name in HTTP {
        for (path, field) in [
            ("/v2", "extensions"),
            ("/v2/health/live", "live"),
            ("/v2/health/ready", "ready"),
            ("/v2/models/wine", "inputs"),
            ("/v2/models/wine/ready", "ready"),
        ] {
            let reply = lambda.answer(&event(name, "GET", path, "")).await.unwrap();
            assert_eq!(reply["statusCode"], 200, "{name} {path}: {reply}");
            assert!(!body(&reply)[field].is_null(), "{name} {path}: {reply}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn base_paths_are_removed() {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = lambda(&s3).env("MODEL_BASE_PATH", "/ml");
    check_base_paths(&function.start().await.unwrap()).await;
}

async fn check_base_paths(function: &ExecutionEnvironment) {
    let sent = features(4).to_string();
    let mut mapped = event("rest.json", "POST", "/scoring/models/wine/predict", &sent);
    mapped["pathParameters"] = json!({ "proxy": "models/wine/predict" });
    let mut unmapped = event("rest.json", "POST", "/ml/predict", &sent);
    unmapped["resource"] = Value::Null;
    for event in [
        mapped,
        unmapped,
        event("function-url.json", "POST", "/ml/predict", &sent),
        event("alb.json", "POST", "/ml/models/wine/predict", &sent),
    ] {
        let reply = function.answer(&event).await.unwrap();
        assert_eq!(reply["statusCode"], 200, "{event}: {reply}");
        WINE.v1.check(&body(&reply), 0..4);
    }
    // An unknown prefix is forwarded, and the error names the remedy.
    let other = event("alb.json", "POST", "/scoring/predict", &sent);
    let reply = function.answer(&other).await.unwrap();
    assert_eq!(reply["statusCode"], 404, "{reply}");
    for part in ["/scoring/predict", "MODEL_BASE_PATH"] {
        assert!(error(&body(&reply)).contains(part), "{reply}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn method_and_path_are_enough_for_an_http_event() {
    let (_s3, lambda) = wine().await;
    check_bare_http(&lambda).await;
}

async fn check_bare_http(lambda: &ExecutionEnvironment) {
    let ready = json!({ "httpMethod": "GET", "path": "/v2/health/ready", "body": "", "isBase64Encoded": false });
    let reply = lambda.answer(&ready).await.unwrap();
    assert_eq!(
        (&reply["statusCode"], body(&reply)["ready"].as_bool()),
        (&json!(200), Some(true))
    );
    for event in [
        json!({ "httpMethod": "POST", "path": "/predict", "body": features(3).to_string() }),
        json!({ "rawPath": "/predict", "body": features(3).to_string() }),
    ] {
        let reply = lambda.answer(&event).await.unwrap();
        assert_eq!(reply["statusCode"], 200, "{reply}");
        WINE.v1.check(&body(&reply), 0..3);
    }
}

/// Operator calls in several spellings.
const OPERATIONS: [(&str, &str); 6] = [
    ("GET", "/v2/models/stats"),
    ("GET", "/v2/models/%73tats"),
    ("GET", "/v2/models/wine/stats/"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/%72epository/models/wine/load"),
    ("POST", "/v2/repository/models/wine/unload"),
];

#[tokio::test(flavor = "multi_thread")]
async fn remote_callers_cannot_use_operator_calls() {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = lambda(&s3).env("MODEL_REPOSITORY_API", "true");
    let function = function.start().await.unwrap();
    function.answer(&features(1)).await.unwrap();
    check_operations(&function).await;
}

async fn check_operations(function: &ExecutionEnvironment) {
    for name in HTTP {
        for (method, path) in OPERATIONS {
            let mut event = event(name, method, path, "{}");
            // The caller cannot override the handler's header.
            let multi = name.ends_with("multi.json")
                || name.starts_with("rest")
                || name.ends_with("v1.json");
            if multi {
                event["multiValueHeaders"]["X-Model-Remote"] = json!(["false", ""]);
                event["multiValueHeaders"]["connection"] = json!(["x-model-remote"]);
            } else {
                event["headers"]["X-MODEL-REMOTE"] = "false".into();
                event["headers"]["connection"] = "x-model-remote".into();
            }
            let reply = function.answer(&event).await.unwrap();
            assert_eq!(reply["statusCode"], 403, "{name} {method} {path}: {reply}");
            let answer = body(&reply);
            assert!(
                error(&answer).contains("MODEL_REMOTE_OPERATIONS"),
                "{answer}"
            );
        }
        let reply = function
            .answer(&event(name, "GET", "/v2", ""))
            .await
            .unwrap();
        let extensions = body(&reply)["extensions"].to_string();
        assert!(extensions.contains("binary_tensor_data"), "{extensions}");
        for absent in ["statistics", "model_repository"] {
            assert!(!extensions.contains(absent), "{extensions}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn remote_callers_can_use_operator_calls_if_enabled() {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = lambda(&s3).env("MODEL_REMOTE_OPERATIONS", "true");
    let function = function.start().await.unwrap();
    function.answer(&features(2)).await.unwrap();
    let event = |method, path| event("http.json", method, path, "{}");
    let statistics = function
        .answer(&event("GET", "/v2/models/stats"))
        .await
        .unwrap();
    assert_eq!(statistics["statusCode"], 200, "{statistics}");
    assert_eq!(body(&statistics)["model_stats"][0]["inference_count"], 2);
    let index = function
        .answer(&event("POST", "/v2/repository/index"))
        .await
        .unwrap();
    assert_eq!(body(&index)[0]["state"], "READY");
    let metadata = function.answer(&event("GET", "/v2")).await.unwrap();
    let extensions = body(&metadata)["extensions"].to_string();
    assert!(
        extensions.contains("statistics") && extensions.contains("model_repository"),
        "{extensions}"
    );
    // `load` needs its own variable.
    let load = event("POST", "/v2/repository/models/wine/load");
    let refused = function.answer(&load).await.unwrap();
    assert_eq!(refused["statusCode"], 403, "{refused}");
    assert!(
        error(&body(&refused)).contains("MODEL_REPOSITORY_API"),
        "{refused}"
    );
}

/// Warm-up events.
fn warm_ups() -> [Value; 4] {
    let mut scheduler = sample("eventbridge.json");
    scheduler["source"] = "aws.scheduler".into();
    scheduler["detail"] = "{}".into();
    [
        sample("eventbridge.json"),
        scheduler,
        json!({ "source": "serverless-plugin-warmup" }),
        json!({ "warmer": true, "concurrency": 1 }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_up_waits_for_the_model_without_inference() {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = lambda(&s3).env("MODEL_REMOTE_OPERATIONS", "true");
    // Init ends without the model, so that the first event waits for it.
    let function = function
        .env("MODEL_INIT_BUDGET", "0")
        .start()
        .await
        .unwrap();
    for event in warm_ups() {
        let answer = function.answer(&event).await.unwrap();
        assert_eq!(answer, json!({ "ready": true }), "{event}");
    }
    let statistics = event("http.json", "GET", "/v2/models/stats", "");
    let reply = function.answer(&statistics).await.unwrap();
    assert_eq!(
        body(&reply)["model_stats"][0]["inference_count"],
        0,
        "{reply}"
    );

    let mut inference = warm_ups()[0].clone();
    inference["features"] = features(2)["features"].clone();
    WINE.v1
        .check(&function.answer(&inference).await.unwrap(), 0..2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_up_without_a_model_is_a_function_error() {
    let s3 = S3Server::start().await.unwrap();
    let function = lambda(&s3)
        .timeout_seconds(2)
        .env("MODEL_INIT_BUDGET", "1s");
    let function = function.start().await.unwrap();
    for event in warm_ups() {
        let invocation = function.invoke(&event).await.unwrap();
        let failure = invocation.function_error().unwrap();
        assert_eq!(failure.error_type, "Model.NotReady", "{event}: {failure:?}");
    }
}
