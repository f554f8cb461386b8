//! Callers who make runs fail, on versions that fail by themselves and on versions that do not.
//!
//! Whatever both versions fail on says nothing about the new one. The first index that `gather.onnx` does not have is 4,
//! and `one-row.onnx` fails on every request of two rows.

use std::ops::Range;

use bytes::Bytes;
use lab::http::HttpResponse;
use lab::s3::S3Server;
use serde_json::{Value, json};

use crate::support::{Alone, BUCKET, KEY, lambda, model, padded, s3_with, sample};

const ROLLED_BACK: &str = "rollback: the previous version is active until the source changes";
const KEPT: &str = "no rollback: the previous version fails on the same inputs";

/// A sidecar on which a version of these bytes has followed the one of `file`, which answered 30 requests.
struct Released {
    alone: Alone,
    _s3: S3Server,
    new: String,
}

impl Released {
    async fn start(file: &str, after: Bytes, good: &Value, variables: &[(&str, &str)]) -> Self {
        let s3 = s3_with(file).await;
        let mut all = vec![("MODEL_REFRESH_INTERVAL", "100ms")];
        all.extend_from_slice(variables);
        let alone = Alone::ready(&s3, &all).await;
        let client = alone.client();
        let mut old = String::new();
        for _ in 0..30 {
            let answer = client.post("/predict", good).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            old = version(&answer);
        }
        s3.put(BUCKET, KEY, after);
        let new = async {
            loop {
                // Between two versions that memory does not hold together there is none.
                let ready = client.get("/v2/models/wine/ready").await.unwrap();
                if let Some(new) = ready.header("x-model-version").filter(|new| *new != old) {
                    return new.to_owned();
                }
            }
        };
        let new = tokio::time::timeout(lab::WAIT_LIMIT, new).await;
        let new = new.expect("the new version");
        Self {
            alone,
            _s3: s3,
            new,
        }
    }

    /// Sends each, and expects this status of the new version.
    async fn send(&self, requests: impl IntoIterator<Item = Value>, status: u16) {
        let client = self.alone.client();
        for request in requests {
            let answer = client.post("/predict", &request).await.unwrap();
            assert_eq!(answer.status, status, "{request}: {}", answer.text());
            assert_eq!(version(&answer), self.new, "{request}");
        }
    }

    /// Sends requests one after the other until one of them is answered.
    async fn until_answered(
        &self,
        requests: impl Iterator<Item = Value>,
        status: u16,
    ) -> HttpResponse {
        let client = self.alone.client();
        let answered = async {
            for request in requests {
                let answer = client.post("/predict", &request).await.unwrap();
                if answer.status != status {
                    return answer;
                }
            }
            panic!("there are no more requests")
        };
        let answered = tokio::time::timeout(lab::WAIT_LIMIT, answered).await;
        answered.expect("an answer of the previous version")
    }

    fn said(&self, wanted: &str) -> usize {
        let log = self.alone.process.log().lines();
        log.iter().filter(|line| line.contains(wanted)).count()
    }

    async fn reason(&self) -> Value {
        let client = self.alone.client();
        let index = client.post("/v2/repository/index", &json!({})).await;
        let index: Value = index.unwrap().json().unwrap();
        index[0]["reason"].clone()
    }
}

fn version(answer: &HttpResponse) -> String {
    answer.header("x-model-version").unwrap().to_owned()
}

fn indices(range: Range<i64>) -> impl Iterator<Item = Value> {
    range.map(|index| json!({ "features": [index] }))
}

fn two_rows(range: Range<i64>) -> impl Iterator<Item = Value> {
    range.map(|number| json!({ "features": [[number, 1], [2, 3]] }))
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_fail_on_both_versions_roll_nothing_back_however_many_are_sent() {
    let good = [
        json!({ "features": [0, 3] }),
        json!({ "features": [[1, 2]] }),
    ];
    let bad: [(&str, u16, Vec<Value>); 2] = [
        ("gather.onnx", 400, indices(4..400).collect()),
        ("one-row.onnx", 500, two_rows(4..400).collect()),
    ];
    for (good, (file, status, bad)) in good.into_iter().zip(bad) {
        // The same graph, with another comment.
        let released = Released::start(file, padded(file, 4096), &good, &[]).await;
        released.send(vec![good.clone(); 4], 200).await;
        released.send(bad.clone(), status).await;
        released.alone.process.wait_for(KEPT).await.unwrap();
        released.send(bad, status).await;
        released.send(vec![good; 4], 200).await;
        assert_eq!(released.said(ROLLED_BACK), 0, "{file}");
        assert_eq!(released.reason().await, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_fails_on_all_former_requests_gives_way_although_bad_ones_come_between() {
    let good = json!({ "features": [3] });
    let stricter = model("gather-stricter.onnx");
    let released = Released::start("gather.onnx", stricter, &good, &[]).await;
    // At first nothing but bad ones, which are dropped; then callers as before, among more of these.
    released.send(indices(4..40), 400).await;
    released.alone.process.wait_for(KEPT).await.unwrap();
    let mixed = indices(40..i64::MAX).flat_map(|bad| [bad, good.clone(), good.clone()]);
    let answer = released.until_answered(mixed, 400).await;
    assert_eq!(answer.json().unwrap()["prediction"], json!([13.0]));
    assert_ne!(version(&answer), released.new);
    let reason = released.reason().await;
    assert!(
        reason
            .as_str()
            .unwrap()
            .contains("the previous version succeeds on"),
        "{reason}"
    );
    assert_eq!(released.said(ROLLED_BACK), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_version_takes_the_place_of_another_it_comes_back_when_both_fail() {
    let good = json!({ "features": [[1, 2]] });
    let file = "one-row.onnx";
    let replace = [("MODEL_RELOAD", "replace")];
    let released = Released::start(file, padded(file, 4096), &good, &replace).await;
    released.send(two_rows(0..29), 500).await;
    assert_eq!(released.said(KEPT), 0);
    released.send(two_rows(29..30), 500).await;
    released.alone.process.wait_for(KEPT).await.unwrap();
    released.send(vec![good; 4], 200).await;
    released.send(two_rows(30..100), 500).await;
    assert_eq!(released.said(ROLLED_BACK), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_version_takes_the_place_of_another_only_500s_roll_it_back() {
    let replace = [("MODEL_RELOAD", "replace")];
    let good = json!({ "features": [3] });
    let stricter = model("gather-stricter.onnx");
    let released = Released::start("gather.onnx", stricter, &good, &replace).await;
    released.send(vec![good; 100], 400).await;
    assert_eq!(released.said("the new version replaces"), 1);
    let request = json!({ "features": [[1, 2]] });
    let broken = model("tree-fails.onnx");
    let released = Released::start("linear.onnx", broken, &request, &replace).await;
    let requests = std::iter::repeat(request);
    let answer = released.until_answered(requests, 500).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json().unwrap()["prediction"], json!([[8.0]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn joined_runs_that_fail_are_made_again_for_each_request_alone() {
    let s3 = s3_with("one-row.onnx").await;
    let variables = [("MODEL_BATCH_MAX", "8"), ("MODEL_BATCH_DELAY", "20ms")];
    let alone = Alone::ready(&s3, &variables).await;
    for _ in 0..5 {
        let callers = (0..8).map(|_| {
            let client = alone.client();
            tokio::spawn(async move {
                let request = json!({ "features": [[1, 2]] });
                client.post("/predict", &request).await.unwrap()
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            let answer = caller.await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.json().unwrap()["prediction"], json!([[8.0]]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_fail_together_and_not_alone_all_succeed() {
    let s3 = s3_with("one-row.onnx").await;
    let lambda = lambda(&s3).start().await.unwrap();
    let mut event = sample("sqs.json");
    let one = event["Records"][0].take();
    let records = (0..5).map(|place| {
        let mut record = one.clone();
        record["messageId"] = format!("m{place}").into();
        record["body"] = json!({ "features": [[1, 2]] }).to_string().into();
        record
    });
    event["Records"] = records.collect();
    let answer = lambda.answer(&event).await.unwrap();
    assert_eq!(answer, json!({ "batchItemFailures": [] }));
}
