//! What the tests start: a bucket with a model, a function with the layer, the sidecar alone.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lab::http::{Answer, Client};
use lab::process::{Process, Start};
use lab::rie::{Builder, ExecutionEnvironment};
use lab::s3::{Record, S3Server};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::reference::WINE;

/// The bucket and the key of the model that most tests serve, under the name `wine`.
pub(crate) const BUCKET: &str = "models";
pub(crate) const KEY: &str = "wine/model.onnx";

/// A model of `tests/models`.
pub(crate) fn model(file: &str) -> Bytes {
    let path = lab::artifacts::workspace().join("tests/models").join(file);
    std::fs::read(&path).unwrap().into()
}

/// An S3 that holds the model of this file under [`KEY`].
pub(crate) async fn s3_with(file: &str) -> S3Server {
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, KEY, model(file));
    s3
}

/// The requests that were answered with an object.
pub(crate) fn transfers(s3: &S3Server) -> Vec<Record> {
    let requests = s3.requests().into_iter();
    requests.filter(|one| one.status == Some(200)).collect()
}

/// The settings that all tests share: the model at [`KEY`], no TCP, no metrics.
fn settings(s3: &S3Server) -> Vec<(String, String)> {
    let mut env = s3.env();
    for (name, value) in [
        ("MODEL_URI", format!("s3://{BUCKET}/{KEY}").as_str()),
        ("MODEL_NAME", "wine"),
        ("MODEL_PORT", "0"),
        ("MODEL_METRICS", "none"),
    ] {
        env.push((name.into(), value.into()));
    }
    env
}

/// The staged layer and function, on a Lambda with time enough for any machine.
pub(crate) fn lambda(s3: &S3Server) -> Builder {
    let staged = ExecutionEnvironment::staged().unwrap();
    staged.envs(settings(s3)).timeout_seconds(30)
}

/// The sidecar without Lambda, with a folder of its own for socket and cache.
pub(crate) struct Alone {
    pub(crate) process: Process,
    folder: TempDir,
}

impl Alone {
    /// Starts it with these variables beside those that all tests share; an empty value unsets.
    pub(crate) fn start(s3: &S3Server, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("e2e").tempdir().unwrap();
        Self::start_in(folder, s3, variables)
    }

    /// As [`Self::start`], in a folder that holds something already.
    pub(crate) fn start_in(folder: TempDir, s3: &S3Server, variables: &[(&str, &str)]) -> Self {
        let process = sidecar()
            .env("MODEL_SOCKET", folder.path().join("socket"))
            .env("MODEL_CACHE_DIR", folder.path().join("cache"))
            .envs(settings(s3))
            .envs(variables.iter().copied());
        Self {
            process: process.start().unwrap(),
            folder,
        }
    }

    /// Starts it and waits until the model is there.
    pub(crate) async fn ready(s3: &S3Server, variables: &[(&str, &str)]) -> Self {
        let alone = Self::start(s3, variables);
        alone.process.wait_for(" ready ").await.unwrap();
        alone
    }

    /// The socket's path.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// A client on the socket.
    pub(crate) fn client(&self) -> Client {
        Client::unix(self.socket())
    }

    /// The answer to the first rows, whatever its status.
    pub(crate) async fn predict(&self, rows: usize) -> Answer {
        self.client()
            .post("/predict", &features(rows))
            .await
            .unwrap()
    }
}

/// The sidecar's binary, to be started.
pub(crate) fn sidecar() -> Start {
    Process::of(lab::artifacts::sidecar().unwrap())
}

/// A request of the plain form with the first rows.
pub(crate) fn features(rows: usize) -> Value {
    json!({ "features": WINE.rows[..rows] })
}

/// One of AWS's sample events, which `handler/tests/events` holds.
pub(crate) fn sample(name: &str) -> Value {
    let folder = lab::artifacts::workspace().join("handler/tests/events");
    let text = std::fs::read(folder.join(name)).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// An event of an HTTP API (payload format 2.0) at its stage `prod`.
pub(crate) fn http_event(method: &str, path: &str, body: &Value) -> Value {
    let mut event = sample("http.json");
    event["rawPath"] = format!("/prod{path}").into();
    event["requestContext"]["http"]["method"] = method.into();
    event["headers"]["content-type"] = "application/json".into();
    event["body"] = body.to_string().into();
    event["isBase64Encoded"] = false.into();
    event
}

/// The JSON in the body of an HTTP reply.
pub(crate) fn body(reply: &Value) -> Value {
    serde_json::from_str(reply["body"].as_str().unwrap()).unwrap()
}

/// What `{"error": …}` says.
pub(crate) fn error(answer: &Value) -> &str {
    answer["error"].as_str().unwrap_or_default()
}

/// Now, in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}
