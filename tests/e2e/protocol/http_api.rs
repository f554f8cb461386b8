//! The HTTP API without Lambda: health, metadata, paths and methods, socket and port.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use lab::gate::Gate;
use lab::http::{Client, request};
use lab::ports::Port;
use lab::s3::{Rule, S3Server};
use model_sidecar::ids::Digest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{Alone, BUCKET, error, features, model, s3_with};
use lab::reference::WINE;

async fn wine() -> (S3Server, Alone) {
    let s3 = s3_with("wine-v1.onnx").await;
    let alone = Alone::ready(&s3, &[]).await;
    (s3, alone)
}

#[tokio::test(flavor = "multi_thread")]
async fn health_before_and_after_the_load() {
    let s3 = s3_with("wine-v1.onnx").await;
    let gate = Gate::new();
    s3.fail(Rule::on("GET").stall_after(10, &gate));
    let alone = Alone::start(&s3, &[]);
    gate.reached(1).await.unwrap();

    let client = alone.client();
    assert_eq!(client.get("/v2/health/live").await.unwrap().status, 200);
    for path in ["/v2/health/ready", "/v2/models/wine/ready"] {
        let answer = client.get(path).await.unwrap();
        assert_eq!(answer.status, 503, "{path}");
        assert!(
            answer.text().contains("still being loaded"),
            "{}",
            answer.text()
        );
    }
    gate.open();
    alone.process.wait_for(" ready ").await.unwrap();
    for path in [
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/wine/ready",
    ] {
        assert_eq!(client.get(path).await.unwrap().status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_the_load() {
    let s3 = s3_with("wine-v1.onnx").await;
    let gate = Gate::new();
    s3.fail(Rule::on("GET").stall_after(10, &gate));
    let alone = Alone::start(&s3, &[]);
    gate.reached(1).await.unwrap();

    // A request with an early deadline gets the reason.
    let mut request = lab::http::post("/predict", &features(2)).unwrap();
    let deadline = (crate::support::now_ms() + 1_000).into();
    request
        .headers_mut()
        .insert("lambda-runtime-deadline-ms", deadline);
    let answer = alone.client().send(request).await.unwrap();
    assert_eq!(answer.status, 503);
    assert!(
        answer.text().contains("still being loaded"),
        "{}",
        answer.text()
    );

    let (answer, ()) = tokio::join!(alone.predict(2), async { gate.open() });
    WINE.v1.check(&answer.json().unwrap(), 0..2);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_server_and_model() {
    let (_s3, alone) = wine().await;
    let client = alone.client();
    let server: Value = client.get("/v2").await.unwrap().json().unwrap();
    assert_eq!(server["name"], "model-sidecar");
    assert!(server["version"].is_string() && server["extensions"].is_array());

    let answer = client.get("/v2/models/wine").await.unwrap();
    let model: Value = answer.json().unwrap();
    assert_eq!(
        (&model["name"], &model["platform"]),
        (&"wine".into(), &"onnx_onnxv1".into())
    );
    let input = json!({ "name": "X", "datatype": "FP32", "shape": [-1, 13] });
    assert_eq!(model["inputs"], json!([input]));
    let version = answer.header("x-model-version").unwrap();
    assert_eq!(model["versions"], json!([version]));
    // The version of a plain object is a number that JavaScript represents exactly.
    let number: u64 = version.parse().unwrap();
    assert!((1..1 << 53).contains(&number), "{number}");
    let digest =
        Digest::of(Sha256::new().chain_update(crate::support::model("wine-v1.onnx"))).to_string();
    assert_eq!(answer.header("x-model-digest"), Some(&*digest));
    assert_eq!(model["parameters"]["digest"], digest);

    let path = format!("/v2/models/wine/versions/{version}");
    let again: Value = client.get(&path).await.unwrap().json().unwrap();
    assert_eq!(again, model);
    let other = client.get("/v2/models/wine/versions/7").await.unwrap();
    assert_eq!(other.status, 404);
    assert!(other.text().contains(version), "{}", other.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_have_model_version_and_timing() {
    let (_s3, alone) = wine().await;
    let answer = alone.predict(2).await;
    assert_eq!(answer.header("x-model-name"), Some("wine"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let version = answer.json().unwrap()["model_version"].clone();
    assert_eq!(answer.header("x-model-version"), version.as_str());
    let timing = answer.header("server-timing").unwrap();
    for part in ["queue;dur=", "decode;dur=", "infer;dur=", "encode;dur="] {
        assert!(timing.contains(part), "{timing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_paths_and_methods_list_the_valid_ones() {
    let (_s3, alone) = wine().await;
    let client = alone.client();
    for path in [
        "/",
        "/v3",
        "/v2/models",
        "/v2/models/wine/explain",
        "/predict/wine",
    ] {
        let answer = client.get(path).await.unwrap();
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.text().contains("POST /predict"), "{}", answer.text());
    }
    for (method, path, allowed) in [
        ("GET", "/predict", "POST, OPTIONS"),
        ("HEAD", "/predict", "POST, OPTIONS"),
        ("PUT", "/models/wine/predict", "POST, OPTIONS"),
        ("DELETE", "/v2/models/wine", "GET, HEAD, OPTIONS"),
        ("POST", "/v2/health/live", "GET, HEAD, OPTIONS"),
    ] {
        let method = method.parse().unwrap();
        let answer = client
            .send(request(method, path, "").unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status, 405, "{path}");
        assert_eq!(answer.header("allow"), Some(allowed), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_are_percent_decoded() {
    let (_s3, alone) = wine().await;
    let client = alone.client();
    for path in [
        "/v2/models/wine?trace=1",
        "/v2/models/%77ine/",
        "/v2/%6dodels/wine",
        "/v1/models/wine/metadata?",
    ] {
        assert_eq!(client.get(path).await.unwrap().status, 200, "{path}");
    }
    let other = client.get("/v2/models/wi%6Ee%2Fr%C3%A9d").await.unwrap();
    assert_eq!(other.status, 404);
    assert!(
        error(&other.json().unwrap()).contains("unknown model \"wine/réd\""),
        "{}",
        other.text()
    );
    let send = async |method: &str, path| {
        let request = request(method.parse().unwrap(), path, "").unwrap();
        client.send(request).await.unwrap()
    };
    let head = send("HEAD", "/v2/models/wine").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    for (path, allowed) in [
        ("/predict", "POST, OPTIONS"),
        ("/v2", "GET, HEAD, OPTIONS"),
        ("/v1/models/wine:predict", "POST, OPTIONS"),
    ] {
        let options = send("OPTIONS", path).await;
        assert_eq!(options.status, 204, "{path}");
        assert_eq!(options.header("allow"), Some(allowed), "{path}");
    }
    assert_eq!(send("OPTIONS", "/nowhere").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_models_are_addressed_by_name() {
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, "v1", model("wine-v1.onnx"));
    s3.put(BUCKET, "names", model("wine-names.onnx"));
    let models = format!("wine=s3://{BUCKET}/v1, names=s3://{BUCKET}/names, gone=s3://{BUCKET}/x");
    let variables = [
        ("MODEL_URI", ""),
        ("MODEL_NAME", ""),
        ("MODELS", models.as_str()),
    ];
    let alone = Alone::start(&s3, &variables);
    alone
        .process
        .wait_for("not every model is loaded")
        .await
        .unwrap();

    let client = alone.client();
    let unnamed = alone.predict(1).await;
    assert_eq!(unnamed.status, 400);
    assert!(
        unnamed.text().contains("gone, names, wine"),
        "{}",
        unnamed.text()
    );
    for (name, reference) in [("wine", &WINE.v1), ("names", &WINE.names)] {
        let path = format!("/models/{name}/predict");
        let answer: Value = client
            .post(&path, &features(9))
            .await
            .unwrap()
            .json()
            .unwrap();
        assert_eq!(answer["model"], name);
        reference.check(&answer, 0..9);
    }
    // A missing model leaves the others available, and readiness names it.
    let gone = client
        .post("/models/gone/predict", &features(1))
        .await
        .unwrap();
    assert_eq!(gone.status, 503);
    assert_eq!(
        client.get("/v2/models/wine/ready").await.unwrap().status,
        200
    );
    let ready = client.get("/v2/health/ready").await.unwrap();
    assert_eq!(ready.status, 503);
    assert!(
        error(&ready.json().unwrap()).contains("\"gone\""),
        "{}",
        ready.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn socket_and_port_serve_the_same() {
    let s3 = s3_with("wine-v1.onnx").await;
    let port = Port::lease().unwrap();
    let number = port.number().to_string();
    let alone = Alone::ready(&s3, &[("MODEL_PORT", &number)]).await;
    for client in [Client::tcp(port.number()), alone.client()] {
        let mut connection = client.connect().await.unwrap();
        for rows in 1..=3 {
            let request = lab::http::post("/predict", &features(rows)).unwrap();
            let answer = connection.send(request).await.unwrap();
            WINE.v1.check(&answer.json().unwrap(), 0..rows);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_socket_is_replaced_and_another_file_is_not() {
    let s3 = s3_with("wine-v1.onnx").await;
    let folder = || tempfile::Builder::new().prefix("e2e").tempdir().unwrap();
    let stale = folder();
    drop(UnixListener::bind(stale.path().join("socket")).unwrap());
    let alone = Alone::start_in(stale, &s3, &[]);
    alone.process.wait_for(" ready ").await.unwrap();
    WINE.v1.check(&alone.predict(1).await.json().unwrap(), 0..1);
    let mode = alone.socket().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let other = folder();
    std::fs::write(other.path().join("socket"), "a diary").unwrap();
    let alone = Alone::start_in(other, &s3, &[]);
    assert_eq!(alone.process.wait().await.unwrap().code(), Some(1));
    let words = "MODEL_SOCKET): the path is another file";
    assert!(
        alone.process.log().text().contains(words),
        "{}",
        alone.process.log().text()
    );
    assert_eq!(std::fs::read_to_string(alone.socket()).unwrap(), "a diary");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let s3 = s3_with("wine-v1.onnx").await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let number = taken.local_addr().unwrap().port().to_string();
    let alone = Alone::start(&s3, &[("MODEL_PORT", &number)]);
    assert_eq!(alone.process.wait().await.unwrap().code(), Some(1));
    let words = format!("cannot listen on 127.0.0.1:{number} (MODEL_PORT; 0 disables TCP)");
    assert!(
        alone.process.log().text().contains(&words),
        "{}",
        alone.process.log().text()
    );
}
