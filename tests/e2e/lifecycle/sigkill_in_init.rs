//! SIGKILL of the sidecar at every stage of Init.
//!
//! The platform repeats Init at once. The second Init serves the request, downloads no byte twice, leaves no stale
//! files in the cache and rejects no version.

use std::sync::Arc;
use std::time::Duration;

use lab::gate::Gate;
use lab::lambda::{Builder, Environment, Function};
use lab::s3::{Rule, S3Server};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use crate::support::{
    BUCKET, KEY, assert_only_kept, body, cached, downloads, features, http_event, model, place,
    platform, s3_with, transfers, until,
};
use lab::reference::WINE;

/// Name of the sidecar's process.
const SIDECAR: &str = "model-sidecar";

/// First invocation of a function, during Init.
struct Init {
    function: Arc<Function>,
    environment: Arc<Environment>,
    invocation: tokio::task::JoinHandle<Result<Value, lab::lambda::LambdaError>>,
}

impl Init {
    /// Invokes the function, and returns as soon as an environment exists.
    async fn begin(builder: Builder, event: Value) -> Self {
        let function = Arc::new(builder.start().await.unwrap());
        let invocation = tokio::spawn({
            let function = Arc::clone(&function);
            async move { function.answer(&event).await }
        });
        until("an environment", || function.environment().is_some()).await;
        Self {
            environment: function.environment().unwrap(),
            function,
            invocation,
        }
    }

    fn kill(&self) {
        self.environment.kill(SIDECAR, Signal::SIGKILL).unwrap();
    }

    /// Waits for the response of the invocation, which follows the repeated Init.
    async fn answer(self) -> (Value, Arc<Function>, Arc<Environment>) {
        let answer = self.invocation.await.unwrap().unwrap();
        let log = self.function.log().text();
        assert_eq!(log.matches("INIT_START").count(), 2, "{log}");
        for word in ["process ended", "rejected", "no version is loaded", "ERROR"] {
            let ours = log.lines().filter(|line| line.contains(word));
            // The platform reports the exit with these words.
            let ours = ours.filter(|line| !line.contains("Error: "));
            assert_eq!(ours.count(), 0, "{word}: {log}");
        }
        (answer, self.function, self.environment)
    }

    /// As [`Self::answer`]; asserts that the cache holds nothing but the wine model.
    async fn serves_wine(self) {
        let (answer, _function, environment) = self.answer().await;
        WINE.v1.check(&answer, 0..9);
        assert_only_kept(&environment, &[&model("wine-v1.onnx")], &["wine"]).await;
    }
}

/// Total number of object bytes sent.
fn sent(s3: &S3Server) -> u64 {
    s3.requests().iter().map(|one| one.sent).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn as_soon_as_the_process_exists() {
    let s3 = s3_with("wine-v1.onnx").await;
    let init = Init::begin(platform(&s3), features(9)).await;
    let environment = Arc::clone(&init.environment);
    until("the process", || !environment.processes(SIDECAR).is_empty()).await;
    init.kill();
    init.serves_wine().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_registration() {
    let s3 = s3_with("wine-v1.onnx").await;
    let init = Init::begin(platform(&s3), features(9)).await;
    let registered = init.environment.wait_for_trace("a registration", |calls| {
        let mut calls = calls.iter();
        calls.any(|call| call.path.ends_with("/register") && call.status.is_some())
    });
    registered.await.unwrap();
    init.kill();
    init.serves_wine().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_s3_responds() {
    let s3 = s3_with("wine-v1.onnx").await;
    s3.fail(Rule::on("GET").first(1).latency(Duration::from_secs(600)));
    let init = Init::begin(platform(&s3), features(9)).await;
    let asked = s3.wait_for_requests("a question", |requests| !requests.is_empty());
    asked.await.unwrap();
    init.kill();
    init.serves_wine().await;
    assert_eq!(downloads(&s3), [(None, None), (Some(200), None)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn during_the_download() {
    let size = model("wine-v1.onnx").len() as u64;
    for arrived in [1, 500, size - 1] {
        let s3 = s3_with("wine-v1.onnx").await;
        let stopped = Gate::new();
        s3.fail(Rule::on("GET").first(1).stall_after(arrived, &stopped));
        let init = Init::begin(platform(&s3), features(9)).await;
        let environment = Arc::clone(&init.environment);
        until("the bytes that arrived", || {
            let cached = cached(&environment);
            let mut partials = cached
                .iter()
                .filter(|(path, _)| path.starts_with("partials/"));
            partials.any(|(_, &length)| length == arrived)
        })
        .await;
        init.kill();
        init.serves_wine().await;
        let rest = format!("bytes={arrived}-{}", size - 1);
        assert_eq!(downloads(&s3), [(Some(200), None), (Some(206), Some(rest))]);
        assert_eq!(sent(&s3), size);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn between_download_and_load() {
    let s3 = s3_with("wine-v1.onnx").await;
    let stopped = Gate::new();
    s3.fail(Rule::on("GET").first(1).stall_after(500, &stopped));
    let init = Init::begin(platform(&s3), features(9)).await;
    let environment = Arc::clone(&init.environment);
    stopped.reached(1).await.unwrap();
    // Replace the load marker by a pipe, which blocks the writer until a reader opens it.
    let mark = environment.tmp().join("model-sidecar/loading/wine");
    mkfifo(&mark, Mode::from_bits_truncate(0o600)).unwrap();
    stopped.open();
    let file = place(&model("wine-v1.onnx"));
    until("the file and its journal", || {
        let cached = cached(&environment);
        cached.contains_key(&file) && cached.contains_key("journals/wine.json")
    })
    .await;
    // Freeze first, so that removing the pipe does not let the load start before the kill.
    environment.freeze().await.unwrap();
    std::fs::remove_file(&mark).unwrap();
    init.kill();
    environment.thaw().await.unwrap();
    init.serves_wine().await;
    assert_eq!(transfers(&s3).len(), 1);
    assert_eq!(s3.requests().last().unwrap().status, Some(304));
}

#[tokio::test(flavor = "multi_thread")]
async fn during_the_load() {
    // Loading this model takes long enough to be interrupted.
    let s3 = s3_with("hungry.onnx").await;
    let event = http_event(
        "POST",
        "/predict",
        &serde_json::json!({ "features": [[1.0]] }),
    );
    let init = Init::begin(platform(&s3), event).await;
    let environment = Arc::clone(&init.environment);
    until("the load", || {
        cached(&environment).contains_key("loading/wine")
    })
    .await;
    init.kill();
    let (answer, _function, environment) = init.answer().await;
    assert_eq!(answer["statusCode"], 200, "{answer}");
    assert_only_kept(&environment, &[&model("hungry.onnx")], &["wine"]).await;
    assert_eq!(transfers(&s3).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_load_of_the_first_of_two_models() {
    let s3 = s3_with("wine-v1.onnx").await;
    s3.put(BUCKET, "other.onnx", model("wine-v2.onnx"));
    let stopped = Gate::new();
    s3.fail(
        Rule::on("GET")
            .key("other.onnx")
            .first(1)
            .stall_after(700, &stopped),
    );
    let models = format!("wine=s3://{BUCKET}/{KEY},other=s3://{BUCKET}/other.onnx");
    let platform = platform(&s3)
        .env("MODEL_URI", "")
        .env("MODEL_NAME", "")
        .env("MODELS", models);
    let event = http_event("POST", "/models/wine/predict", &features(9));
    let init = Init::begin(platform, event).await;
    let log = init.function.log().clone();
    log.wait_for("the model is loaded model=wine")
        .await
        .unwrap();
    let environment = Arc::clone(&init.environment);
    until("the other's bytes", || {
        cached(&environment).values().any(|&length| length == 700)
    })
    .await;
    init.kill();
    let (answer, _function, environment) = init.answer().await;
    WINE.v1.check(&body(&answer), 0..9);
    let (v1, v2) = (model("wine-v1.onnx"), model("wine-v2.onnx"));
    assert_only_kept(&environment, &[&v1, &v2], &["wine", "other"]).await;
    assert_eq!(sent(&s3), (v1.len() + v2.len()) as u64);
}
