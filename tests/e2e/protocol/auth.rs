//! Authentication of callers by `MODEL_TOKEN=session`.

use http::HeaderValue;
use serde_json::{Value, json};

use crate::support::{Alone, body, error, features, http_event, platform, s3_with, sidecar};
use lab::reference::WINE;

/// Value of `AWS_SESSION_TOKEN`.
const SECRET: &str = "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaDGV1==";

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_the_token_get_401() {
    let s3 = s3_with("wine-v1.onnx").await;
    let variables = [("MODEL_TOKEN", "session"), ("AWS_SESSION_TOKEN", SECRET)];
    let alone = Alone::ready(&s3, &variables).await;
    let send = async |path: &str, token: Option<&str>| {
        let mut request = lab::http::post(path, &features(2)).unwrap();
        if path.starts_with("/v2") {
            *request.method_mut() = http::Method::GET;
        }
        if let Some(token) = token {
            let token = HeaderValue::from_str(token).unwrap();
            request.headers_mut().insert("x-model-token", token);
        }
        alone.client().send(request).await.unwrap()
    };
    for path in [
        "/predict",
        "/v2",
        "/v2/health/ready",
        "/v2/models/stats",
        "/nowhere",
    ] {
        for (token, words) in [
            (None, "is missing"),
            (Some(""), "is not the token"),
            (Some(&SECRET[1..]), "is not the token"),
            (Some("AWS_SESSION_TOKEN"), "is not the token"),
        ] {
            let answer = send(path, token).await;
            assert_eq!(answer.status, 401, "{path} {token:?}");
            assert_eq!(answer.header("www-authenticate"), Some("x-model-token"));
            let said: Value = answer.json().unwrap();
            for word in [words, "x-model-token", "MODEL_TOKEN", "AWS_SESSION_TOKEN"] {
                assert!(error(&said).contains(word), "{said}");
            }
            assert!(!answer.text().contains(SECRET));
        }
    }
    let answer = send("/predict", Some(SECRET)).await;
    WINE.v1.check(&answer.json().unwrap(), 0..2);
    assert_eq!(send("/nowhere", Some(SECRET)).await.status, 404);
    assert_eq!(send("/v2/health/live", None).await.status, 200);
    assert!(!alone.process.log().text().contains(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_sends_its_own_token() {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = platform(&s3)
        .env("MODEL_TOKEN", "session")
        .env("AWS_SESSION_TOKEN", SECRET);
    let function = function.start().await.unwrap();
    let direct = function.answer(&features(2)).await.unwrap();
    WINE.v1.check(&direct, 0..2);
    let mut event = http_event("POST", "/predict", &features(3));
    event["headers"]["x-model-token"] = json!("a guess");
    let reply = function.answer(&event).await.unwrap();
    assert_eq!(reply["statusCode"], 200, "{reply}");
    WINE.v1.check(&body(&reply), 0..3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_token_is_a_configuration_error() {
    let process = sidecar()
        .env("MODEL_URI", "s3://models/wine.onnx")
        .env("MODEL_TOKEN", "session")
        .start()
        .unwrap();
    assert_eq!(process.wait().await.unwrap().code(), Some(64));
    let told = process.log().text();
    assert!(
        told.contains("MODEL_TOKEN") && told.contains("AWS_SESSION_TOKEN"),
        "{told}"
    );
}
