//! Triton's model repository extension: `load`, `unload` and `index`.

use lab::http::{Client, HttpResponse};
use serde_json::{Value, json};

use crate::support::{
    Alone, BUCKET, KEY, body, error, features, http_event, model, platform, s3_with,
};
use lab::reference::WINE;

const LOAD: &str = "/v2/repository/models/wine/load";
const INDEX: &str = "/v2/repository/index";

async fn status_of(client: &Client) -> Value {
    client.get("/v2/models/wine").await.unwrap().json().unwrap()
}

async fn load(client: &Client) -> HttpResponse {
    client.post(LOAD, &json!({})).await.unwrap()
}

async fn version(alone: &Alone) -> String {
    let answer = alone.predict(9).await;
    answer.header("x-model-version").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn load_polls_at_once_and_returns_the_outcome() {
    let mut s3 = s3_with("wine-v1.onnx").await;
    let settings = [
        ("MODEL_REPOSITORY_API", "true"),
        ("MODEL_REFRESH_INTERVAL", "24h"),
    ];
    let alone = Alone::ready(&s3, &settings).await;
    let client = alone.client();
    let v1 = version(&alone).await;

    let answer = load(&client).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json().unwrap(), json!({}));
    assert_eq!(s3.requests().last().unwrap().status, Some(304));

    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    let answer = load(&client).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let v2 = version(&alone).await;
    assert_eq!(answer.header("x-model-version"), Some(v2.as_str()));
    assert_ne!(v1, v2);
    WINE.v2.check(&alone.predict(9).await.json().unwrap(), 0..9);

    s3.put(BUCKET, KEY, model("garbage.onnx"));
    for _ in 0..2 {
        let answer = load(&client).await;
        assert_eq!(answer.status, 409, "{}", answer.text());
        let said = answer.json().unwrap();
        let words = "the newest version of model \"wine\" is not active: ";
        assert!(error(&said).starts_with(words), "{said}");
    }
    // Metadata, index and readiness report the problem next to the active version.
    let status = status_of(&client).await;
    assert_eq!(status["versions"], json!([v2]));
    let problem = status["parameters"]["problem"].as_str().unwrap();
    let index = client.post(INDEX, &json!({})).await.unwrap();
    let entry = json!({ "name": "wine", "version": v2, "state": "READY", "reason": problem });
    assert_eq!(index.json().unwrap(), json!([entry]));
    let ready = client.get("/v2/models/wine/ready").await.unwrap();
    let ready: Value = ready.json().unwrap();
    assert_eq!(
        (&ready["ready"], &ready["version"]),
        (&json!(true), &json!(v2))
    );
    assert_eq!(ready["parameters"], status["parameters"]);

    s3.down().await;
    let answer = load(&client).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("no connection"), "{}", answer.text());
    assert_eq!(version(&alone).await, v2);

    s3.put(BUCKET, KEY, model("wine-v1.onnx"));
    s3.up().await.unwrap();
    assert_eq!(load(&client).await.status, 200);
    WINE.v1.check(&alone.predict(9).await.json().unwrap(), 0..9);
    let status = status_of(&client).await;
    let parameters = status["parameters"].as_object().unwrap();
    let names: Vec<_> = parameters.keys().collect();
    assert_eq!(names, ["confirmed_at_ms", "digest", "loaded_at_ms"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn load_needs_a_variable_and_takes_no_parameters() {
    let s3 = s3_with("wine-v1.onnx").await;
    let alone = Alone::ready(&s3, &[]).await;
    let client = alone.client();
    let answer = load(&client).await;
    assert_eq!(answer.status, 403);
    assert!(
        answer.text().contains("MODEL_REPOSITORY_API"),
        "{}",
        answer.text()
    );
    let unload = "/v2/repository/models/wine/unload";
    let answer = client.post(unload, &json!({})).await.unwrap();
    assert_eq!(answer.status, 403);
    assert!(
        answer.text().contains("is not unloaded"),
        "{}",
        answer.text()
    );
    assert_eq!(s3.requests().len(), 1, "no poll");

    let alone = Alone::ready(&s3, &[("MODEL_REPOSITORY_API", "true")]).await;
    let client = alone.client();
    let config = json!({ "parameters": { "config": "{}" } });
    let answer = client.post(LOAD, &config).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("parameters.config"),
        "{}",
        answer.text()
    );
    let other = "/v2/repository/models/fraud/load";
    assert_eq!(client.post(other, &json!({})).await.unwrap().status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn index_lists_all_models_or_the_ready_ones() {
    let s3 = s3_with("wine-v1.onnx").await;
    let models = format!("wine=s3://{BUCKET}/{KEY}, gone=s3://{BUCKET}/x.onnx");
    let settings = [("MODEL_URI", ""), ("MODEL_NAME", ""), ("MODELS", &models)];
    let alone = Alone::start(&s3, &settings);
    let started = "not every model is loaded";
    alone.process.wait_for(started).await.unwrap();
    let client = alone.client();
    let all: Value = client
        .post(INDEX, &json!({}))
        .await
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(all[0]["name"], "gone");
    assert_eq!(
        (&all[0]["state"], &all[0]["version"]),
        (&json!("UNAVAILABLE"), &json!(""))
    );
    let reason = all[0]["reason"].as_str().unwrap();
    assert!(reason.contains("S3 has no such object"), "{reason}");
    assert_eq!(
        (&all[1]["name"], &all[1]["state"]),
        (&json!("wine"), &json!("READY"))
    );
    let ready = client.post(INDEX, &json!({ "ready": true })).await.unwrap();
    assert_eq!(ready.json().unwrap(), json!([all[1]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn load_through_the_handler() {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = platform(&s3)
        .env("MODEL_REPOSITORY_API", "true")
        .env("MODEL_REMOTE_OPERATIONS", "true")
        .env("MODEL_REFRESH_INTERVAL", "24h");
    let function = function.start().await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    let event = http_event("POST", LOAD, &json!({}));
    let answer = function.answer(&event).await.unwrap();
    assert_eq!(answer["statusCode"], 200, "{answer}");
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    s3.put(BUCKET, KEY, model("garbage.onnx"));
    let answer = function.answer(&event).await.unwrap();
    assert_eq!(answer["statusCode"], 409, "{answer}");
    assert!(error(&body(&answer)).contains("is not active"), "{answer}");
}
