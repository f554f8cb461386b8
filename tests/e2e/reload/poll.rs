//! Polls of the source: how often they run, and how failures are reported.

use std::time::Duration;

use lab::cloudwatch::{CloudWatch, Filter};
use lab::http::Client;
use lab::lambda::{Clock, Function};
use lab::s3::{RequestRecord, S3Server};
use serde_json::Value;

use crate::support::{
    Alone, BUCKET, KEY, alive, features, model, platform, s3_with, with_both_clocks,
};
use lab::reference::WINE;

with_both_clocks!(each_interval_sends_one_conditional_request_per_model);

const MINUTE: Duration = Duration::from_secs(60);

/// Freezes the environment for `time` and invokes the function. Returns key and status of the requests to S3.
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

async fn each_interval_sends_one_conditional_request_per_model(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    s3.put(BUCKET, "names.onnx", model("wine-names.onnx"));
    let models = format!("wine=s3://{BUCKET}/{KEY}, names=s3://{BUCKET}/names.onnx");
    let function = platform(&s3)
        .envs([("MODEL_URI", ""), ("MODEL_NAME", "")])
        .env("MODELS", models)
        .env("MODEL_REFRESH_INTERVAL", "10m")
        // Enough for every poll to complete.
        .env("MODEL_TAIL_BUDGET", "20s")
        .clock(clock);
    let function = function.start().await.unwrap();
    alive(&function).await;
    let one_each = [
        ("names.onnx".to_owned(), Some(304)),
        (KEY.to_owned(), Some(304)),
    ];
    for round in 0..4 {
        // Jitter: the first poll is due after at least half of the interval, later ones after nine tenths.
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
    // Several hours make one poll due.
    assert_eq!(after(MINUTE * 600, &function, &s3).await, one_each);
}

async fn status_of(client: &Client) -> Value {
    client.get("/v2/models/wine").await.unwrap().json().unwrap()
}

/// Waits for a status with this property.
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

#[tokio::test(flavor = "multi_thread")]
async fn failed_polls_are_reported_in_status_and_metrics() {
    let mut s3 = s3_with("wine-v1.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let alone = Alone::observed(&s3, &cloudwatch).await;
    let client = alone.client();
    let confirmed = |status: &Value| status["parameters"]["confirmed_at_ms"].as_u64().unwrap();
    s3.down().await;
    let stays = "keeping the active version";
    alone.process.wait_for(stays).await.unwrap();

    // The status follows the log line.
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
