//! The API against its `OpenAPI` document, with requests that [Schemathesis](https://schemathesis.io) generates.
//!
//! Requests that violate the document are rejected, and every response conforms to it.

use lab::http::Client;
use lab::ports::Port;
use lab::process::Process;
use lab::s3::S3Server;
use serde_json::{Value, json};

use crate::support::layout::{BUCKET, manifest};
use crate::support::{Alone, model};
use lab::reference::WINE;

#[tokio::test(flavor = "multi_thread")]
async fn the_api_conforms_to_its_document() {
    let program = lab::artifacts::workspace().join("target/schemathesis/bin/schemathesis");
    assert!(
        program.is_file(),
        "{} is missing: run `make schemathesis`",
        program.display()
    );
    let s3 = S3Server::start().await.unwrap();
    let version = ("7", "wine-v1.onnx");
    s3.put(BUCKET, "wine/7/model.onnx", model(version.1));
    let mut published: Value = serde_json::from_slice(&manifest(version.0, &[version])).unwrap();
    published["version_labels"] = json!({ "stable": version.0 });
    s3.put(BUCKET, "wine/manifest.json", published.to_string());
    let port = Port::lease().unwrap();
    let number = port.number().to_string();
    let variables = [
        ("MODEL_URI", "s3://forms/wine/manifest.json"),
        ("MODEL_PORT", &*number),
        ("MODEL_REPOSITORY_API", "true"),
    ];
    let alone = Alone::ready(&s3, &variables).await;
    let client = Client::tcp(port.number());
    let get = async |path| -> Value { client.get(path).await.unwrap().json().unwrap() };
    let mut document = get("/openapi.json").await;
    let metadata = get("/v2/models/wine").await;
    address(&mut document, &metadata["versions"][0]);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openapi.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let settings = lab::artifacts::workspace().join("tests/openapi");
    let tester = Process::of(program)
        .directory(folder.path())
        .env("PYTHONPATH", &settings)
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .arg("--config-file")
        .arg(settings.join("schemathesis.toml"))
        .arg("run")
        .arg(&file)
        .arg("--url")
        .arg(format!("http://127.0.0.1:{number}"))
        .arg("--no-color")
        .start()
        .unwrap();
    // Thousands of requests may take longer than `WAIT_LIMIT`.
    let mut ended = tester.wait().await;
    for _ in 0..4 {
        if ended.is_err() {
            ended = tester.wait().await;
        }
    }
    let ended = ended.unwrap();
    let told = tester.log().text();
    assert!(ended.success(), "{told}");
    assert!(told.contains("Tested: 31"), "{told}");
    assert_eq!(alone.process.ended(), None);
}

/// Adds existing and missing names of model, version and label to the document, and a valid request of each format,
/// which would never be generated.
fn address(document: &mut Value, version: &Value) {
    let parameters = &mut document["components"]["parameters"];
    let (model, label) = (&json!("wine"), &json!("stable"));
    for (name, there) in [("model", model), ("version", version), ("label", label)] {
        parameters[name]["schema"] = json!({ "enum": [there, "nowhere", "0"] });
        parameters[name]["example"] = there.clone();
    }
    let row = &WINE.rows[0];
    let input = json!({ "name": "X", "datatype": "FP32", "shape": [1, 13], "data": row });
    let examples = [
        ("/infer", json!({ "id": "1", "inputs": [input] })),
        (":predict", json!({ "instances": [row] })),
        ("/predict", json!({ "features": row })),
    ];
    for (path, methods) in document["paths"].as_object_mut().unwrap() {
        for (_, example) in examples.iter().filter(|(end, _)| path.ends_with(end)) {
            let body = &mut methods["post"]["requestBody"]["content"]["application/json"];
            assert!(body.is_object(), "{path}");
            body["example"] = example.clone();
        }
    }
}
