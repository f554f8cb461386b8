//! Uploads: in parts, resumed, verified, and never over an object.

use lab::s3::{Checksum, Rule};

use crate::support::{MANIFEST, Store, data_files, model, with_data};

/// Key of the large file of [`with_data`] as version 1.
async fn large(store: &Store) -> String {
    let manifest = store.manifest().await.unwrap();
    let (_, version) = manifest.current();
    let largest = version.files.iter().max_by_key(|file| file.size).unwrap();
    format!("fraud/{}", version.path_of(largest))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_uploaded_in_parts_that_s3_verifies() {
    in_parts(Store::lab().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_uploaded_in_parts_to_seaweedfs() {
    in_parts(Store::seaweedfs().await).await;
}

async fn in_parts(store: Store) {
    let (_folder, model) = with_data(3, 11 << 20);
    let publish = [
        "publish",
        &model,
        &store.uri(),
        "--no-load",
        "--part-size",
        "5",
    ];
    assert_eq!(store.ok(&publish).await["written"], true);
    // `manifest` compares the content.
    let key = large(&store).await;
    assert_eq!(store.get(&key).await.unwrap().len(), 11 << 20);
    // Again: the object is compared, and not uploaded.
    let again = store.ok(&publish).await;
    assert!(
        again["files"]
            .as_array()
            .unwrap()
            .iter()
            .all(|file| file["uploaded"] == false)
    );
    // The same content in parts of another size.
    let other = [
        "publish",
        &model,
        &store.uri(),
        "--no-load",
        "--part-size",
        "6",
    ];
    assert_eq!(store.ok(&other).await["written"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_s3_has_are_not_sent_again() {
    let store = Store::lab().await;
    let (_folder, model) = with_data(4, 16 << 20);
    let publish = [
        "publish",
        &model,
        &store.uri(),
        "--no-load",
        "--part-size",
        "5",
    ];
    // The third part fails: its upload is denied.
    let parts = |store: &Store| {
        let requests = store.s3().requests();
        requests
            .iter()
            .filter(|request| request.query.contains("partNumber"))
            .count()
    };
    let fails = Rule::on("PUT")
        .query("partNumber=3")
        .status(403, "AccessDenied");
    store.s3().fail(fails);
    store.fails(1, &publish).await;
    assert!(store.get(MANIFEST).await.is_none());
    let sent = parts(&store);
    store.s3().heal();
    store.ok(&publish).await;
    let resumed = parts(&store) - sent;
    assert!(
        (1..4).contains(&resumed),
        "{resumed} parts of 4 were sent again"
    );
    let object = store.s3().get("models", &large(&store).await).unwrap();
    assert!(matches!(object.checksum, Checksum::Sha256(sum) if sum.ends_with("-4")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_never_overwritten() {
    let store = Store::lab().await;
    let uri = store.uri();
    store
        .s3()
        .put("models", "fraud/1/wine-v1.onnx", "somebody's");
    let named = [
        "publish",
        &model("wine-v1.onnx"),
        &uri,
        "--no-load",
        "--version",
        "1",
    ];
    let errors = store.fails(3, &named).await;
    assert!(errors.contains("exists with other content"), "{errors}");
    // Without a name, the next number is free.
    let done = store
        .ok(&["publish", &model("wine-v1.onnx"), &uri, "--no-load"])
        .await;
    assert_eq!(done["version"], "2");
    assert_eq!(
        store.get("fraud/1/wine-v1.onnx").await.unwrap(),
        b"somebody's"
    );

    // An object that appears between the look and the upload, or the end of an upload in parts.
    let (_folder, large) = with_data(5, 6 << 20);
    let external = data_files(&large).remove(0);
    let single = (Rule::on("PUT"), model("wine-v2.onnx"), "wine-v2.onnx");
    let in_parts = (Rule::on("POST").query("uploadId"), large, external.as_str());
    for (rule, model, file) in [single, in_parts] {
        let version = format!("late-{}", file.replace('/', "-"));
        let key = format!("fraud/{version}/{file}");
        store.s3().fail(rule.key(&key).first(1).overwrite("late"));
        let publish = [
            "publish",
            &model,
            &uri,
            "--no-load",
            "--version",
            &version,
            "--part-size",
            "5",
        ];
        let errors = store.fails(3, &publish).await;
        assert!(errors.contains("exists with other content"), "{errors}");
        assert_eq!(store.get(&key).await.unwrap(), b"late");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_missing_object_is_found() {
    let store = Store::lab().await;
    let uri = store.uri();
    store
        .ok(&["publish", &model("wine-v1.onnx"), &uri, "--no-load"])
        .await;
    let key = "fraud/1/wine-v1.onnx";
    let mut content = store.get(key).await.unwrap();
    content[100] ^= 1;
    store.s3().put("models", key, content);
    assert_eq!(
        store.ok(&["status", &uri]).await["problems"],
        serde_json::json!([])
    );
    let errors = store.fails(3, &["verify", &uri]).await;
    assert!(errors.contains("1 of 1 object differ"), "{errors}");
    store.s3().delete("models", key);
    let status = store.ok(&["status", &uri]).await;
    assert_eq!(status["problems"][0]["problem"], "is missing");
    store.fails(3, &["verify", &uri]).await;
    // Publishing again repairs it.
    store
        .ok(&["publish", &model("wine-v1.onnx"), &uri, "--no-load"])
        .await;
    store.ok(&["verify", &uri]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_published_from_s3() {
    let store = Store::lab().await;
    let file = std::fs::read(model("wine-v1.onnx")).unwrap();
    store.s3().put("models", "training/run-7/wine.onnx", file);
    let publish = [
        "publish",
        "s3://models/training/run-7/wine.onnx",
        &store.uri(),
        "--no-load",
    ];
    store.ok(&publish).await;
    assert!(store.manifest().await.is_some());
    let missing = [
        "publish",
        "s3://models/training/none.onnx",
        &store.uri(),
        "--no-load",
    ];
    let errors = store.fails(1, &missing).await;
    assert!(errors.contains("there is no such object"), "{errors}");
}
