//! AWS's emulator with a function and an extension, as documented in `lab::rie`.

use std::path::{Path, PathBuf};

use lab::rie::{Builder, ExecutionEnvironment};
use nix::sys::signal::Signal;
use serde_json::json;
use tempfile::TempDir;

/// A layer and a function made of the probe.
struct Folders {
    root: TempDir,
}

impl Folders {
    fn new() -> Self {
        let folders = Self {
            root: tempfile::tempdir().unwrap(),
        };
        let probe = Path::new(env!("CARGO_BIN_EXE_probe"));
        let extensions = folders.layer().join("extensions");
        std::fs::create_dir_all(&extensions).unwrap();
        std::fs::create_dir_all(folders.function()).unwrap();
        copy(probe, &extensions.join(EXTENSION));
        copy(probe, &folders.function().join("bootstrap"));
        folders
    }

    fn layer(&self) -> PathBuf {
        self.root.path().join("layer")
    }

    fn function(&self) -> PathBuf {
        self.root.path().join("function")
    }

    fn environment(&self) -> Builder {
        ExecutionEnvironment::of(self.layer(), self.function()).echo()
    }
}

const EXTENSION: &str = "probe-extension";

/// Copies in a child process. Another test's thread could start a process while this one has the
/// file open for writing. That process would inherit the open file, and the file could not be
/// executed.
fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg(from).arg(to).status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn events_get_responses_and_the_extension_gets_shutdown() {
    let folders = Folders::new();
    let lambda = folders.environment().start().await.unwrap();
    assert!(
        lambda.processes(EXTENSION).is_empty(),
        "nothing starts before an event"
    );
    let answer = lambda.invoke(&json!({"a": 1})).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json.as_ref().unwrap()["echo"], json!({"a": 1}));
    assert!(answer.json.as_ref().unwrap()["deadline"].is_u64());
    assert_eq!(answer.function_error(), None);
    assert_eq!(lambda.processes(EXTENSION).len(), 1);
    assert_eq!(lambda.processes("bootstrap").len(), 1);

    let log = lambda.shutdown().await.unwrap();
    let lines = log.lines();
    let shutdown = lines
        .iter()
        .find(|line| line.contains(r#""SHUTDOWN""#))
        .unwrap();
    assert!(
        shutdown.contains(r#""shutdownReason":"SandboxTerminated""#),
        "{shutdown}"
    );
    assert!(lines.contains(&"extension: shutdown, done".to_owned()));
}

#[tokio::test]
async fn only_variables_of_the_test_are_inherited() {
    let folders = Folders::new();
    let builder = folders
        .environment()
        .env("MODEL_URI", "s3://b/k")
        .memory_mb(512);
    let lambda = builder.start().await.unwrap();
    lambda.invoke(&json!({})).await.unwrap();
    let environment = lambda.wait_for("extension: environment").await.unwrap();
    assert!(environment.contains("MODEL_URI"), "{environment}");
    for hidden in ["HOME", "CARGO", "_HANDLER"] {
        assert!(!environment.contains(hidden), "{hidden} in {environment}");
    }
    lambda.wait_for("Memory Size: 512 MB").await.unwrap();
}

#[tokio::test]
async fn a_functions_error_is_seen() {
    let folders = Folders::new();
    let lambda = folders.environment().start().await.unwrap();
    let answer = lambda.invoke(&json!({"error": "as asked"})).await.unwrap();
    assert_eq!(answer.status, 200);
    let error = answer.function_error().unwrap();
    assert_eq!(error.error_type, "Probe.Asked");
    assert_eq!(error.message, "as asked");
    lambda.answer(&json!({})).await.unwrap();
}

#[tokio::test]
async fn a_function_that_crashes_resets_the_environment_and_keeps_tmp() {
    let folders = Folders::new();
    let lambda = folders.environment().start().await.unwrap();
    lambda.invoke(&json!({})).await.unwrap();
    std::fs::write(lambda.tmp().join("kept"), "here").unwrap();
    let first = lambda.processes(EXTENSION);

    let answer = lambda.invoke(&json!({"crash": 7})).await.unwrap();
    assert_eq!(answer.status, 502);
    assert_eq!(
        answer.function_error().unwrap().error_type,
        "Runtime.ExitError"
    );
    lambda
        .wait_for(r#""shutdownReason":"ReleaseFail""#)
        .await
        .unwrap();

    let answer = lambda.invoke(&json!({})).await.unwrap();
    assert_eq!(answer.function_error(), None);
    lambda
        .wait_for("INIT START(type: on-demand, phase: invoke)")
        .await
        .unwrap();
    assert_ne!(lambda.processes(EXTENSION), first);
    assert_eq!(
        std::fs::read_to_string(lambda.tmp().join("kept")).unwrap(),
        "here"
    );
}

#[tokio::test]
async fn an_invocation_that_times_out_resets_the_environment() {
    let folders = Folders::new();
    let lambda = folders
        .environment()
        .timeout_seconds(1)
        .start()
        .await
        .unwrap();
    let answer = lambda.invoke(&json!({"hang": true})).await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), "Task timed out after 1.00 seconds");
    assert!(answer.timed_out());
    lambda
        .wait_for(r#""shutdownReason":"Timeout""#)
        .await
        .unwrap();
    lambda.answer(&json!({})).await.unwrap();
}

#[tokio::test]
async fn an_extension_that_is_killed_fails_the_next_invocation_and_starts_again() {
    let folders = Folders::new();
    let lambda = folders.environment().start().await.unwrap();
    lambda.invoke(&json!({})).await.unwrap();
    lambda.kill(EXTENSION, Signal::SIGKILL).unwrap();
    lambda.wait_for("exited: signal: killed").await.unwrap();
    let error = lambda.kill(EXTENSION, Signal::SIGKILL).unwrap_err();
    assert!(error.to_string().contains("bootstrap"), "{error}");

    let answer = lambda.invoke(&json!({})).await.unwrap();
    assert_eq!(answer.status, 502);
    assert!(answer.function_error().is_some());
    lambda
        .wait_for("Invoke DONE failed: Extension.Crash")
        .await
        .unwrap();
    lambda.answer(&json!({})).await.unwrap();
    assert_eq!(lambda.processes(EXTENSION).len(), 1);
}

#[tokio::test]
async fn an_extension_that_exits_in_an_invocation_fails_it() {
    let folders = Folders::new();
    let builder = folders.environment().env("PROBE_EXIT_AT_INVOKE", "2");
    let lambda = builder.start().await.unwrap();
    assert_eq!(lambda.invoke(&json!({})).await.unwrap().status, 200);
    let answer = lambda.invoke(&json!({})).await.unwrap();
    assert_eq!(answer.status, 502);
    assert!(answer.function_error().is_some());
}

#[tokio::test]
async fn the_next_environment_finds_the_tmp_of_the_last() {
    let folders = Folders::new();
    let lambda = folders.environment().start().await.unwrap();
    lambda.invoke(&json!({})).await.unwrap();
    std::fs::write(lambda.tmp().join("kept"), "here").unwrap();
    let tmp = lambda.keep_tmp();
    lambda.shutdown().await.unwrap();
    drop(lambda);
    let lambda = folders.environment().tmp(tmp).start().await.unwrap();
    lambda.invoke(&json!({})).await.unwrap();
    assert!(lambda.tmp().join("kept").exists());
}

#[tokio::test]
async fn environments_run_side_by_side_and_take_calls_made_at_once() {
    let folders = Folders::new();
    let one = folders.environment().start().await.unwrap();
    let two = folders.environment().start().await.unwrap();
    let event = json!({});
    let calls = (0..8).map(|n| {
        if n % 2 == 0 {
            one.invoke(&event)
        } else {
            two.invoke(&event)
        }
    });
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.unwrap().function_error(), None);
    }
}

#[tokio::test]
async fn dropping_an_environment_leaves_no_process_or_file() {
    let folders = Folders::new();
    let lambda = folders.environment().start().await.unwrap();
    lambda.invoke(&json!({})).await.unwrap();
    let pids = [lambda.processes(EXTENSION), lambda.processes("bootstrap")].concat();
    assert_eq!(pids.len(), 2);
    drop(lambda);
    for pid in pids {
        assert!(
            !Path::new(&format!("/proc/{pid}")).exists(),
            "{pid} lives on"
        );
    }
}

#[tokio::test]
async fn an_extension_that_fails_in_init_fails_every_invocation() {
    let folders = Folders::new();
    let builder = folders.environment().env("PROBE_FAIL_IN_INIT", "1");
    let lambda = builder.start().await.unwrap();
    for _ in 0..2 {
        let answer = lambda.invoke(&json!({})).await.unwrap();
        assert_eq!(answer.status, 502);
        assert!(answer.function_error().is_some());
    }
    lambda.wait_for("Extension.InitError").await.unwrap();
    lambda.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_extension_that_ignores_shutdown_is_killed() {
    let folders = Folders::new();
    let builder = folders.environment().env("PROBE_HANG_AT", "SHUTDOWN");
    let lambda = builder.start().await.unwrap();
    lambda.invoke(&json!({})).await.unwrap();
    let log = lambda.shutdown().await.unwrap().text();
    assert!(
        log.contains("Sending SIGKILL to extension-probe-extension"),
        "{log}"
    );
    assert!(!log.contains("extension: shutdown, done"), "{log}");
}

#[tokio::test]
async fn an_extension_that_does_not_call_next_times_the_invocation_out() {
    let folders = Folders::new();
    let builder = folders.environment().env("PROBE_HANG_AT", "INVOKE");
    let lambda = builder.timeout_seconds(1).start().await.unwrap();
    assert!(lambda.invoke(&json!({})).await.unwrap().timed_out());
    let log = lambda.log().text();
    assert!(log.contains("function: event"), "{log}");
    assert!(!log.contains(r#""SHUTDOWN""#), "{log}");
}
