//! New versions under load: no request fails, and every response comes from the version that it names.

use std::sync::Arc;

use tokio::sync::watch;

use crate::support::any_s3::{AnyS3, with_every_s3};
use crate::support::load_client::{ENOUGH, LoadClient, ROWS, check, version};
use crate::support::{Alone, KEY, features, lambda, model};
use lab::reference::WINE;

with_every_s3!(
    a_swap_fails_no_request_on_the_socket,
    a_swap_fails_no_invocation,
    a_bad_version_is_fetched_once_and_the_next_good_one_loads,
    a_bad_version_fails_no_invocation,
);

async fn a_swap_fails_no_request_on_the_socket(s3: AnyS3) {
    let s3 = s3.holds("wine-v1.onnx").await;
    let alone = Alone::ready(&s3, &[("MODEL_REFRESH_INTERVAL", "100ms")]).await;
    let v1 = version(&alone.predict(1).await.json().unwrap());

    let stop = Arc::new(watch::Sender::new(false));
    let mut clients: Vec<LoadClient> = (0..4)
        .map(|_| LoadClient::start(&alone.client(), Arc::clone(&stop)))
        .collect();
    for client in &mut clients {
        client.more(ENOUGH).await;
    }
    s3.put(KEY, model("wine-v2.onnx")).await;
    alone
        .process
        .wait_for("a new version is active")
        .await
        .unwrap();
    for client in &mut clients {
        client.more(ENOUGH).await;
    }
    stop.send_replace(true);

    let v2 = version(&alone.predict(1).await.json().unwrap());
    assert_ne!(v1, v2);
    for client in clients {
        check(&client.task.await.unwrap(), &v1, &v2);
    }
    let log = alone.process.log().text();
    assert_eq!(s3.transfers(2).await, 2, "{log}");
}

async fn a_swap_fails_no_invocation(s3: AnyS3) {
    let s3 = s3.holds("wine-v1.onnx").await;
    let lambda = lambda(&s3).env("MODEL_REFRESH_INTERVAL", "0");
    let lambda = lambda.start().await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..ENOUGH {
        answers.push(lambda.answer(&features(ROWS)).await.unwrap());
    }
    let v1 = version(&answers[0]);
    s3.put(KEY, model("wine-v2.onnx")).await;
    let swap = async {
        while version(answers.last().unwrap()) == v1 {
            answers.push(lambda.answer(&features(ROWS)).await.unwrap());
        }
    };
    tokio::time::timeout(lab::WAIT_LIMIT, swap).await.unwrap();
    for _ in 0..ENOUGH {
        answers.push(lambda.answer(&features(ROWS)).await.unwrap());
    }
    check(&answers, &v1, &version(answers.last().unwrap()));
    assert_eq!(s3.transfers(2).await, 2);
    // No process has restarted.
    let starts = lambda.log().lines();
    assert_eq!(
        starts
            .iter()
            .filter(|line| line.contains(" ready "))
            .count(),
        1
    );
}

async fn a_bad_version_is_fetched_once_and_the_next_good_one_loads(s3: AnyS3) {
    let s3 = s3.holds("wine-v1.onnx").await;
    let alone = Alone::ready(&s3, &[("MODEL_REFRESH_INTERVAL", "100ms")]).await;
    let v1 = version(&alone.predict(1).await.json().unwrap());
    for (bad, file) in (0..).zip(["garbage.onnx", "truncated.onnx"]) {
        let mark = alone.process.log().mark();
        s3.put(KEY, model(file)).await;
        let stays = |line: &str| line.contains("keeping the active version");
        let log = alone.process.log();
        log.wait_for_line_after(mark, "the reason", stays)
            .await
            .unwrap();
        polled_again(&s3).await;

        let answer = alone.predict(ROWS).await;
        let answer = answer.json().unwrap();
        assert_eq!(version(&answer), v1);
        WINE.v1.check(&answer, 0..ROWS);
        let fetched = s3.transfers(2 + bad).await;
        assert_eq!(fetched, 2 + bad, "{file} is fetched once");
        let reasons = log.lines().into_iter().filter(|line| stays(line));
        assert_eq!(reasons.count() as u64, 1 + bad, "{file} is rejected once");
    }
    s3.put(KEY, model("wine-v2.onnx")).await;
    alone
        .process
        .wait_for("a new version is active")
        .await
        .unwrap();
    let answer = alone.predict(ROWS).await.json().unwrap();
    assert_ne!(version(&answer), v1);
    WINE.v2.check(&answer, 0..ROWS);
}

async fn a_bad_version_fails_no_invocation(s3: AnyS3) {
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
    lambda.wait_for("keeping the active version").await.unwrap();
    assert_eq!(s3.transfers(2).await, 2);
}

/// Waits for two more polls that find no change.
async fn polled_again(s3: &AnyS3) {
    let before = s3.gets(304, 0).await;
    s3.gets(304, before + 2).await;
}
