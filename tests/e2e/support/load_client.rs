//! Clients that send requests in a loop during a swap.

use std::collections::BTreeMap;
use std::sync::Arc;

use lab::http::Client;
use lab::reference::{Reference, WINE};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::features;

/// Rows per request: enough that the labels of both versions differ.
pub(crate) const ROWS: usize = 100;
/// Responses that each client receives before and after the swap.
pub(crate) const ENOUGH: usize = 20;

/// Expected outputs by version.
fn references(v1: &str, v2: &str) -> BTreeMap<String, &'static Reference> {
    BTreeMap::from([(v1.to_owned(), &WINE.v1), (v2.to_owned(), &WINE.v2)])
}

/// Checks the responses to one client, in order: the outputs of each version, and a single swap from `v1` to `v2`.
pub(crate) fn check(answers: &[Value], v1: &str, v2: &str) {
    let references = references(v1, v2);
    let mut seen_v2 = false;
    for answer in answers {
        let version = answer["model_version"].as_str().unwrap();
        references[version].check(answer, 0..ROWS);
        assert!(!(seen_v2 && version == v1), "back from {v2} to {v1}");
        seen_v2 |= version == v2;
    }
    assert_eq!(answers.first().unwrap()["model_version"], v1);
    assert_eq!(answers.last().unwrap()["model_version"], v2);
}

/// Client that sends requests in a loop on one connection until `stop` is set.
pub(crate) struct LoadClient {
    /// Number of responses.
    answered: watch::Receiver<usize>,
    /// Task that returns the responses.
    pub(crate) task: JoinHandle<Vec<Value>>,
}

impl LoadClient {
    /// Starts the client.
    pub(crate) fn start(client: &Client, stop: Arc<watch::Sender<bool>>) -> Self {
        let (count, answered) = watch::channel(0);
        let client = client.clone();
        let task = tokio::spawn(async move {
            let mut connection = client.connect().await.unwrap();
            let mut answers = Vec::new();
            while !*stop.borrow() {
                let request = lab::http::post("/predict", &features(ROWS)).unwrap();
                let answer = connection.send(request).await.unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
                let named = answer.header("x-model-version").map(str::to_owned);
                let answer = answer.json().unwrap();
                assert_eq!(answer["model_version"].as_str(), named.as_deref());
                answers.push(answer);
                count.send_replace(answers.len());
            }
            answers
        });
        Self { answered, task }
    }

    /// Waits for `answers` more responses, or for a failure of the client.
    pub(crate) async fn more(&mut self, answers: usize) {
        let goal = *self.answered.borrow() + answers;
        let reached = self.answered.wait_for(|count| *count >= goal);
        let _ = tokio::time::timeout(lab::WAIT_LIMIT, reached)
            .await
            .unwrap();
    }
}

/// Version that served a response.
pub(crate) fn version(answer: &Value) -> String {
    answer["model_version"].as_str().unwrap().to_owned()
}
