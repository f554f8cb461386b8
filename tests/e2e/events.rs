//! Each kind of event that Lambda brings, from AWS's own samples.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lab::rie::ExecutionEnvironment;
use lab::s3::S3Server;
use serde_json::{Value, json};

use crate::reference::WINE;
use crate::support::{body, error, features, lambda, s3_with, sample};

/// The samples of those who speak HTTP.
const HTTP: [&str; 6] = [
    "rest.json",
    "http-v1.json",
    "http.json",
    "function-url.json",
    "alb.json",
    "alb-multi.json",
];

/// A sample made to ask for something else.
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

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_answered_in_its_own_form() {
    let (_s3, lambda) = wine().await;
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
async fn a_body_in_base64_is_the_same_body() {
    let (_s3, lambda) = wine().await;
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
async fn a_wrong_request_is_a_status_with_words_that_help() {
    let (_s3, lambda) = wine().await;
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
            "there is no model \"other\"",
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
async fn a_wrong_direct_invocation_is_a_function_error() {
    let (_s3, lambda) = wine().await;
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
        (sample("s3.json"), "Model.BadRequest", "features"),
        (sample("sqs.json"), "Model.BadRequest", "features"),
        (sample("eventbridge.json"), "Model.BadRequest", "features"),
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
async fn health_and_metadata_pass_through() {
    let (_s3, lambda) = wine().await;
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
