//! A publisher that is killed before each of its requests. The manifest is as it was or as it was
//! going to be, and the same command again succeeds.

use std::process::Child;
use std::time::Duration;

use lab::s3::Rule;

use crate::support::{Ran, Store, model, with_data};

/// Longer than the test: the request is never executed.
const NEVER: Duration = Duration::from_secs(3_600);

/// Publishes the second version.
fn publish(store: &Store, model: &str) -> Child {
    let arguments = [
        "publish",
        model,
        &store.uri(),
        "--no-load",
        "--part-size",
        "5",
    ];
    store.spawn(&arguments)
}

async fn with_first_version() -> (Store, usize) {
    let store = Store::lab().await;
    let first = ["publish", &model("wine-v1.onnx"), &store.uri(), "--no-load"];
    store.ok(&first).await;
    let requests = store.s3().requests().len();
    (store, requests)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_publisher_leaves_nothing_half_visible() {
    let (_folder, second) = with_data(1, 6 << 20);
    let done = ("2".to_owned(), Some("1".to_owned()), None);
    let (store, before) = with_first_version().await;
    let ran = Ran::of(publish(&store, &second)).await;
    assert_eq!(ran.code, 0, "{}", ran.errors);
    let steps = store.s3().requests().len() - before;
    // At least: the manifest, a look at each file, its upload and its verification, the manifest.
    assert!(steps > 10, "{steps} requests");

    for step in 1..=steps {
        let (store, before) = with_first_version().await;
        store.s3().fail(Rule::any().nth(step).latency(NEVER));
        let mut publisher = publish(&store, &second);
        let wanted = format!("request {step} of {steps}");
        let arrived = store
            .s3()
            .wait_for_requests(&wanted, |all| all.len() >= before + step);
        arrived.await.unwrap();
        publisher.kill().unwrap();
        publisher.wait().unwrap();
        store.s3().heal();
        let state = store.state().await;
        assert!(
            state == done || state == ("1".to_owned(), None, None),
            "{state:?}"
        );
        let ran = Ran::of(publish(&store, &second)).await;
        assert_eq!(ran.code, 0, "request {step}: {}", ran.errors);
        assert_eq!(store.state().await, done, "request {step}");
    }
}
