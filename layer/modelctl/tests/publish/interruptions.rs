//! Commands that are killed before each of their requests. The manifest is as it was or as it was
//! going to be. No object is missing that it names. The same command again succeeds.

use std::collections::BTreeSet;
use std::time::Duration;

use lab::s3::Rule;

use crate::support::{MANIFEST, Store, model, with_data};

/// Longer than the test: the request is never executed.
const NEVER: Duration = Duration::from_secs(3_600);

fn publish<'a>(model: &'a str, manifest: &'a str) -> Vec<&'a str> {
    vec!["publish", model, manifest, "--no-load", "--part-size", "5"]
}

/// A store with versions 1 and 2. Version 2 is the canary.
async fn with_canary() -> Store {
    let store = Store::lab().await;
    let manifest = store.uri();
    let [first, second] = ["wine-v1.onnx", "wine-v2.onnx"].map(model);
    store.ok(&publish(&first, &manifest)).await;
    let second = publish(&second, &manifest);
    store.ok(&[&second[..], &["--canary", "5"]].concat()).await;
    store
}

/// Runs a command on copies of a store: once to its end, and once for each of its requests, killed
/// before the request is executed.
async fn kill_at_each_request(before: &Store, arguments: &[&str]) {
    let old = before.get(MANIFEST).await;
    let old_keys = keys(before);
    let (whole, earlier) = copy(before).await;
    whole.ok(arguments).await;
    let requests = whole.s3().requests().len() - earlier;
    let new = whole.get(MANIFEST).await;
    let new_keys = keys(&whole);
    assert_ne!(old, new, "the command changes nothing");
    // At least: the manifest is read and written.
    assert!(requests >= 2, "{requests} requests");

    for request in 1..=requests {
        let (store, earlier) = copy(before).await;
        store.s3().fail(Rule::any().nth(request).latency(NEVER));
        let mut command = store.spawn(arguments);
        let wanted = format!("request {request} of {requests}");
        let arrived = store
            .s3()
            .wait_for_requests(&wanted, |all| all.len() >= earlier + request);
        arrived.await.unwrap();
        command.kill().unwrap();
        command.wait().unwrap();
        store.s3().heal();

        store.manifest().await;
        let manifest = store.get(MANIFEST).await;
        assert!(manifest == old || manifest == new, "{wanted}");
        let is_complete = old_keys.is_subset(&keys(&store));
        assert!(
            manifest == new || is_complete,
            "{wanted}: the manifest is first"
        );

        store.ok(arguments).await;
        store.manifest().await;
        assert_eq!(store.get(MANIFEST).await, new, "{wanted}");
        // A second `prune` may remove more: the objects of versions that left the manifest before it.
        assert!(keys(&store).is_subset(&new_keys), "{wanted}");
    }
    // The last response was lost.
    whole.ok(arguments).await;
    assert_eq!(whole.get(MANIFEST).await, new);
}

/// Copies a store. Returns the number of requests that it took, too.
async fn copy(store: &Store) -> (Store, usize) {
    let copy = Store::lab().await;
    for key in store.s3().keys(&store.bucket) {
        let object = store.s3().get(&store.bucket, &key).unwrap();
        let put = copy.client().put_object().bucket(&copy.bucket).key(&key);
        let put = put.body(object.bytes.into());
        let metadata = object.metadata.into_iter().collect();
        put.set_metadata(Some(metadata)).send().await.unwrap();
    }
    let requests = copy.s3().requests().len();
    (copy, requests)
}

fn keys(store: &Store) -> BTreeSet<String> {
    store.s3().keys(&store.bucket).into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_publisher_leaves_nothing_half_visible() {
    let (_folder, second) = with_data(1, 6 << 20);
    let store = Store::lab().await;
    let manifest = store.uri();
    store.ok(&publish(&model("wine-v1.onnx"), &manifest)).await;
    kill_at_each_request(&store, &publish(&second, &manifest)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_change_of_roles_leaves_the_old_or_the_new_manifest() {
    let store = with_canary().await;
    let manifest = store.uri();
    for arguments in [
        &["promote", &manifest, "--version", "2", "--from", "1"][..],
        &["canary", &manifest, "25"],
        &["canary", &manifest, "--end"],
        &["label", &manifest, "staging=2"],
    ] {
        kill_at_each_request(&store, arguments).await;
    }
    store.ok(&["promote", &manifest]).await;
    kill_at_each_request(&store, &["rollback", &manifest, "--to", "1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_prune_deletes_no_object_before_the_manifest_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::lab().await;
    let manifest = store.uri();
    let publish_next = async |seed: u8| {
        let file = folder.path().join("wine.onnx");
        let mut content = std::fs::read(model("wine-v1.onnx")).unwrap();
        // The description, which follows the rest: field 6, one byte.
        content.extend([6 << 3 | 2, 1, b'0' + seed]);
        std::fs::write(&file, content).unwrap();
        store.ok(&publish(file.to_str().unwrap(), &manifest)).await;
    };
    for seed in 1..=4 {
        publish_next(seed).await;
    }
    // The first two versions leave the manifest, and their objects stay.
    store.ok(&["prune", &manifest, "--apply"]).await;
    publish_next(5).await;
    // Now the third version leaves the manifest, and the objects of the first two are deleted.
    let prune = ["prune", &manifest, "--apply", "--days", "0"];
    let plan = store.ok(&["prune", &manifest, "--days", "0"]).await;
    assert_eq!(plan["objects"].as_array().unwrap().len(), 2);
    kill_at_each_request(&store, &prune).await;
}
