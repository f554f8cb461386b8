//! Fixtures: a bucket with a model, a function with the layer, and a sidecar without Lambda.

pub(crate) mod adder_function;
pub(crate) mod any_s3;
pub(crate) mod download;
pub(crate) mod layout;
pub(crate) mod load_client;
pub(crate) mod magika;
pub(crate) mod operators;

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

/// Default bucket of the fixtures.
pub(crate) const BUCKET: &str = "models";
/// Key of the model that most tests serve under the name `wine`.
pub(crate) const KEY: &str = "wine/model.onnx";

/// Time passed in a freeze, longer than every interval and timeout under test.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// Reads a connection until its peer closes it.
pub(crate) async fn to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    let whole = stream.read_to_string(&mut text);
    tokio::time::timeout(lab::WAIT_LIMIT, whole)
        .await
        .unwrap()
        .unwrap();
    text
}

/// Declares two tests per function: the monotonic clock either includes the time spent frozen or stops for it.
macro_rules! with_both_clocks {
    ($($name:ident),+ $(,)?) => {
        mod jumping_clock {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(lab::lambda::Clock::Jumps).await;
            })+
        }
        mod stopped_clock {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(lab::lambda::Clock::StandsStill).await;
            })+
        }
    };
}
pub(crate) use with_both_clocks;

/// S3 endpoint that holds a model.
pub(crate) trait Store {
    /// Environment variables that point a process at this endpoint.
    fn env(&self) -> Vec<(String, String)>;

    /// URL of the endpoint.
    fn url(&self) -> String;

    /// Bucket that holds the model.
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

/// Reads a model of `tests/models`.
pub(crate) fn model(file: &str) -> Bytes {
    let path = lab::artifacts::workspace().join("tests/models").join(file);
    std::fs::read(&path).unwrap().into()
}

/// Starts an S3 server with the model `file` at [`KEY`].
pub(crate) async fn s3_with(file: &str) -> S3Server {
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, KEY, model(file));
    s3
}

/// Requests that S3 answered with a whole object.
pub(crate) fn transfers(s3: &S3Server) -> Vec<RequestRecord> {
    let requests = s3.requests().into_iter();
    let is_object = |one: &RequestRecord| one.status == Some(200) && !one.key.is_empty();
    requests.filter(is_object).collect()
}

/// Status and requested range of every request that S3 did not answer with 304.
pub(crate) fn downloads(s3: &S3Server) -> Vec<(Option<u16>, Option<String>)> {
    let requests = s3.requests().into_iter();
    let gets = requests.filter(|one| one.status != Some(304));
    gets.map(|one| (one.status, one.range)).collect()
}

/// As [`downloads`], once S3 has answered every request: the status of a pending one is unknown.
pub(crate) async fn downloads_so_far(s3: &S3Server) -> Vec<(Option<u16>, Option<String>)> {
    let answered = |requests: &[RequestRecord]| requests.iter().all(|one| one.status.is_some());
    let wanted = "a response to every request";
    s3.wait_for_requests(wanted, answered).await.unwrap();
    downloads(s3)
}

/// Variables that all tests share: the model at [`KEY`], no TCP, no metrics; tests with metrics get all of them.
fn settings(s3: &impl Store) -> Vec<(String, String)> {
    let mut env = s3.env();
    for (name, value) in [
        ("MODEL_URI", format!("s3://{}/{KEY}", s3.bucket()).as_str()),
        ("MODEL_NAME", "wine"),
        ("MODEL_PORT", "0"),
        ("MODEL_METRICS", "none"),
        ("MODEL_METRICS_SET", "all"),
    ] {
        env.push((name.into(), value.into()));
    }
    env
}

/// Staged layer and function on AWS's Lambda emulator.
pub(crate) fn lambda(s3: &impl Store) -> Builder {
    let staged = ExecutionEnvironment::staged().unwrap();
    staged.envs(settings(s3)).timeout_seconds(30)
}

/// Staged layer and function on the lab's platform, which freezes and resets the environment.
pub(crate) fn platform(s3: &impl Store) -> lab::lambda::Builder {
    on_platform(Function::staged().unwrap(), s3)
}

/// Sets the variables that all tests share for a function on the lab's platform.
///
/// The function has one environment, so invocations run one after the other.
pub(crate) fn on_platform(function: lab::lambda::Builder, s3: &impl Store) -> lab::lambda::Builder {
    let function = function.max_environments(1).envs(settings(s3));
    function.timeout(Duration::from_secs(30))
}

/// Invokes the function with a liveness check, which needs no model.
pub(crate) async fn alive(function: &Function) {
    let event = http_event("GET", "/v2/health/live", &Value::Null);
    let answer = function.answer(&event).await.unwrap();
    assert_eq!(answer["statusCode"], 200, "{answer}");
}

/// Invokes until the function's log has a line that contains `words`.
///
/// Waiting on the log alone would hang: the environment freezes after an invocation, with a reload still running
/// where it takes longer than `MODEL_TAIL_BUDGET`.
pub(crate) async fn invoke_until_logged(function: &Function, words: &str) {
    let logged = async {
        while !function.log().text().contains(words) {
            alive(function).await;
        }
    };
    let logged = tokio::time::timeout(lab::WAIT_LIMIT, logged).await;
    assert!(logged.is_ok(), "not logged: {words}");
}

/// Waits for the platform to freeze the environment, and lets [`LONG`] pass.
pub(crate) async fn freeze(function: &Function, s3: &S3Server) {
    let environment = function.environment().unwrap();
    environment.wait_until_frozen().await.unwrap();
    environment.let_pass(LONG).await.unwrap();
    s3.let_pass();
}

/// Polls a condition that has no notification, such as the existence of a file.
pub(crate) async fn until(wanted: &str, holds: impl Fn() -> bool) {
    let look = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let seen = tokio::time::timeout(lab::WAIT_LIMIT, look).await;
    assert!(seen.is_ok(), "not seen: {wanted}");
}

/// Sizes of the files in an environment's cache by relative path, without `origins/`.
pub(crate) fn cached(environment: &Environment) -> BTreeMap<String, u64> {
    let cache = environment.tmp().join("model-sidecar");
    let folders = std::fs::read_dir(&cache).into_iter().flatten().flatten();
    folders
        .flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten())
        .flatten()
        .filter_map(|entry| {
            // A file may be deleted during the listing.
            let length = entry.metadata().ok()?.len();
            let path = entry.path();
            let name = path.strip_prefix(&cache).unwrap().to_str()?.to_owned();
            (!name.starts_with("origins/")).then_some((name, length))
        })
        .collect()
}

/// Path of a model file in the cache.
pub(crate) fn place(model: &[u8]) -> String {
    use std::fmt::Write as _;
    let digest = Sha256::digest(model);
    let mut path = "files/".to_owned();
    for byte in digest {
        write!(path, "{byte:02x}").unwrap();
    }
    path + ".onnx"
}

/// Asserts that the cache of an idle environment holds exactly these models and journals.
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
        // The environment may have frozen before the cleanup.
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

/// Returns the model `file`, padded by a comment to a size in bytes.
pub(crate) fn padded(file: &str, bytes: usize) -> Bytes {
    /// Tag of `ModelProto.doc_string`; its length follows as a varint of five bytes.
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

/// Sidecar without Lambda, with its own folder for socket and cache.
pub(crate) struct Alone {
    pub(crate) process: Process,
    folder: TempDir,
}

impl Alone {
    /// Starts the sidecar with additional variables; an empty value unsets one.
    pub(crate) fn start(s3: &impl Store, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("e2e").tempdir().unwrap();
        Self::start_in(folder, s3, variables)
    }

    /// As [`Self::start`], in an existing folder.
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

    /// Starts the sidecar and waits until its models are loaded.
    pub(crate) async fn ready(s3: &impl Store, variables: &[(&str, &str)]) -> Self {
        let alone = Self::start(s3, variables);
        alone.process.wait_for(" ready ").await.unwrap();
        alone
    }

    /// As [`Self::ready`], with polls and metric flushes every 100 ms.
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

    /// Path of the socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Directory of the cache.
    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    /// Client on the socket.
    pub(crate) fn client(&self) -> Client {
        Client::unix(self.socket())
    }

    /// Posts the first rows to `/predict`.
    pub(crate) async fn predict(&self, rows: usize) -> HttpResponse {
        self.client()
            .post("/predict", &features(rows))
            .await
            .unwrap()
    }
}

/// Command that runs the sidecar's binary.
pub(crate) fn sidecar() -> Start {
    Process::of(lab::artifacts::sidecar().unwrap())
}

/// Body of `/predict` with the first rows.
pub(crate) fn features(rows: usize) -> Value {
    json!({ "features": WINE.rows[..rows] })
}

/// Reads one of AWS's sample events from `handler/tests/events`.
///
/// The header `inference-header-content-length` is removed, since the tests send JSON.
pub(crate) fn sample(name: &str) -> Value {
    let folder = lab::artifacts::workspace().join("handler/tests/events");
    let text = std::fs::read(folder.join(name)).unwrap();
    let mut event: Value = serde_json::from_slice(&text).unwrap();
    if let Some(headers) = event.get_mut("headers").and_then(Value::as_object_mut) {
        headers.remove("inference-header-content-length");
    }
    event
}

/// Event of an HTTP API (payload format 2.0) at the stage `prod`.
pub(crate) fn http_event(method: &str, path: &str, body: &Value) -> Value {
    let mut event = sample("http.json");
    event["rawPath"] = format!("/prod{path}").into();
    event["requestContext"]["http"]["method"] = method.into();
    event["headers"]["content-type"] = "application/json".into();
    event["body"] = body.to_string().into();
    event["isBase64Encoded"] = false.into();
    event
}

/// Parses the body of an HTTP reply as JSON.
pub(crate) fn body(reply: &Value) -> Value {
    serde_json::from_str(reply["body"].as_str().unwrap()).unwrap()
}

/// Returns the message of an error response, `{"error": …}`.
pub(crate) fn error(answer: &Value) -> &str {
    answer["error"].as_str().unwrap_or_default()
}

/// Current time in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}
