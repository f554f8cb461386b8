//! The lab's platform with a function and an extension, as documented in `lab::lambda`, observed
//! through the probe.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lab::lambda::{Builder, Environment, Function, Invocation, ShutdownReason, State, Status};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

mod api;
mod failures;
mod freezing;
mod many;
mod snapshot;

const EXTENSION: &str = "probe-extension";

/// A layer and a function made of the probe.
struct Folders {
    root: TempDir,
}

impl Folders {
    fn new() -> Self {
        let folders = Self::without_extension();
        folders.add_extension(EXTENSION);
        folders
    }

    fn without_extension() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folders = Self { root };
        std::fs::create_dir_all(folders.layer().join("extensions")).unwrap();
        std::fs::create_dir_all(folders.function()).unwrap();
        copy_probe(&folders.function().join("bootstrap"));
        folders
    }

    fn add_extension(&self, name: &str) {
        copy_probe(&self.layer().join("extensions").join(name));
    }

    fn layer(&self) -> PathBuf {
        self.root.path().join("layer")
    }

    fn function(&self) -> PathBuf {
        self.root.path().join("function")
    }

    fn lambda(&self) -> Builder {
        Function::of(self.layer(), self.function()).echo()
    }
}

/// Copies in a child process, as in the tests of [`crate::rie`].
fn copy_probe(to: &Path) {
    let probe = env!("CARGO_BIN_EXE_probe");
    let status = std::process::Command::new("cp").arg(probe).arg(to).status();
    assert!(status.unwrap().success());
}

fn environment(lambda: &Function) -> Arc<Environment> {
    lambda.environment().unwrap()
}

/// Runs one invocation and waits for its end, so that the next one finds a warm environment.
async fn warm(lambda: &Function) -> Arc<Environment> {
    lambda.answer(&json!({})).await.unwrap();
    let environment = environment(lambda);
    environment.wait_until_frozen().await.unwrap();
    environment
}

/// Creates a file that a probe waits for.
fn leave(environment: &Environment, file: &str) {
    std::fs::write(environment.tmp().join(file), "").unwrap();
}

/// Waits for a file that a probe creates.
async fn left(environment: &Environment, file: &str) {
    let file = environment.tmp().join(file);
    let found = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(lab::WAIT_LIMIT, found).await.unwrap();
}

fn error_type(invocation: &Invocation) -> String {
    invocation.function_error().unwrap().error_type
}

#[tokio::test]
async fn an_invocation_returns_is_reported_and_ends_in_a_freeze() {
    let folders = Folders::new();
    let lambda = folders.lambda().memory_mb(512).start().await.unwrap();
    assert!(
        lambda.environments().is_empty(),
        "nothing runs before an event"
    );
    let answer = lambda.invoke(&json!({"a": 1})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.function_error(), None);
    assert_eq!(answer.json.as_ref().unwrap()["echo"], json!({"a": 1}));
    assert!(answer.json.as_ref().unwrap()["deadline"].is_u64());

    let environment = environment(&lambda);
    environment.wait_until_frozen().await.unwrap();
    assert_eq!(environment.state(), State::Idle);
    assert_eq!(environment.processes(EXTENSION).len(), 1);
    lambda.answer(&json!({})).await.unwrap();
    let reports = lambda.wait_for_reports(2).await.unwrap();
    let [first, second] = &*reports else {
        panic!("{reports:?}")
    };
    assert_eq!(first.request_id, answer.request_id);
    assert!(first.init.is_some());
    assert_eq!(second.init, None, "Init is reported once");
    for report in &reports {
        assert_eq!(report.status, Status::Success);
        assert!(report.billed >= report.duration + report.init.unwrap_or_default());
        assert!((1..512).contains(&report.max_memory_mb), "{report:?}");
    }
    let lines = lambda.shutdown().await.lines();
    let at = |text: &str| {
        lines
            .iter()
            .position(|line| line.starts_with(text))
            .unwrap_or_else(|| panic!("no {text} in {lines:#?}"))
    };
    let id = &answer.request_id;
    let order = [
        at("INIT_START"),
        at(&format!(
            "EXTENSION\tName: {EXTENSION}\tState: Ready\tEvents: [INVOKE, SHUTDOWN]"
        )),
        at(&format!("START RequestId: {id} Version: $LATEST")),
        at(&format!("END RequestId: {id}")),
        at(&format!("REPORT RequestId: {id}\tDuration: ")),
    ];
    assert!(order.is_sorted(), "{lines:#?}");
    assert!(
        lines.contains(&"extension: shutdown, done".to_owned()),
        "{lines:#?}"
    );
}

#[tokio::test]
async fn the_response_precedes_the_extensions_tail_which_is_billed() {
    let folders = Folders::new();
    let builder = folders.lambda().env("PROBE_STAY_IN_TAIL", "done");
    let lambda = builder.start().await.unwrap();
    let answer = lambda.invoke(&json!({})).await;
    assert_eq!(answer.function_error(), None);
    let environment = environment(&lambda);
    environment.wait_until(State::Tail).await.unwrap();
    assert!(!environment.is_frozen());
    assert!(lambda.reports().is_empty());
    // The tail now lasts at least this long.
    tokio::time::sleep(Duration::from_millis(30)).await;
    leave(&environment, "done");
    let report = lambda.wait_for_reports(1).await.unwrap().remove(0);
    assert!(
        report.post_runtime_extensions >= Duration::from_millis(29),
        "{report:?}"
    );
    assert!(report.duration >= report.post_runtime_extensions);
    environment.wait_until_frozen().await.unwrap();
}

#[tokio::test]
async fn each_side_has_its_variables_and_read_only_folders() {
    let folders = Folders::new();
    let builder = folders.lambda().env("MODEL_URI", "s3://b/k");
    let lambda = builder.start().await.unwrap();
    lambda.answer(&json!({})).await.unwrap();
    let seen = lambda
        .log()
        .wait_for("extension: environment")
        .await
        .unwrap();
    assert!(seen.contains("MODEL_URI"), "{seen}");
    assert!(seen.contains("AWS_LAMBDA_RUNTIME_API"), "{seen}");
    for hidden in [
        "HOME",
        "CARGO",
        "_HANDLER",
        "LAMBDA_TASK_ROOT",
        "AWS_LAMBDA_LOG_GROUP_NAME",
    ] {
        assert!(!seen.contains(hidden), "{hidden} in {seen}");
    }
}

#[tokio::test]
async fn a_function_error_is_a_marked_response() {
    let folders = Folders::new();
    let lambda = folders.lambda().start().await.unwrap();
    let answer = lambda.invoke(&json!({"error": "as asked"})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["x-amz-function-error"], "Unhandled");
    let error = answer.function_error().unwrap();
    assert_eq!(
        (&*error.error_type, &*error.message),
        ("Probe.Asked", "as asked")
    );
    lambda.answer(&json!({"errorType": 1})).await.unwrap();
    assert_eq!(
        lambda.wait_for_reports(2).await.unwrap()[0].status,
        Status::Success
    );
}

#[tokio::test]
async fn payloads_have_a_limit_each_way() {
    let folders = Folders::new();
    let lambda = folders.lambda().start().await.unwrap();
    let most = lab::lambda::MAX_REQUEST;
    let refused = lambda.invoke_raw(vec![b' '; most + 1]).await;
    assert_eq!(refused.status, 413);
    assert_eq!(error_type(&refused), "RequestEntityTooLargeException");
    assert!(
        lambda.environments().is_empty(),
        "the event reaches no environment"
    );

    let answer = lambda.invoke(&json!({"long": most + 200})).await;
    assert_eq!(answer.status, 200);
    assert_eq!(error_type(&answer), "Function.ResponseSizeTooLarge");
    let calls = environment(&lambda).trace();
    let response = calls
        .iter()
        .find(|call| call.path.ends_with("/response"))
        .unwrap();
    assert_eq!(response.status.unwrap(), 413);
    assert!(
        response.response.contains("RequestEntityTooLarge"),
        "{response:?}"
    );
    // Neither ends the environment.
    let mut body = b"\"".to_vec();
    body.resize(most - 1, b'a');
    body.push(b'"');
    assert_eq!(lambda.invoke_raw(body).await.status, 200);
}

#[tokio::test]
async fn dropping_the_function_leaves_no_process_or_file() {
    let folders = Folders::new();
    let lambda = folders.lambda().start().await.unwrap();
    lambda.answer(&json!({})).await.unwrap();
    let environment = environment(&lambda);
    let pids = [
        environment.processes(EXTENSION),
        environment.processes("bootstrap"),
    ]
    .concat();
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
async fn the_next_function_finds_the_tmp_of_the_last() {
    let folders = Folders::new();
    let lambda = folders.lambda().start().await.unwrap();
    lambda.answer(&json!({})).await.unwrap();
    leave(&environment(&lambda), "kept");
    let tmp = environment(&lambda).keep_tmp();
    lambda.shutdown().await;
    drop(lambda);
    let lambda = folders.lambda().tmp(tmp).start().await.unwrap();
    lambda.answer(&json!({"until": "kept"})).await.unwrap();
}
