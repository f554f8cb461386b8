//! `MODEL_HANDLER=attach`: the sidecar is the function's runtime, and `bootstrap` only waits.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use lab::cloudwatch::{CloudWatch, Filter};
use lab::lambda::{ApiCall, Builder, Clock, Function, State};
use lab::s3::S3Server;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    BUCKET, KEY, LONG, alive, body, error, features, freeze, http_event, model, platform, s3_with,
    transfers, until, with_both_clocks,
};
use lab::reference::WINE;

with_both_clocks!(
    what_is_due_after_a_freeze_runs_in_parallel_with_the_inference,
    a_crash_of_either_process_restarts_the_environment,
);

/// Function whose events the sidecar receives.
fn attached(s3: &S3Server) -> Builder {
    platform(s3).env("MODEL_HANDLER", "attach")
}

/// Events that the sidecar has received as an extension.
fn extension_events(calls: &[ApiCall]) -> Vec<String> {
    let events = calls
        .iter()
        .filter(|call| call.path.ends_with("/event/next"));
    events.filter_map(ApiCall::event).collect()
}

/// Number of events that the sidecar has received as the runtime.
fn deliveries(calls: &[ApiCall]) -> usize {
    let polls = calls
        .iter()
        .filter(|call| call.path.ends_with("/invocation/next"));
    polls.filter(|call| call.status.is_some()).count()
}

async fn what_is_due_after_a_freeze_runs_in_parallel_with_the_inference(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    let cloudwatch = CloudWatch::start().await.unwrap();
    let function = attached(&s3)
        .envs(cloudwatch.env())
        .env("MODEL_METRICS", "cloudwatch")
        .env("MODEL_METRICS_INTERVAL", "10m")
        .env("MODEL_REFRESH_INTERVAL", "10m")
        .env("MODEL_TAIL_BUDGET", "30s")
        .clock(clock);
    let function = function.start().await.unwrap();
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    freeze(&function, &s3).await;
    cloudwatch.let_pass(LONG);

    // The version from before the freeze answers, and the new one is active before `next`.
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    let environment = function.environment().unwrap();
    environment.wait_until_frozen().await.unwrap();
    environment.thaw().await.unwrap();
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    let inferences = Filter::metric("Inferences").dimension("ModelName", "wine");
    assert!(cloudwatch.sum(&inferences) >= 1.0, "a flush was due");

    let log = function.shutdown().await.text();
    assert!(log.contains("shutting down reason=\"spindown\""), "{log}");
    assert!(!log.contains("ERROR"), "{log}");
    assert!(
        (cloudwatch.sum(&inferences) - 3.0).abs() < 0.5,
        "the rest at SHUTDOWN"
    );
    let trace = environment.trace();
    let register = trace.iter().find(|call| call.path.ends_with("/register"));
    let register: Value = serde_json::from_str(&register.unwrap().request).unwrap();
    assert_eq!(register["events"], json!(["SHUTDOWN"]));
    assert_eq!(extension_events(&trace), ["SHUTDOWN"]);
}

async fn a_crash_of_either_process_restarts_the_environment(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    let function = attached(&s3).clock(clock).start().await.unwrap();
    for (process, starts) in [("bootstrap", 2), ("model-sidecar", 3)] {
        WINE.v1
            .check(&function.answer(&features(9)).await.unwrap(), 0..9);
        freeze(&function, &s3).await;
        crash(process, starts, &function).await;
    }
    assert_eq!(transfers(&s3).len(), 1, "{:?}", s3.requests());
}

/// Kills a process, and invokes until the environment has started this often. The sidecar may answer events before it
/// notices the end of `bootstrap`. The platform notices an end during an invocation, which fails, or between two.
async fn crash(process: &str, starts: usize, function: &Function) {
    let environment = function.environment().unwrap();
    environment.kill(process, Signal::SIGKILL).unwrap();
    let restarted = async {
        while function.log().text().matches(" ready ").count() < starts {
            let invocation = function.invoke(&features(1)).await;
            if let Some(failure) = invocation.function_error() {
                let kinds = ["Runtime.ExitError", "Extension.Crash"];
                assert!(kinds.contains(&failure.error_type.as_str()), "{failure:?}");
            }
        }
    };
    let limit = tokio::time::timeout(lab::WAIT_LIMIT, restarted).await;
    limit.expect("the environment starts again");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_process_ends_with_the_other() {
    let s3 = s3_with("wine-v1.onnx").await;
    // Never frozen, so that each process can notice the end of the other.
    let function = attached(&s3).freeze_when_idle(false).start().await.unwrap();
    alive(&function).await;
    let environment = function.environment().unwrap();
    environment.kill("model-sidecar", Signal::SIGKILL).unwrap();
    until("the end of bootstrap", || {
        environment.processes("bootstrap").is_empty()
    })
    .await;
    // The platform may notice the end only now, which fails the invocation.
    let _ = function.invoke(&features(1)).await;

    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    environment.kill("bootstrap", Signal::SIGKILL).unwrap();
    until("the end of the sidecar", || {
        environment.processes("model-sidecar").is_empty()
    })
    .await;
    // The platform may notice the end only now, which fails the invocation.
    let _ = function.invoke(&features(1)).await;
    WINE.v1
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
}

/// Matrix products of a run that takes longer than any wait in the tests.
const ENDLESS: u32 = 2_000_000_000;

/// Request for a run of `trips` matrix products.
fn run(trips: u32) -> Value {
    let input = json!({ "name": "trips", "datatype": "INT64", "shape": [1], "data": [trips] });
    http_event(
        "POST",
        "/v2/models/wine/infer",
        &json!({ "inputs": [input] }),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_resets_the_environment_and_rejects_no_version() {
    let s3 = s3_with("slow.onnx").await;
    // Lambda's default, long enough for an Init within an invocation.
    let function = attached(&s3).timeout(Duration::from_secs(3));
    let function = function.start().await.unwrap();
    alive(&function).await;
    let environment = function.environment().unwrap();
    let event = run(ENDLESS);
    let (late, ()) = tokio::join!(function.invoke(&event), async {
        let delivered = |calls: &[ApiCall]| deliveries(calls) == 2;
        let seen = environment.wait_for_trace("the event", delivered).await;
        seen.unwrap();
        environment.kill("model-sidecar", Signal::SIGSTOP).unwrap();
    });
    assert!(late.timed_out(), "{}", late.text());
    environment.wait_until(State::Empty).await.unwrap();
    let next = function.answer(&run(1)).await.unwrap();
    assert_eq!(next["statusCode"], 200, "{next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn payloads_keep_the_limits_of_lambda() {
    let s3 = s3_with("identity-string.onnx").await;
    let function = attached(&s3)
        // The handler in the sidecar needs no token.
        .env("MODEL_TOKEN", "session")
        .env("AWS_SESSION_TOKEN", "secret");
    let function = function.start().await.unwrap();
    let text = |length: usize| json!({ "features": ["a".repeat(length)] });
    let answer = function.answer(&text(5_000_000)).await.unwrap();
    assert_eq!(answer["prediction"][0][0], "a".repeat(5_000_000));

    // A compressed body can be below the limit although its response is not.
    let too_long = with_gzip(&text(7_000_000));
    let answer = function.answer(&too_long).await.unwrap();
    assert_eq!(answer["statusCode"], 413, "{answer}");
    assert!(error(&body(&answer)).contains("Lambda's limit"), "{answer}");
}

/// HTTP event with this request, compressed, in base64.
fn with_gzip(request: &Value) -> Value {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(request.to_string().as_bytes()).unwrap();
    let mut event = http_event("POST", "/predict", &Value::Null);
    event["headers"]["content-encoding"] = "gzip".into();
    // A compressed response would be below the limit.
    event["headers"]["accept-encoding"] = "identity".into();
    event["body"] = BASE64_STANDARD.encode(encoder.finish().unwrap()).into();
    event["isBase64Encoded"] = true.into();
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn managed_instances_have_a_poll_for_each_concurrent_invocation() {
    const AT_ONCE: usize = 8;
    let s3 = s3_with("wine-v1.onnx").await;
    let function = attached(&s3).managed_instances(8).start().await.unwrap();
    let environment = function.environment().unwrap();
    let polls = |calls: &[ApiCall]| {
        let polls = calls
            .iter()
            .filter(|call| call.path.ends_with("/invocation/next"));
        polls.count() == AT_ONCE
    };
    environment
        .wait_for_trace("all polls", polls)
        .await
        .unwrap();
    let asks = (0..AT_ONCE).map(|caller| {
        let function = &function;
        async move {
            let event = json!({ "features": WINE.rows[caller..=caller] });
            (caller, function.answer(&event).await.unwrap())
        }
    });
    for (caller, answer) in join_all(asks).await {
        WINE.v1.check(&answer, caller..caller + 1);
    }
    let log = function.shutdown().await.text();
    assert!(!log.contains("ERROR"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_without_the_handler_fails_init_with_the_variables_name() {
    let s3 = s3_with("wine-v1.onnx").await;
    // A runtime of its own, which waits for events.
    let folder = TempDir::new().unwrap();
    let bootstrap = folder.path().join("bootstrap");
    std::fs::write(&bootstrap, "#!/bin/sh\nexec sleep 60\n").unwrap();
    std::fs::set_permissions(&bootstrap, Permissions::from_mode(0o755)).unwrap();
    let layer = lab::artifacts::layer().unwrap();
    let function = Function::of(layer, folder.path())
        .envs(s3.env())
        .env("MODEL_URI", format!("s3://{BUCKET}/{KEY}"))
        .env("MODEL_PORT", "0")
        .env("MODEL_METRICS", "none")
        .env("MODEL_HANDLER", "attach")
        // Shortens the wait to its minimum.
        .env("MODEL_INIT_BUDGET", "1ms")
        .timeout(Duration::from_secs(30))
        .start()
        .await
        .unwrap();
    let failed = function.invoke(&features(1)).await;
    assert_eq!(
        failed.function_error().unwrap().error_type,
        "Extension.InitError"
    );
    let log = function.log().text();
    assert!(
        log.contains("cannot start with MODEL_HANDLER=attach"),
        "{log}"
    );
}
