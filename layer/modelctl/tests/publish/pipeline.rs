//! The whole way of a model: golden examples, first version, canary, promotion, a bad version,
//! rollback, prune.

use serde_json::json;

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
    let pipeline = Pipeline {
        manifest: store.uri(),
        library: library(),
        first: model("wine-v1.onnx"),
        second: model("wine-v2.onnx"),
        goldens: [path("1.json"), path("2.json")],
        baseline: path("baseline.json"),
        rows: wines(folder.path(), 60),
        store,
    };
    pipeline.examples().await;
    pipeline.first_version().await;
    pipeline.bad_versions().await;
    pipeline.canary_and_promotion().await;
    pipeline.rollback().await;
    pipeline.prune().await;
}

struct Pipeline {
    store: Store,
    manifest: String,
    library: String,
    first: String,
    second: String,
    goldens: [String; 2],
    baseline: String,
    rows: String,
}

impl Pipeline {
    /// Arguments that publish a model with its golden examples.
    fn publish<'a>(&'a self, model: &'a str, golden: &'a str) -> Vec<&'a str> {
        let (manifest, library) = (&self.manifest, &self.library);
        vec!["publish", model, manifest, library, "--golden", golden]
    }

    /// Runs a command on the manifest, which must succeed.
    async fn ok(&self, command: &str, more: &[&str]) -> serde_json::Value {
        let arguments = [&[command, self.manifest.as_str()], more].concat();
        self.store.ok(&arguments).await
    }

    async fn examples(&self) {
        let (rows, library) = (&self.rows, &self.library);
        for (model, golden) in [&self.first, &self.second].into_iter().zip(&self.goldens) {
            let made = [
                "golden", model, "--data", rows, "-o", golden, "--rows", "3", library,
            ];
            assert_eq!(self.store.ok(&made).await["examples"], 3);
        }
        let (first, baseline) = (&self.first, &self.baseline);
        let made = ["baseline", first, "--data", rows, "-o", baseline, library];
        // 13 columns of the input, the label, and 3 probabilities.
        assert_eq!(self.store.ok(&made).await["histograms"], 17);
    }

    async fn first_version(&self) {
        let store = &self.store;
        let mut publish = self.publish(&self.first, &self.goldens[0]);
        publish.extend(["--baseline", &self.baseline, "--meta", "commit=1a2b3c"]);
        let dry = store.ok(&[&publish[..], &["--dry-run"]].concat()).await;
        assert_eq!(
            (&dry["written"], &dry["version"]),
            (&json!(false), &json!("1"))
        );
        assert!(store.get(MANIFEST).await.is_none());
        assert!(store.get("fraud/1/wine-v1.onnx").await.is_none());
        let done = store.ok(&publish).await;
        assert_eq!(
            (&done["written"], &done["version"]),
            (&json!(true), &json!("1"))
        );
        assert_eq!(store.state().await, ("1".to_owned(), None, None));
        let published = store.manifest().await.unwrap();
        let (_, version) = published.current();
        assert_eq!((version.golden.len(), version.baseline.len()), (3, 17));
        let meta: Vec<_> = version.meta.iter().collect();
        assert_eq!(meta, [("commit", "1a2b3c")]);
        assert_eq!(version.signature.as_ref().unwrap().inputs.len(), 1);
        // Again: nothing to do.
        let again = store.ok(&publish).await;
        assert_eq!(
            (&again["written"], &again["version"]),
            (&json!(false), &json!("1"))
        );
    }

    async fn bad_versions(&self) {
        let store = &self.store;
        // The examples of the other model are not met.
        let errors = store
            .fails(3, &self.publish(&self.second, &self.goldens[0]))
            .await;
        assert!(
            errors.contains("golden[") && errors.contains("is not met"),
            "{errors}"
        );
        // The signature does not serve the callers.
        let publish = |name: &str| {
            let arguments = ["publish", &model(name), &self.manifest, &self.library];
            arguments.map(str::to_owned)
        };
        for (name, reason) in [
            ("linear.onnx", "does not serve callers of version 1"),
            ("garbage.onnx", "cannot use"),
        ] {
            let arguments = publish(name);
            let arguments = arguments.each_ref().map(String::as_str);
            let errors = store.fails(3, &arguments).await;
            assert!(errors.contains(reason), "{errors}");
        }
        assert_eq!(store.state().await, ("1".to_owned(), None, None));
        assert!(store.get("fraud/2/wine-v2.onnx").await.is_none());
    }

    async fn canary_and_promotion(&self) {
        let store = &self.store;
        let publish = self.publish(&self.second, &self.goldens[1]);
        store.ok(&[&publish[..], &["--canary", "5"]].concat()).await;
        let at = |percent| Some(("2".to_owned(), percent));
        assert_eq!(store.state().await, ("1".to_owned(), None, at(5.0)));
        self.ok("canary", &["25"]).await;
        assert_eq!(store.state().await.2, at(25.0));
        self.ok("label", &["staging=2"]).await;
        let errors = store
            .fails(3, &["promote", &self.manifest, "--from", "9"])
            .await;
        let expected = "version \"1\" is current, and --from expects \"9\"";
        assert!(errors.contains(expected), "{errors}");
        let shown = store.text(&["promote", &self.manifest, "--dry-run"]).await;
        assert!(
            shown.contains("- current: 1\n+ current: 2\n+ previous: 1"),
            "{shown}"
        );
        assert_eq!(store.state().await.0, "1");
        self.ok("promote", &["--from", "1"]).await;
        assert_eq!(
            store.state().await,
            ("2".to_owned(), Some("1".to_owned()), None)
        );
        assert_eq!(self.ok("verify", &[]).await["objects"], 2);
    }

    /// Version 2 turns out to be bad in production.
    async fn rollback(&self) {
        let store = &self.store;
        self.ok("rollback", &["--from", "2"]).await;
        assert_eq!(store.state().await, ("1".to_owned(), None, None));
        let errors = store.fails(3, &["rollback", &self.manifest]).await;
        assert!(errors.contains("names no previous version"), "{errors}");
        let status = self.ok("status", &[]).await;
        assert_eq!(status["problems"], json!([]));
        assert_eq!(status["versions"][1]["roles"], json!(["label staging"]));
    }

    /// A labelled version stays. Without its label it goes from the manifest, and later its objects.
    async fn prune(&self) {
        let store = &self.store;
        let key = "fraud/2/wine-v2.onnx";
        let has_second = || async { store.manifest().await.unwrap().version("2").is_ok() };
        self.ok("prune", &["--apply", "--days", "0"]).await;
        assert!(has_second().await);
        self.ok("label", &["staging", "--remove"]).await;
        let plan = self.ok("prune", &["--days", "0"]).await;
        assert_eq!(
            (&plan["applied"], &plan["objects"]),
            (&json!(false), &json!([]))
        );
        assert!(has_second().await);
        self.ok("prune", &["--apply"]).await;
        assert!(!has_second().await);
        assert!(store.get(key).await.is_some());
        let pruned = self.ok("prune", &["--apply", "--days", "0"]).await;
        assert_eq!(pruned["objects"], json!([key]));
        assert!(store.get(key).await.is_none());
        assert_eq!(store.state().await, ("1".to_owned(), None, None));
    }
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
