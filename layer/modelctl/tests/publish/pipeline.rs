//! The whole way of a model: golden examples, first version, canary, promotion, a bad version,
//! rollback, prune.

use crate::support::{MANIFEST, Store, library, model, wines};

#[tokio::test(flavor = "multi_thread")]
async fn on_the_lab_s3() {
    pipeline(Store::lab().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_seaweedfs() {
    pipeline(Store::seaweedfs().await).await;
}

async fn pipeline(store: Store) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (manifest, library) = (store.uri(), library());
    let (first, second) = (model("wine-v1.onnx"), model("wine-v2.onnx"));
    let rows = wines(folder.path(), 60);
    let (golden_1, golden_2, baseline) = (path("1.json"), path("2.json"), path("baseline.json"));
    for (model, golden) in [(&first, &golden_1), (&second, &golden_2)] {
        let made = [
            "golden", model, "--data", &rows, "-o", golden, "--rows", "3", &library,
        ];
        assert_eq!(store.ok(&made).await["examples"], 3);
    }
    let made = [
        "baseline", &first, "--data", &rows, "-o", &baseline, &library,
    ];
    // 13 columns of the input, the label, and 3 probabilities.
    assert_eq!(store.ok(&made).await["histograms"], 17);

    // The first version.
    let publish = [
        "publish", &first, &manifest, &library, "--golden", &golden_1,
    ];
    let publish_first = [
        &publish[..],
        &["--baseline", &baseline, "--meta", "commit=1a2b3c"],
    ]
    .concat();
    let dry = store
        .ok(&[&publish_first[..], &["--dry-run"]].concat())
        .await;
    assert_eq!(
        (&dry["written"], &dry["version"]),
        (&false.into(), &"1".into())
    );
    assert!(
        store.get(MANIFEST).await.is_none() && store.get("fraud/1/wine-v1.onnx").await.is_none()
    );
    let done = store.ok(&publish_first).await;
    assert_eq!(
        (&done["written"], &done["version"]),
        (&true.into(), &"1".into())
    );
    assert_eq!(store.state().await, ("1".to_owned(), None, None));
    let published = store.manifest().await.unwrap();
    let (_, version) = published.current();
    assert_eq!((version.golden.len(), version.baseline.len()), (3, 17));
    assert_eq!(
        version.meta.iter().collect::<Vec<_>>(),
        [("commit", "1a2b3c")]
    );
    assert_eq!(version.signature.as_ref().unwrap().inputs.len(), 1);
    // Again: nothing to do.
    let again = store.ok(&publish_first).await;
    assert_eq!(
        (&again["written"], &again["version"]),
        (&false.into(), &"1".into())
    );

    // A bad version: the examples of the other model are not met.
    let bad = [
        "publish", &second, &manifest, &library, "--golden", &golden_1,
    ];
    let errors = store.fails(3, &bad).await;
    assert!(
        errors.contains("golden[") && errors.contains("is not met"),
        "{errors}"
    );
    assert_eq!(store.state().await, ("1".to_owned(), None, None));
    assert!(store.get("fraud/2/wine-v2.onnx").await.is_none());
    // Another model: its signature does not serve the callers.
    let errors = store
        .fails(3, &["publish", &model("linear.onnx"), &manifest, &library])
        .await;
    assert!(
        errors.contains("does not serve callers of version 1"),
        "{errors}"
    );
    let errors = store
        .fails(3, &["publish", &model("garbage.onnx"), &manifest, &library])
        .await;
    assert!(errors.contains("cannot use"), "{errors}");

    // Canary, and promotion.
    let canary = [
        "publish", &second, &manifest, &library, "--golden", &golden_2, "--canary", "5",
    ];
    store.ok(&canary).await;
    let at = |percent| Some(("2".to_owned(), percent));
    assert_eq!(store.state().await, ("1".to_owned(), None, at(5.0)));
    store.ok(&["canary", &manifest, "25"]).await;
    assert_eq!(store.state().await.2, at(25.0));
    store.ok(&["label", &manifest, "staging=2"]).await;
    let errors = store.fails(3, &["promote", &manifest, "--from", "9"]).await;
    assert!(
        errors.contains("version \"1\" is current, and --from expects \"9\""),
        "{errors}"
    );
    let shown = store.text(&["promote", &manifest, "--dry-run"]).await;
    assert!(
        shown.contains("- current: 1\n+ current: 2\n+ previous: 1"),
        "{shown}"
    );
    assert_eq!(store.state().await.0, "1");
    store.ok(&["promote", &manifest, "--from", "1"]).await;
    assert_eq!(
        store.state().await,
        ("2".to_owned(), Some("1".to_owned()), None)
    );
    let verified = store.ok(&["verify", &manifest]).await;
    assert_eq!(verified["objects"], 2);

    // Version 2 turns out to be bad in production.
    store.ok(&["rollback", &manifest, "--from", "2"]).await;
    assert_eq!(store.state().await, ("1".to_owned(), None, None));
    let errors = store.fails(3, &["rollback", &manifest]).await;
    assert!(errors.contains("names no previous version"), "{errors}");
    let status = store.ok(&["status", &manifest]).await;
    assert_eq!(status["problems"], serde_json::json!([]));
    assert_eq!(
        status["versions"][1]["roles"],
        serde_json::json!(["label staging"])
    );

    // A labelled version stays; then it goes from the manifest, and later its objects.
    store
        .ok(&["prune", &manifest, "--apply", "--days", "0"])
        .await;
    assert!(store.manifest().await.unwrap().version("2").is_ok());
    store.ok(&["label", &manifest, "staging", "--remove"]).await;
    let plan = store.ok(&["prune", &manifest, "--days", "0"]).await;
    assert_eq!(
        (&plan["applied"], &plan["objects"]),
        (&false.into(), &serde_json::json!([]))
    );
    assert!(store.manifest().await.unwrap().version("2").is_ok());
    store.ok(&["prune", &manifest, "--apply"]).await;
    assert!(store.manifest().await.unwrap().version("2").is_err());
    assert!(store.get("fraud/2/wine-v2.onnx").await.is_some());
    let pruned = store
        .ok(&["prune", &manifest, "--apply", "--days", "0"])
        .await;
    assert_eq!(
        pruned["objects"],
        serde_json::json!(["fraud/2/wine-v2.onnx"])
    );
    assert!(store.get("fraud/2/wine-v2.onnx").await.is_none());
    assert_eq!(store.state().await, ("1".to_owned(), None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn history_shows_each_change() {
    let store = Store::lab().await;
    let manifest = store.uri();
    let library = library();
    store
        .ok(&["publish", &model("wine-v1.onnx"), &manifest, &library])
        .await;
    store
        .ok(&["publish", &model("wine-v2.onnx"), &manifest, &library])
        .await;
    store.ok(&["rollback", &manifest]).await;
    let history = store.ok(&["history", &manifest]).await;
    let history = history.as_array().unwrap();
    assert_eq!(history.len(), 3);
    let fields = |index: usize| {
        let changes = history[index]["changes"].as_array().unwrap().iter();
        changes
            .map(|change| change["field"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(fields(0), ["current", "previous"]);
    assert_eq!(fields(1), ["current", "previous", "versions.2"]);
    assert_eq!(fields(2), ["current", "versions.1"]);
    let last = store.ok(&["history", &manifest, "--last", "1"]).await;
    assert_eq!(last[0]["changes"], history[0]["changes"]);
}
