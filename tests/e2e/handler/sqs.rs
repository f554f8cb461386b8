//! Batches of SQS messages.

use lab::rie::ExecutionEnvironment;
use lab::s3::S3Server;
use serde_json::{Value, json};

use crate::support::{features, lambda, s3_with, sample};
use lab::reference::WINE;

/// AWS's sample with one message per body; their ids are `m0`, `m1` and so on.
fn event<B: ToString>(bodies: &[B]) -> Value {
    let mut event = sample("sqs.json");
    let one = event["Records"][0].take();
    let records = bodies.iter().enumerate().map(|(place, body)| {
        let mut record = one.clone();
        record["messageId"] = format!("m{place}").into();
        record["body"] = body.to_string().into();
        record
    });
    event["Records"] = records.collect();
    event
}

async fn wine() -> (S3Server, ExecutionEnvironment) {
    let s3 = s3_with("wine-v1.onnx").await;
    let builder = lambda(&s3).env("AWS_LAMBDA_LOG_LEVEL", "DEBUG");
    let lambda = builder.start().await.unwrap();
    lambda.answer(&features(1)).await.unwrap();
    (s3, lambda)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_one_inference() {
    let (_s3, lambda) = wine().await;
    let bodies: Vec<Value> = WINE
        .rows
        .iter()
        .map(|row| json!({ "features": row }))
        .collect();
    let mark = lambda.log().mark();
    let answer = lambda.answer(&event(&bodies)).await.unwrap();
    assert_eq!(answer, json!({ "batchItemFailures": [] }));

    let line = lambda.wait_for("processed a batch").await.unwrap();
    for part in ["messages=178", "failed=0", "calls=1"] {
        assert!(line.contains(part), "{line}");
    }
    let lines = lambda.log().lines_after(mark).await;
    let answered = lines.iter().find_map(|line| line.split_once("response={"));
    let (_, rest) = answered.unwrap();
    let answer = format!("{{{rest}");
    let mut answers = serde_json::Deserializer::from_str(&answer).into_iter::<Value>();
    WINE.v1.check(&answers.next().unwrap().unwrap(), 0..178);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_messages_are_batch_item_failures() {
    let (_s3, lambda) = wine().await;
    let good = features(2).to_string();
    let bodies = [
        good.as_str(),
        r#"{"features":[[1,"#,
        r#"{"features":[1,2,3]}"#,
        &good,
        r#"{"features":["a",1,2,3,4,5,6,7,8,9,10,11,12]}"#,
        r#"{"features":[1e39,1,2,3,4,5,6,7,8,9,10,11,12]}"#,
        r#"{"model":"other","features":[1]}"#,
        "",
        &good,
    ];
    let answer = lambda.answer(&event(&bodies)).await.unwrap();
    let bad: Vec<Value> = [1, 2, 4, 5, 6, 7]
        .iter()
        .map(|place| json!({ "itemIdentifier": format!("m{place}") }))
        .collect();
    assert_eq!(answer, json!({ "batchItemFailures": bad }));
    lambda.wait_for("not a prediction request").await.unwrap();
}

/// Every message format, for a model with several inputs.
#[tokio::test(flavor = "multi_thread")]
async fn objects_and_open_inference_requests_as_messages() {
    let s3 = s3_with("add-two-inputs.onnx").await;
    let lambda = lambda(&s3).start().await.unwrap();
    let input =
        |name: &str| json!({ "name": name, "shape": [1, 2], "datatype": "FP32", "data": [1, 2] });
    let bodies = [
        json!({ "features": [{ "a": [1, 2], "b": [3, 4] }] }),
        json!({ "features": [{ "a": [1, 2], "b": [3, 4] }, { "b": [5, 6], "a": [7, 8] }] }),
        json!({ "features": { "a": [[1, 2]], "b": [[3, 4]] } }),
        json!({ "model": "wine", "inputs": [input("a"), input("b")] }),
        json!({ "features": [{ "a": [1, 2] }] }),
    ];
    let answer = lambda.answer(&event(&bodies)).await.unwrap();
    let bad = json!([{ "itemIdentifier": "m4" }]);
    assert_eq!(answer, json!({ "batchItemFailures": bad }));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_only_fail_together_all_succeed() {
    let s3 = s3_with("one-row.onnx").await;
    let lambda = lambda(&s3).start().await.unwrap();
    let bodies = [(); 5].map(|()| json!({ "features": [[1, 2]] }));
    let answer = lambda.answer(&event(&bodies)).await.unwrap();
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
}
