//! Triton's client for Python, the standard libraries of Python and Node.js, and curl, on port and socket.

use std::path::PathBuf;
use std::process::Stdio;

use lab::ports::Port;
use lab::s3::S3Server;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{Alone, BUCKET, model};

/// Element types by their names in ONNX.
const TYPES: [&str; 14] = [
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16",
    "bfloat16", "float", "double", "string",
];

/// Sidecar with an identity model for each element type and a classifier.
struct Served {
    alone: Alone,
    port: Port,
    _s3: S3Server,
}

impl Served {
    async fn start() -> Self {
        let s3 = S3Server::start().await.unwrap();
        let names = TYPES.map(|name| (format!("identity-{name}"), format!("identity-{name}.onnx")));
        let classifier = ("names".to_owned(), "wine-names.onnx".to_owned());
        let mut models = Vec::new();
        for (name, file) in names.into_iter().chain([classifier]) {
            s3.put(BUCKET, &file, model(&file));
            models.push(format!("{name}=s3://{BUCKET}/{file}"));
        }
        let port = Port::lease().unwrap();
        let variables = [
            ("MODEL_URI", ""),
            ("MODEL_NAME", ""),
            ("MODELS", &models.join(",")),
            ("MODEL_PORT", &port.number().to_string()),
            ("MODEL_REPOSITORY_API", "true"),
        ];
        Self {
            alone: Alone::ready(&s3, &variables).await,
            port,
            _s3: s3,
        }
    }

    /// Port, and path of the socket.
    fn places(&self) -> [String; 2] {
        let socket = self.alone.socket().display().to_string();
        [self.port.number().to_string(), socket]
    }
}

/// Path of a script in this folder.
fn script(name: &str) -> PathBuf {
    lab::artifacts::workspace()
        .join("tests/e2e/clients")
        .join(name)
}

/// Runs a program that must succeed, and returns its output.
async fn output(command: &mut Command) -> Vec<u8> {
    let command = command.stdin(Stdio::null()).kill_on_drop(true);
    let ended = tokio::time::timeout(lab::WAIT_LIMIT, command.output()).await;
    let ended = ended.expect("an end in time").unwrap();
    let (out, err) = (&ended.stdout, String::from_utf8_lossy(&ended.stderr));
    assert!(
        ended.status.success(),
        "{command:?}: {err}{}",
        String::from_utf8_lossy(out)
    );
    ended.stdout
}

async fn runs_well(command: &mut Command) {
    let out = output(command).await;
    assert_eq!(String::from_utf8_lossy(&out), "ok\n");
}

/// Python interpreter with Triton's client.
fn python() -> PathBuf {
    let python = lab::artifacts::workspace().join("target/clients/bin/python");
    assert!(
        python.is_file(),
        "{} is missing: run `make clients`",
        python.display()
    );
    python
}

#[tokio::test(flavor = "multi_thread")]
async fn tritons_client_for_python() {
    let served = Served::start().await;
    let address = format!("127.0.0.1:{}", served.port.number());
    runs_well(Command::new(python()).arg(script("triton.py")).arg(address)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tritons_client_with_versions() {
    let s3 = S3Server::start().await.unwrap();
    s3.put(
        BUCKET,
        "repository/wine/1/model.onnx",
        model("wine-v1.onnx"),
    );
    let port = Port::lease().unwrap();
    let uri = format!("s3://{BUCKET}/repository/");
    let variables = [
        ("MODEL_URI", &*uri),
        ("MODEL_PORT", &port.number().to_string()),
        ("MODEL_REPOSITORY_API", "true"),
    ];
    let _alone = Alone::ready(&s3, &variables).await;
    let address = format!("127.0.0.1:{}", port.number());
    runs_well(
        Command::new(python())
            .arg(script("versions.py"))
            .arg(address),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_libraries_of_python_and_node() {
    let served = Served::start().await;
    for place in served.places() {
        for (program, file) in [("python3", "standard.py"), ("node", "standard.mjs")] {
            runs_well(Command::new(program).arg(script(file)).arg(&place)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl() {
    let served = Served::start().await;
    let folder = tempfile::tempdir().unwrap();
    let [port, socket] = served.places();
    for place in [vec![], vec!["--unix-socket", &socket]] {
        let url = |path: &str| format!("http://127.0.0.1:{port}/v2/models/identity-int16/{path}");
        let curl = || {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--show-error", "--fail-with-body"]);
            curl.args(&place);
            curl
        };
        let x = json!({"name": "x", "datatype": "INT16", "shape": [1, 2]});
        let mut with_data = x.clone();
        with_data["data"] = json!([1, -2]);
        let text = json!({"inputs": [with_data]}).to_string();
        let answer = output(curl().args(["--json", &text, &url("infer")])).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["outputs"][0]["data"], json!([1, -2]));

        let mut in_binary = x;
        in_binary["parameters"] = json!({"binary_data_size": 4});
        let text = json!({"inputs": [in_binary]}).to_string();
        let body = folder.path().join("body");
        std::fs::write(&body, [text.as_bytes(), &[1, 0, 254, 255]].concat()).unwrap();
        let header = format!("Inference-Header-Content-Length: {}", text.len());
        let data = format!("@{}", body.display());
        let request = ["--header", &header, "--data-binary", &data, &url("infer")];
        let answer: Value = serde_json::from_slice(&output(curl().args(request)).await).unwrap();
        assert_eq!(answer["outputs"][0]["data"], json!([1, -2]));

        // The body is the raw tensor.
        std::fs::write(&body, [1, 0, 254, 255]).unwrap();
        let header = "Inference-Header-Content-Length: 0";
        let request = ["--header", header, "--data-binary", &data, &url("infer")];
        let answer = output(curl().args(request)).await;
        assert!(answer.ends_with(&[1, 0, 254, 255]), "{answer:?}");
    }
}
