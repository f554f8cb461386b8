//! What the tests start: a bucket with a model, a function with the layer, the sidecar alone.

pub(crate) mod adder_function;
pub(crate) mod any_s3;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lab::cloudwatch::CloudWatch;
use lab::http::{Client, HttpResponse};
use lab::lambda::{Environment, Function};
use lab::process::{Process, Start};
use lab::rie::{Builder, ExecutionEnvironment};
use lab::s3::{RequestRecord, S3Server};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use lab::reference::WINE;

/// The bucket and the key of the model that most tests serve, under the name `wine`.
pub(crate) const BUCKET: &str = "models";
pub(crate) const KEY: &str = "wine/model.onnx";

/// Longer than any timeout of anything in here.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// What still comes over a connection, up to its end.
pub(crate) async fn to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    let whole = stream.read_to_string(&mut text);
    tokio::time::timeout(lab::WAIT_LIMIT, whole)
        .await
        .unwrap()
        .unwrap();
    text
}

/// Makes two tests of each function: with a monotonic clock that jumps by the length of a freeze, and
/// with one that stands still.
macro_rules! with_both_clocks {
    ($($name:ident),+ $(,)?) => {
        mod a_clock_that_jumps {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(lab::lambda::Clock::Jumps).await;
            })+
        }
        mod a_clock_that_stands_still {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(lab::lambda::Clock::StandsStill).await;
            })+
        }
    };
}
pub(crate) use with_both_clocks;

/// An S3, as those need it who read a model from it.
pub(crate) trait Store {
    /// What makes a process use it.
    fn env(&self) -> Vec<(String, String)>;

    /// Its address.
    fn url(&self) -> String;

    /// The bucket that holds the model.
    fn bucket(&self) -> &str;
}

impl Store for S3Server {
    fn env(&self) -> Vec<(String, String)> {
        S3Server::env(self)
    }

    fn url(&self) -> String {
        S3Server::url(self)
    }

    fn bucket(&self) -> &'static str {
        BUCKET
    }
}

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
pub(crate) fn transfers(s3: &S3Server) -> Vec<RequestRecord> {
    let requests = s3.requests().into_iter();
    let is_object = |one: &RequestRecord| one.status == Some(200) && !one.key.is_empty();
    requests.filter(is_object).collect()
}

/// What was answered with bytes of an object: the status, and the range that was asked for.
pub(crate) fn downloads(s3: &S3Server) -> Vec<(Option<u16>, Option<String>)> {
    let requests = s3.requests().into_iter();
    let gets = requests.filter(|one| one.status != Some(304));
    gets.map(|one| (one.status, one.range)).collect()
}

/// The same where checks go on: of a question that is still to be answered nobody knows yet whether it is one of these.
pub(crate) async fn downloads_so_far(s3: &S3Server) -> Vec<(Option<u16>, Option<String>)> {
    let answered = |requests: &[RequestRecord]| requests.iter().all(|one| one.status.is_some());
    let wanted = "an answer to every question";
    s3.wait_for_requests(wanted, answered).await.unwrap();
    downloads(s3)
}

/// The settings that all tests share: the model at [`KEY`], no TCP, no metrics.
fn settings(s3: &impl Store) -> Vec<(String, String)> {
    let mut env = s3.env();
    for (name, value) in [
        ("MODEL_URI", format!("s3://{}/{KEY}", s3.bucket()).as_str()),
        ("MODEL_NAME", "wine"),
        ("MODEL_PORT", "0"),
        ("MODEL_METRICS", "none"),
    ] {
        env.push((name.into(), value.into()));
    }
    env
}

/// The staged layer and function, on a Lambda with time enough for any machine.
pub(crate) fn lambda(s3: &impl Store) -> Builder {
    let staged = ExecutionEnvironment::staged().unwrap();
    staged.envs(settings(s3)).timeout_seconds(30)
}

/// The staged layer and function on the lab's platform, which freezes, resets and counts. There is
/// one environment: an invocation that comes while it winds up waits.
pub(crate) fn platform(s3: &impl Store) -> lab::lambda::Builder {
    let staged = Function::staged().unwrap().max_environments(1);
    staged.envs(settings(s3)).timeout(Duration::from_secs(30))
}

/// An invocation that the sidecar answers without the model.
pub(crate) async fn alive(function: &Function) {
    let event = http_event("GET", "/v2/health/live", &Value::Null);
    let answer = function.answer(&event).await.unwrap();
    assert_eq!(answer["statusCode"], 200, "{answer}");
}

/// Freezes as the platform does, when all have called `next`, and lets [`LONG`] pass.
pub(crate) async fn freeze(function: &Function, s3: &S3Server) {
    let environment = function.environment().unwrap();
    environment.wait_until_frozen().await.unwrap();
    environment.let_pass(LONG).await.unwrap();
    s3.let_pass();
}

/// Looks until a condition holds that nothing tells of, such as a file's.
pub(crate) async fn until(wanted: &str, holds: impl Fn() -> bool) {
    let look = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let seen = tokio::time::timeout(lab::WAIT_LIMIT, look).await;
    assert!(seen.is_ok(), "not seen: {wanted}");
}

/// What lies in the cache of an environment, by its path there; empty folders do not count, nor the notes where a file
/// came from.
pub(crate) fn cached(environment: &Environment) -> BTreeMap<String, u64> {
    let cache = environment.tmp().join("model-sidecar");
    let folders = std::fs::read_dir(&cache).into_iter().flatten().flatten();
    folders
        .flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten())
        .flatten()
        .filter_map(|entry| {
            // One may go while it is looked at.
            let length = entry.metadata().ok()?.len();
            let path = entry.path();
            let name = path.strip_prefix(&cache).unwrap().to_str()?.to_owned();
            (!name.starts_with("origins/")).then_some((name, length))
        })
        .collect()
}

/// Where the cache keeps a model of these bytes.
pub(crate) fn place(model: &[u8]) -> String {
    use std::fmt::Write as _;
    let digest = Sha256::digest(model);
    let mut path = "files/".to_owned();
    for byte in digest {
        write!(path, "{byte:02x}").unwrap();
    }
    path + ".onnx"
}

/// Expects in the cache, once nothing is under way any more, the files of these models, these
/// journals, and nothing else.
pub(crate) async fn assert_only_kept(
    environment: &Environment,
    models: &[&[u8]],
    journals: &[&str],
) {
    environment.wait_until_frozen().await.unwrap();
    let files = models.iter().map(|model| place(model));
    let journals = journals.iter().map(|name| format!("journals/{name}.json"));
    let expected: BTreeSet<String> = files.chain(journals).collect();
    let kept = || -> BTreeSet<String> { cached(environment).into_keys().collect() };
    if kept() != expected {
        // The freeze after an answer may have come before all was tidied up.
        environment.thaw().await.unwrap();
        let tidied = async {
            while kept() != expected {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = tokio::time::timeout(lab::WAIT_LIMIT, tidied).await;
        environment.freeze().await.unwrap();
    }
    assert_eq!(kept(), expected);
}

/// The model of this file, made larger to so many bytes by a comment.
pub(crate) fn padded(file: &str, bytes: usize) -> Bytes {
    /// `ModelProto.doc_string`, whose length follows in five bytes of seven bits.
    const DOC_STRING: u8 = 6 << 3 | 2;
    let mut model = model(file).to_vec();
    let length = bytes - model.len() - 6;
    model.push(DOC_STRING);
    for place in 0..5 {
        let more = if place < 4 { 0x80 } else { 0 };
        let bits = u8::try_from(length >> (7 * place) & 0x7f).unwrap();
        model.push(bits | more);
    }
    model.resize(bytes, b'.');
    model.into()
}

/// The sidecar without Lambda, with a folder of its own for socket and cache.
pub(crate) struct Alone {
    pub(crate) process: Process,
    folder: TempDir,
}

impl Alone {
    /// Starts it with these variables beside those that all tests share; an empty value unsets.
    pub(crate) fn start(s3: &impl Store, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("e2e").tempdir().unwrap();
        Self::start_in(folder, s3, variables)
    }

    /// As [`Self::start`], in a folder that holds something already.
    pub(crate) fn start_in(folder: TempDir, s3: &impl Store, variables: &[(&str, &str)]) -> Self {
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
    pub(crate) async fn ready(s3: &impl Store, variables: &[(&str, &str)]) -> Self {
        let alone = Self::start(s3, variables);
        alone.process.wait_for(" ready ").await.unwrap();
        alone
    }

    /// As [`Self::ready`], with checks and metrics ten times a second.
    pub(crate) async fn observed(s3: &impl Store, cloudwatch: &CloudWatch) -> Self {
        let mut variables = cloudwatch.env();
        for (name, value) in [
            ("MODEL_METRICS", "cloudwatch"),
            ("MODEL_METRICS_INTERVAL", "100ms"),
            ("MODEL_REFRESH_INTERVAL", "100ms"),
        ] {
            variables.push((name.into(), value.into()));
        }
        let variables: Vec<(&str, &str)> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        Self::ready(s3, &variables).await
    }

    /// The socket's path.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The directory of the cache.
    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// A client on the socket.
    pub(crate) fn client(&self) -> Client {
        Client::unix(self.socket())
    }

    /// The answer to the first rows, whatever its status.
    pub(crate) async fn predict(&self, rows: usize) -> HttpResponse {
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

/// One of AWS's sample events, which `handler/tests/events` holds; without the header that says that its body is one
/// tensor, since tests put JSON there.
pub(crate) fn sample(name: &str) -> Value {
    let folder = lab::artifacts::workspace().join("handler/tests/events");
    let text = std::fs::read(folder.join(name)).unwrap();
    let mut event: Value = serde_json::from_slice(&text).unwrap();
    if let Some(headers) = event.get_mut("headers").and_then(Value::as_object_mut) {
        headers.remove("inference-header-content-length");
    }
    event
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
