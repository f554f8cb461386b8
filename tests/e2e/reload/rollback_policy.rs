//! Rollback decisions: failures of the version itself, and failures that requests cause.
//!
//! Inputs on which both versions fail do not count against the new one. `gather.onnx` fails from index 4 on, and
//! `one-row.onnx` fails on every request of two rows.

use std::ops::Range;

use bytes::Bytes;
use lab::http::HttpResponse;
use lab::s3::S3Server;
use serde_json::{Value, json};

use crate::support::{Alone, BUCKET, KEY, model, padded, s3_with};

const ROLLED_BACK: &str = "rollback: the previous version is active until the source changes";
const KEPT: &str = "no rollback: the previous version fails on the same inputs";

/// Sidecar after a swap from a version that has served 30 requests.
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
                // With `MODEL_RELOAD=replace` no version is active between the two.
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

    /// Sends the requests; asserts that the new version responds with this status.
    async fn send(&self, requests: impl IntoIterator<Item = Value>, status: u16) {
        let client = self.alone.client();
        for request in requests {
            let answer = client.post("/predict", &request).await.unwrap();
            assert_eq!(answer.status, status, "{request}: {}", answer.text());
            assert_eq!(version(&answer), self.new, "{request}");
        }
    }

    /// Sends requests until one gets another status.
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
async fn inputs_that_fail_on_both_versions_cause_no_rollback() {
    let good = [
        json!({ "features": [0, 3] }),
        json!({ "features": [[1, 2]] }),
    ];
    let bad: [(&str, u16, Vec<Value>); 2] = [
        ("gather.onnx", 400, indices(4..400).collect()),
        ("one-row.onnx", 500, two_rows(4..400).collect()),
    ];
    for (good, (file, status, bad)) in good.into_iter().zip(bad) {
        // The same graph with another comment.
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
async fn a_version_that_fails_on_all_former_inputs_is_rolled_back() {
    let good = json!({ "features": [3] });
    let stricter = model("gather-stricter.onnx");
    let released = Released::start("gather.onnx", stricter, &good, &[]).await;
    // Invalid inputs only, which do not count; then former inputs among more invalid ones.
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
async fn with_replace_inputs_that_fail_on_both_versions_cause_no_rollback() {
    let good = json!({ "features": [[1, 2]] });
    let file = "one-row.onnx";
    let replace = [("MODEL_RELOAD", "replace")];
    let released = Released::start(file, padded(file, 4096), &good, &replace).await;
    released.send(two_rows(0..29), 500).await;
    assert_eq!(released.said(KEPT), 0);
    // A request with the evidence of fewer failures may still wait for the end of the reload.
    let kept = async {
        for n in 29.. {
            released.send(two_rows(n..n + 1), 500).await;
            if released.said(KEPT) > 0 {
                break;
            }
        }
    };
    let kept = tokio::time::timeout(lab::WAIT_LIMIT, kept).await;
    assert!(kept.is_ok(), "not logged: {KEPT}");
    released.send(vec![good; 4], 200).await;
    released.send(two_rows(0..100), 500).await;
    assert_eq!(released.said(ROLLED_BACK), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_replace_only_500_responses_cause_a_rollback() {
    let replace = [("MODEL_RELOAD", "replace")];
    let good = json!({ "features": [3] });
    let stricter = model("gather-stricter.onnx");
    let released = Released::start("gather.onnx", stricter, &good, &replace).await;
    released.send(vec![good; 100], 400).await;
    assert_eq!(released.said("replacing the active version"), 1);
    let request = json!({ "features": [[1, 2]] });
    let broken = model("tree-fails.onnx");
    let released = Released::start("linear.onnx", broken, &request, &replace).await;
    let requests = std::iter::repeat(request);
    let answer = released.until_answered(requests, 500).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json().unwrap()["prediction"], json!([[8.0]]));
}
