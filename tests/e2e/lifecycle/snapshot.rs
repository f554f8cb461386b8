//! `SnapStart`: the model is loaded before the snapshot, and a restored environment serves without a fetch.
//!
//! The lab restores one environment. It shows what a process does after its restore, and not that clones of its memory
//! differ.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use lab::cloudwatch::{CloudWatch, Filter};
use lab::gate::Gate;
use lab::lambda::{Builder, Clock, Environment, Function, ShutdownReason, State};
use lab::link::Link;
use lab::ports::Port;
use lab::reference::{Reference, WINE};
use lab::s3::{RequestRecord, Rule, S3Server};
use serde_json::{Value, json};

use crate::support::layout::manifest;
use crate::support::{
    BUCKET, KEY, LONG, features, freeze, http_event, model, platform, s3_with, transfers,
};

/// Log line of the work after a restore.
const RESTORED: &str = "restored from a snapshot";

/// Event from which the sidecar infers a restore.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// The restore itself, which the handler or a hook reports.
    Restore,
    /// The first invocation after it.
    Invocation,
}

/// Function with a link to S3, in whose first environment time passes in the snapshot.
struct Snapshot {
    function: Function,
    link: Link,
}

impl Snapshot {
    /// Runs Init to the snapshot. Polls run in parallel with invocations and are never waited for.
    async fn of(builder: Builder, s3: &S3Server) -> Self {
        let link = Link::to_s3(s3).await.unwrap();
        let function = builder
            .snap_start()
            .clock(Clock::Jumps)
            .env("AWS_ENDPOINT_URL_S3", link.url())
            .env("MODEL_REFRESH_INTERVAL", "10m")
            .env("MODEL_TAIL_BUDGET", "0");
        let function = function.start().await.unwrap();
        let environment = function.environment().unwrap();
        environment.wait_until(State::Snapshot).await.unwrap();
        // Loaded before the snapshot.
        function.log().wait_for(" ready ").await.unwrap();
        Self { function, link }
    }

    /// An hour passes, and all connections end.
    async fn rest(&self, s3: &S3Server) {
        freeze(&self.function, s3).await;
        self.link.cut();
    }

    fn environment(&self) -> Arc<Environment> {
        self.function.environment().unwrap()
    }

    /// Restores ahead of an invocation, while S3 holds back its next response: the version before the snapshot serves.
    /// Serves the next version after that response. S3 sees new credentials.
    async fn restore_and_serve(
        &self,
        s3: &S3Server,
        sign: Sign,
        event: &Value,
        [before, after]: [&Reference; 2],
    ) {
        let environment = self.environment();
        let log = self.function.log();
        let (mark, requests) = (log.mark(), s3.requests().len());
        let is_restored = |line: &str| line.contains(RESTORED);
        let stalled = Gate::new();
        s3.fail(Rule::on("GET").first(1).stall_after(10, &stalled));
        environment.restore().await.unwrap();
        if sign == Sign::Restore {
            environment.wait_until(State::Idle).await.unwrap();
            let restored = log.wait_for_line_after(mark, RESTORED, is_restored);
            restored.await.unwrap();
        }
        let answer = async || self.function.answer(&features(9)).await.unwrap();
        before.check(&answer().await, 0..9);
        self.invoke_until(event, stalled.reached(1)).await;
        stalled.open();
        let is_active = |line: &str| line.contains("a new version is active");
        let active = log.wait_for_line_after(mark, "the next version", is_active);
        self.invoke_until(event, active).await;
        after.check(&answer().await, 0..9);
        assert_new_credentials(s3, requests, &environment);
    }

    /// Invokes until `wanted` is there: the environment is frozen after each invocation, with work under way.
    async fn invoke_until<T, E: Debug>(
        &self,
        event: &Value,
        wanted: impl Future<Output = Result<T, E>>,
    ) {
        let mut wanted = pin!(wanted);
        loop {
            if let Some(seen) = wanted.as_mut().now_or_never() {
                seen.unwrap();
                return;
            }
            self.function.answer(event).await.unwrap();
        }
    }
}

/// Asserts that S3 was asked with one access key before the restore, and with another one after it.
fn assert_new_credentials(s3: &S3Server, before: usize, environment: &Environment) {
    let requests = s3.requests();
    let keys = |part: &[RequestRecord]| {
        let keys = part.iter().map(|one| one.access_key.clone());
        let mut keys: Vec<_> = keys.collect();
        keys.dedup();
        keys
    };
    let (earlier, later) = requests.split_at(before);
    assert_eq!(keys(later), [environment.access_key()]);
    assert_ne!(keys(earlier), keys(later));
}

/// Liveness check, which is no inference.
fn live() -> Value {
    http_event("GET", "/v2/health/live", &Value::Null)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handler_reports_the_restore_and_the_canary_is_drawn_after_it() {
    let s3 = S3Server::start().await.unwrap();
    let cloudwatch = CloudWatch::start().await.unwrap();
    for (version, file) in [("1", "wine-v1.onnx"), ("2", "wine-v2.onnx")] {
        s3.put(BUCKET, &format!("wine/{version}/model.onnx"), model(file));
    }
    let versions = [("1", "wine-v1.onnx"), ("2", "wine-v2.onnx")];
    let mut manifest: Value = serde_json::from_slice(&manifest("1", &versions)).unwrap();
    manifest["canary"] = json!({"version": "2", "percent": 100});
    s3.put(BUCKET, "wine/manifest.json", manifest.to_string());
    let builder = platform(&s3)
        .envs(cloudwatch.env())
        .env("MODEL_URI", format!("s3://{BUCKET}/wine/manifest.json"))
        .env("MODEL_METRICS", "cloudwatch")
        .env("MODEL_METRICS_INTERVAL", "10m");
    let snapshot = Snapshot::of(builder, &s3).await;
    let (function, environment) = (&snapshot.function, snapshot.environment());
    let position = environment.tmp().join("model-sidecar/rollout-position");
    assert!(
        !position.exists(),
        "a draw before the snapshot would be that of every environment"
    );
    snapshot.rest(&s3).await;
    cloudwatch.let_pass(LONG);
    let restored = SystemTime::now();

    snapshot
        .restore_and_serve(&s3, Sign::Restore, &live(), [&WINE.v1, &WINE.v2])
        .await;
    assert!(position.exists());

    let log = function.shutdown().await.text();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
    assert!(log.contains("\tRestore Duration: "), "{log}");
    assert_eq!(log.matches(RESTORED).count(), 1, "{log}");
    let sum = |name: &str| cloudwatch.sum(&Filter::metric(name));
    assert!(sum("ColdStarts").abs() < 0.5, "from before the snapshot");
    assert!(
        (sum("ModelLoads") - 1.0).abs() < 0.5,
        "the canary's load alone"
    );
    assert!((sum("Inferences") - 2.0).abs() < 0.5);
    let datapoints = cloudwatch.datapoints(&Filter::metric("Inferences"));
    assert!(datapoints.iter().all(|point| point.timestamp >= restored));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sidecar_as_the_runtime_polls_after_each_restore() {
    let s3 = s3_with("wine-v1.onnx").await;
    let builder = platform(&s3).env("MODEL_HANDLER", "attach");
    let snapshot = Snapshot::of(builder, &s3).await;
    let (function, environment) = (&snapshot.function, snapshot.environment());
    assert_eq!(transfers(&s3).len(), 1);
    snapshot.rest(&s3).await;
    s3.put(BUCKET, KEY, model("wine-v2.onnx"));

    snapshot
        .restore_and_serve(&s3, Sign::Restore, &live(), [&WINE.v1, &WINE.v2])
        .await;

    // Another restore, which nothing reports.
    snapshot.rest(&s3).await;
    s3.put(BUCKET, KEY, model("wine-v1.onnx"));
    snapshot
        .restore_and_serve(&s3, Sign::Invocation, &live(), [&WINE.v2, &WINE.v1])
        .await;

    // A start after a reset has no snapshot.
    environment.reset(ShutdownReason::Timeout).await.unwrap();
    let answer = function.answer(&features(9)).await.unwrap();
    assert_eq!(answer["prediction"].as_array().unwrap().len(), 9);
    let log = function.shutdown().await.text();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_in_python_reports_the_restore_or_else_the_first_invocation_does() {
    let staged = lab::artifacts::workspace().join("target/functions/example");
    assert!(staged.is_dir(), "run `make runtimes`");
    for (handler, sign) in [
        ("snapstart.handler", Sign::Restore),
        ("tcp.handler", Sign::Invocation),
    ] {
        let s3 = s3_with("wine-v1.onnx").await;
        let port = Port::lease().unwrap();
        let builder = Function::of(lab::artifacts::layer().unwrap(), &staged)
            .envs(s3.env())
            .handler(handler)
            .max_environments(1)
            .timeout(Duration::from_secs(30))
            .env("MODEL_URI", format!("s3://{BUCKET}/{KEY}"))
            .env("MODEL_PORT", port.number().to_string())
            .env("MODEL_METRICS", "none");
        let snapshot = Snapshot::of(builder, &s3).await;
        let function = &snapshot.function;
        snapshot.rest(&s3).await;
        s3.put(BUCKET, KEY, model("wine-v2.onnx"));
        snapshot
            .restore_and_serve(&s3, sign, &features(1), [&WINE.v1, &WINE.v2])
            .await;
        let log = function.shutdown().await.text();
        assert_eq!(log.matches(RESTORED).count(), 1, "{log}");
        assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
    }
}
