//! Several publishers at once, and writes that S3 rejects.

use std::collections::BTreeSet;

use lab::s3::Rule;

use crate::support::{MANIFEST, Ran, Store, model, with_data};

#[tokio::test(flavor = "multi_thread")]
async fn publishers_that_race_all_publish_on_the_lab_s3() {
    race(Store::lab().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishers_that_race_all_publish_on_seaweedfs() {
    race(Store::seaweedfs().await).await;
}

/// Each of several publishers gets a version of its own, and the files of no two are mixed.
async fn race(store: Store) {
    let models: Vec<_> = (0..4).map(|seed| with_data(seed, 1_000)).collect();
    let uri = store.uri();
    let publishers: Vec<_> = models
        .iter()
        // Two have the same model.
        .chain([&models[0]])
        .map(|(_, model)| store.spawn(&["publish", model, &uri, "--no-load"]))
        .collect();
    let mut names = BTreeSet::new();
    for publisher in publishers {
        let ran = Ran::of(publisher).await;
        assert_eq!(ran.code, 0, "{}", ran.errors);
        names.insert(ran.result["version"].as_str().unwrap().to_owned());
    }
    let manifest = store.manifest().await.unwrap();
    let there: BTreeSet<String> = manifest
        .versions()
        .map(|(name, _)| name.to_string())
        .collect();
    assert_eq!(there, names);
    let digests: BTreeSet<String> = manifest
        .versions()
        .map(|(_, version)| {
            version
                .files
                .iter()
                .map(|file| file.digest.as_str())
                .collect()
        })
        .collect();
    assert_eq!((names.len(), digests.len()), (4, 4));
    assert!(manifest.previous().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_read_again_and_a_manifest_equal_to_ours_is_success() {
    let store = Store::lab().await;
    let (uri, first) = (store.uri(), model("wine-v1.onnx"));
    // S3 asks to try again.
    let busy = || {
        Rule::on("PUT")
            .key(MANIFEST)
            .first(2)
            .status(409, "ConditionalRequestConflict")
    };
    store.s3().fail(busy());
    let done = store.ok(&["publish", &first, &uri, "--no-load"]).await;
    assert_eq!(done["written"], true);
    // A write whose response was lost: S3 has it, and the next attempt finds the condition unmet.
    store
        .ok(&["publish", &model("wine-v2.onnx"), &uri, "--no-load"])
        .await;
    let written = store.get(MANIFEST).await.unwrap();
    store.s3().heal();
    store.ok(&["rollback", &uri]).await;
    store
        .s3()
        .fail(Rule::on("PUT").key(MANIFEST).first(1).overwrite(written));
    let done = store.ok(&["promote", &uri, "--version", "2"]).await;
    assert_eq!(done["written"], false);
    assert_eq!(store.state().await.0, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_in_between_is_not_overwritten() {
    let store = Store::lab().await;
    let uri = store.uri();
    store
        .ok(&["publish", &model("wine-v1.onnx"), &uri, "--no-load"])
        .await;
    let other = store.get(MANIFEST).await.unwrap();
    store
        .ok(&["publish", &model("wine-v2.onnx"), &uri, "--no-load"])
        .await;
    let etag = store.ok(&["status", &uri]).await["etag"]
        .as_str()
        .unwrap()
        .to_owned();

    let rule = || Rule::on("PUT").key(MANIFEST).first(1);
    store.s3().fail(rule().overwrite(other.clone()));
    let errors = store.fails(4, &["label", &uri, "stable=1"]).await;
    assert!(errors.contains("it was changed in between"), "{errors}");
    assert_eq!(store.get(MANIFEST).await.unwrap(), other);
    let errors = store
        .fails(4, &["label", &uri, "stable=1", "--if-match", &etag])
        .await;
    assert!(errors.contains("and --if-match expects"), "{errors}");
    // A new version is published on top of the change.
    store.ok(&["label", &uri, "stable=1"]).await;
    store.s3().fail(rule().overwrite(other));
    store
        .ok(&["publish", &model("linear.onnx"), &uri, "--no-load"])
        .await;
    assert_eq!(store.state().await.1.as_deref(), Some("1"));

    store.s3().heal();
    store.s3().fail(Rule::on("PUT").status(403, "AccessDenied"));
    let errors = store.fails(1, &["label", &uri, "stable=1"]).await;
    assert!(
        errors.contains("403 AccessDenied") && errors.contains("grant s3:PutObject"),
        "{errors}"
    );
}
