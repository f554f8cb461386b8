//! Rollback of a version whose every run fails.

use std::sync::Arc;

use lab::cloudwatch::{CloudWatch, Filter};
use lab::http::{Client, HttpResponse};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::{
    Alone, BUCKET, KEY, body, error, features, http_event, model, platform, s3_with,
};
use lab::reference::WINE;

/// Rows per request.
const ROWS: usize = 9;
const ROLLED_BACK: &str = "rollback: the previous version is active until the source changes";

/// Starts a client that sends requests in a loop on one connection until `stop` is set.
fn caller(client: &Client, stop: Arc<watch::Sender<bool>>) -> JoinHandle<Vec<HttpResponse>> {
    let client = client.clone();
    tokio::spawn(async move {
        let mut connection = client.connect().await.unwrap();
        let mut answers = Vec::new();
        while !*stop.borrow() {
            let request = lab::http::post("/predict", &features(ROWS)).unwrap();
            answers.push(connection.send(request).await.unwrap());
        }
        answers
    })
}

fn version(answer: &HttpResponse) -> String {
    answer.header("x-model-version").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_previous_version_serves_until_the_source_changes() {
    let s3 = s3_with("wine-v1.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let alone = Alone::observed(&s3, &cloudwatch).await;
    let v1 = version(&alone.predict(ROWS).await);
    let stop = Arc::new(watch::Sender::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| caller(&alone.client(), Arc::clone(&stop)))
        .collect();

    s3.put(BUCKET, KEY, model("wine-fails.onnx"));
    alone.process.wait_for(ROLLED_BACK).await.unwrap();
    for _ in 0..3 {
        let answer = alone.predict(ROWS).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(version(&answer), v1);
        WINE.v1.check(&answer.json().unwrap(), 0..ROWS);
    }
    stop.send_replace(true);

    // Each response is correct, or an error that names the failing version.
    let mut failed = Vec::new();
    for caller in callers {
        for answer in caller.await.unwrap() {
            if answer.status == 200 {
                assert_eq!(version(&answer), v1);
                WINE.v1.check(&answer.json().unwrap(), 0..ROWS);
            } else {
                assert_eq!(answer.status, 500, "{}", answer.text());
                failed.push(version(&answer));
            }
        }
    }
    assert!(failed.len() >= 6, "{failed:?}");
    assert!(
        failed.iter().all(|bad| *bad == failed[0] && *bad != v1),
        "{failed:?}"
    );

    // Further polls keep the previous version, whose status has the reason.
    let seen = s3.requests().len();
    let asked_twice = |requests: &[_]| requests.len() >= seen + 2;
    s3.wait_for_requests("two checks", asked_twice)
        .await
        .unwrap();
    assert_eq!(version(&alone.predict(ROWS).await), v1);
    let client = alone.client();
    let index = client
        .post("/v2/repository/index", &json!({}))
        .await
        .unwrap();
    let index: Value = index.json().unwrap();
    assert_eq!(
        (&index[0]["version"], &index[0]["state"]),
        (&json!(v1), &json!("READY"))
    );
    let reason = index[0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("runs failed inside ONNX Runtime"),
        "{reason}"
    );
    let rollbacks = Filter::metric("ModelRollbacks").dimension("ModelName", "wine");
    let counted = |_: &[_]| cloudwatch.sum(&rollbacks) >= 1.0;
    cloudwatch
        .wait_until("the rollback", counted)
        .await
        .unwrap();
    let lag = Filter::metric("ModelVersionLag").dimension("ModelName", "wine");
    let lags = |_: &[_]| cloudwatch.percentile(&lag, 100.0) > Some(0.0);
    cloudwatch
        .wait_until("the lag behind the wanted version", lags)
        .await
        .unwrap();
    let log = alone.process.log().lines();
    let said = log.iter().filter(|line| line.contains(ROLLED_BACK));
    assert_eq!(said.count(), 1, "{log:?}");

    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    let v2_answers = async {
        while version(&alone.predict(ROWS).await) == v1 {
            tokio::task::yield_now().await;
        }
    };
    let v2_answers = tokio::time::timeout(lab::WAIT_LIMIT, v2_answers).await;
    v2_answers.unwrap();
    WINE.v2
        .check(&alone.predict(ROWS).await.json().unwrap(), 0..ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_on_lambda_runs_in_parallel_with_invocations() {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = platform(&s3).env("MODEL_REFRESH_INTERVAL", "0");
    let function = function.start().await.unwrap();
    WINE.v1
        .check(&function.answer(&features(ROWS)).await.unwrap(), 0..ROWS);
    s3.put(BUCKET, KEY, model("wine-fails.onnx"));
    let event = http_event("POST", "/predict", &features(ROWS));
    let mut failures = 0;
    let back = async {
        while !function.log().text().contains(ROLLED_BACK) {
            let answer = function.answer(&event).await.unwrap();
            failures += usize::from(answer["statusCode"] != 200);
        }
    };
    tokio::time::timeout(lab::WAIT_LIMIT, back).await.unwrap();
    assert!(failures >= 6, "{failures}");
    for _ in 0..5 {
        let answer = function.answer(&event).await.unwrap();
        assert_eq!(answer["statusCode"], 200, "{answer}");
        WINE.v1.check(&body(&answer), 0..ROWS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_previous_version_the_active_one_stays() {
    let s3 = s3_with("wine-fails.onnx").await;
    let alone = Alone::ready(&s3, &[("MODEL_REFRESH_INTERVAL", "100ms")]).await;
    let stays = "keeping it: no other version is available";
    for _ in 0..10 {
        let answer = alone.predict(ROWS).await;
        assert_eq!(answer.status, 500);
        let said: Value = answer.json().unwrap();
        assert!(error(&said).starts_with("the model failed"), "{said}");
    }
    alone.process.wait_for(stays).await.unwrap();
    assert_eq!(alone.predict(ROWS).await.status, 500);
    let log = alone.process.log().lines();
    let said = log.iter().filter(|line| line.contains(stays));
    assert_eq!(said.count(), 1, "{log:?}");
}
