//! A new version under load: no request fails, and each answer is that of the version it names.

use std::collections::BTreeMap;
use std::sync::Arc;

use lab::http::Client;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::any_s3::{AnyS3, with_every_s3};
use crate::support::{Alone, KEY, features, lambda, model};
use lab::reference::{Reference, WINE};

with_every_s3!(
    callers_on_the_socket_notice_nothing_but_the_new_version,
    invocations_notice_nothing_but_the_new_version,
    a_bad_version_changes_nothing_and_a_good_one_after_it_is_taken,
    invocations_go_on_over_a_bad_version,
);

/// Rows of a request: enough that the two versions' labels differ, too.
const ROWS: usize = 100;
/// Answers that a client is to have seen before and after.
pub(crate) const ENOUGH: usize = 20;

/// Which version stands for which reference.
fn references(v1: &str, v2: &str) -> BTreeMap<String, &'static Reference> {
    BTreeMap::from([(v1.to_owned(), &WINE.v1), (v2.to_owned(), &WINE.v2)])
}

/// Holds what one client was answered, in order, against the references; gives the last version.
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

/// A caller on one connection, who asks again and again until told to stop.
pub(crate) struct Caller {
    answered: watch::Receiver<usize>,
    pub(crate) task: JoinHandle<Vec<Value>>,
}

impl Caller {
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

    /// Waits for so many answers more; a caller who failed ends the wait.
    pub(crate) async fn more(&mut self, answers: usize) {
        let goal = *self.answered.borrow() + answers;
        let reached = self.answered.wait_for(|count| *count >= goal);
        let _ = tokio::time::timeout(lab::WAIT_LIMIT, reached)
            .await
            .unwrap();
    }
}

async fn callers_on_the_socket_notice_nothing_but_the_new_version(s3: AnyS3) {
    let s3 = s3.holds("wine-v1.onnx").await;
    let alone = Alone::ready(&s3, &[("MODEL_REFRESH_INTERVAL", "100ms")]).await;
    let v1 = version(&alone.predict(1).await.json().unwrap());

    let stop = Arc::new(watch::Sender::new(false));
    let mut callers: Vec<Caller> = (0..4)
        .map(|_| Caller::start(&alone.client(), Arc::clone(&stop)))
        .collect();
    for caller in &mut callers {
        caller.more(ENOUGH).await;
    }
    s3.put(KEY, model("wine-v2.onnx")).await;
    alone
        .process
        .wait_for("another version answers")
        .await
        .unwrap();
    for caller in &mut callers {
        caller.more(ENOUGH).await;
    }
    stop.send_replace(true);

    let v2 = version(&alone.predict(1).await.json().unwrap());
    assert_ne!(v1, v2);
    for caller in callers {
        check(&caller.task.await.unwrap(), &v1, &v2);
    }
    assert_eq!(s3.transfers(2).await, 2);
}

async fn invocations_notice_nothing_but_the_new_version(s3: AnyS3) {
    let s3 = s3.holds("wine-v1.onnx").await;
    let lambda = lambda(&s3).env("MODEL_REFRESH_INTERVAL", "0");
    let lambda = lambda.start().await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..ENOUGH {
        answers.push(lambda.answer(&features(ROWS)).await.unwrap());
    }
    let v1 = version(&answers[0]);
    s3.put(KEY, model("wine-v2.onnx")).await;
    let bump = async {
        while version(answers.last().unwrap()) == v1 {
            answers.push(lambda.answer(&features(ROWS)).await.unwrap());
        }
    };
    tokio::time::timeout(lab::WAIT_LIMIT, bump).await.unwrap();
    for _ in 0..ENOUGH {
        answers.push(lambda.answer(&features(ROWS)).await.unwrap());
    }
    check(&answers, &v1, &version(answers.last().unwrap()));
    assert_eq!(s3.transfers(2).await, 2);
    // The same processes all along.
    let starts = lambda.log().lines();
    assert_eq!(
        starts
            .iter()
            .filter(|line| line.contains(" ready "))
            .count(),
        1
    );
}

async fn a_bad_version_changes_nothing_and_a_good_one_after_it_is_taken(s3: AnyS3) {
    let s3 = s3.holds("wine-v1.onnx").await;
    let alone = Alone::ready(&s3, &[("MODEL_REFRESH_INTERVAL", "100ms")]).await;
    let v1 = version(&alone.predict(1).await.json().unwrap());
    for (bad, file) in (0..).zip(["garbage.onnx", "truncated.onnx"]) {
        let mark = alone.process.log().mark();
        s3.put(KEY, model(file)).await;
        let stays = |line: &str| line.contains("the version that answers stays");
        let log = alone.process.log();
        log.wait_for_line_after(mark, "the reason", stays)
            .await
            .unwrap();
        asked_again(&s3).await;

        let answer = alone.predict(ROWS).await;
        let answer = answer.json().unwrap();
        assert_eq!(version(&answer), v1);
        WINE.v1.check(&answer, 0..ROWS);
        let fetched = s3.transfers(2 + bad).await;
        assert_eq!(fetched, 2 + bad, "{file} was fetched once");
        let reasons = log.lines().into_iter().filter(|line| stays(line));
        assert_eq!(reasons.count() as u64, 1 + bad, "{file} was refused once");
    }
    s3.put(KEY, model("wine-v2.onnx")).await;
    alone
        .process
        .wait_for("another version answers")
        .await
        .unwrap();
    let answer = alone.predict(ROWS).await.json().unwrap();
    assert_ne!(version(&answer), v1);
    WINE.v2.check(&answer, 0..ROWS);
}

async fn invocations_go_on_over_a_bad_version(s3: AnyS3) {
    let s3 = s3.holds("wine-v1.onnx").await;
    let lambda = lambda(&s3).env("MODEL_REFRESH_INTERVAL", "0");
    let lambda = lambda.start().await.unwrap();
    let v1 = version(&lambda.answer(&features(1)).await.unwrap());
    s3.put(KEY, model("garbage.onnx")).await;
    for _ in 0..ENOUGH {
        let answer = lambda.answer(&features(ROWS)).await.unwrap();
        assert_eq!(version(&answer), v1);
        WINE.v1.check(&answer, 0..ROWS);
    }
    lambda
        .wait_for("the version that answers stays")
        .await
        .unwrap();
    assert_eq!(s3.transfers(2).await, 2);
}

/// Waits until S3 has been asked twice more whether there is something new, and there was not.
async fn asked_again(s3: &AnyS3) {
    let before = s3.gets(304, 0).await;
    s3.gets(304, before + 2).await;
}

pub(crate) fn version(answer: &Value) -> String {
    answer["model_version"].as_str().unwrap().to_owned()
}
