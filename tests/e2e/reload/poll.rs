//! When S3 is asked for a new version, what is said of how that went, and Triton's calls about it.

use std::time::Duration;

use lab::cloudwatch::{CloudWatch, Filter};
use lab::http::{Client, HttpResponse};
use lab::lambda::{Clock, Function};
use lab::s3::{RequestRecord, S3Server};
use serde_json::{Value, json};

use crate::support::{
    Alone, BUCKET, KEY, alive, body, error, features, http_event, model, platform, s3_with,
    with_both_clocks,
};
use lab::reference::WINE;

with_both_clocks!(an_interval_costs_one_conditional_request_for_each_model_and_less_costs_none);

const MINUTE: Duration = Duration::from_secs(60);
const LOAD: &str = "/v2/repository/models/wine/load";
const INDEX: &str = "/v2/repository/index";

/// Freezes for so long and invokes; gives the requests that it cost, by their key and status.
async fn after(time: Duration, function: &Function, s3: &S3Server) -> Vec<(String, Option<u16>)> {
    let before = s3.requests().len();
    let environment = function.environment().unwrap();
    environment.wait_until_frozen().await.unwrap();
    environment.let_pass(time).await.unwrap();
    s3.let_pass();
    let mut event = features(9);
    event["model"] = "wine".into();
    WINE.v1.check(&function.answer(&event).await.unwrap(), 0..9);
    environment.wait_until_frozen().await.unwrap();
    let requests = s3.requests().split_off(before);
    let conditional = |one: &RequestRecord| one.if_none_match.is_some() && one.method == "GET";
    assert!(requests.iter().all(conditional), "{requests:?}");
    let answered = requests.into_iter().map(|one| (one.key, one.status));
    let mut answered: Vec<_> = answered.collect();
    answered.sort();
    answered
}

async fn an_interval_costs_one_conditional_request_for_each_model_and_less_costs_none(
    clock: Clock,
) {
    let s3 = s3_with("wine-v1.onnx").await;
    s3.put(BUCKET, "names.onnx", model("wine-names.onnx"));
    let models = format!("wine=s3://{BUCKET}/{KEY}, names=s3://{BUCKET}/names.onnx");
    let function = platform(&s3)
        .envs([("MODEL_URI", ""), ("MODEL_NAME", "")])
        .env("MODELS", models)
        .env("MODEL_REFRESH_INTERVAL", "10m")
        // Whatever is due has its time to end.
        .env("MODEL_TAIL_BUDGET", "20s")
        .clock(clock);
    let function = function.start().await.unwrap();
    alive(&function).await;
    let one_each = [
        ("names.onnx".to_owned(), Some(304)),
        (KEY.to_owned(), Some(304)),
    ];
    for round in 0..4 {
        // From the start on less than half of the interval, and then less than nine tenths.
        let within = if round == 0 { 4 } else { 8 };
        assert_eq!(
            after(MINUTE * within, &function, &s3).await,
            [],
            "round {round}"
        );
        let all = after(MINUTE * (10 - within), &function, &s3).await;
        assert_eq!(all, one_each, "round {round}");
        assert_eq!(after(Duration::ZERO, &function, &s3).await, []);
    }
    // Hours make no more than one due.
    assert_eq!(after(MINUTE * 600, &function, &s3).await, one_each);
}

async fn status_of(client: &Client) -> Value {
    client.get("/v2/models/wine").await.unwrap().json().unwrap()
}

/// The status once it is as `holds` says.
async fn status_when(client: &Client, holds: impl Fn(&Value) -> bool) -> Value {
    let asking = async {
        loop {
            let status = status_of(client).await;
            if holds(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(lab::WAIT_LIMIT, asking).await.unwrap()
}

async fn load(client: &Client) -> HttpResponse {
    client.post(LOAD, &json!({})).await.unwrap()
}

async fn version(alone: &Alone) -> String {
    let answer = alone.predict(9).await;
    answer.header("x-model-version").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_asks_now_and_says_what_came_of_it() {
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
    // Which is said wherever the version that answers is named.
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
async fn a_load_is_there_only_where_the_operator_has_said_so_and_takes_nothing() {
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
    assert_eq!(s3.requests().len(), 1, "nobody was asked");

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
async fn the_index_holds_every_model_or_those_that_are_ready() {
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
async fn a_load_goes_through_the_handler_too() {
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

#[tokio::test(flavor = "multi_thread")]
async fn while_checks_fail_the_age_grows_and_status_and_metrics_say_so() {
    let mut s3 = s3_with("wine-v1.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let alone = Alone::observed(&s3, &cloudwatch).await;
    let client = alone.client();
    let confirmed = |status: &Value| status["parameters"]["confirmed_at_ms"].as_u64().unwrap();
    s3.down().await;
    let stays = "the version that answers stays";
    alone.process.wait_for(stays).await.unwrap();

    // The log has it a moment before.
    let before = status_when(&client, |status| {
        status["parameters"]["problem"].is_string()
    })
    .await;
    let failures = Filter::metric("ModelCheckFailures").dimension("ModelName", "wine");
    let age = Filter::metric("ModelAge").dimension("ModelName", "wine");
    let grown = |_: &[_]| {
        let oldest = cloudwatch.percentile(&age, 100.0).unwrap_or_default();
        cloudwatch.sum(&failures) >= 3.0 && oldest > 2.0
    };
    cloudwatch
        .wait_until("failures and age", grown)
        .await
        .unwrap();
    assert_eq!(confirmed(&status_of(&client).await), confirmed(&before));

    s3.up().await.unwrap();
    let healed = status_when(&client, |status| status["parameters"]["problem"].is_null()).await;
    assert!(confirmed(&healed) > confirmed(&before));
}
