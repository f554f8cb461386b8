//! `lab serve`, and the commands that control it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lab::http::Client;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::{Folders, INVOKE, wait_for};

#[tokio::test]
async fn an_invocation_returns_what_lambda_returns() {
    let folders = Folders::new();
    let served = folders.serve(&[]).await;
    let answer = served.invoke(r#"{"a":1}"#).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json().unwrap()["echo"], json!({"a": 1}));
    assert_eq!(answer.header("x-amz-function-error"), None);
    assert_eq!(answer.header("x-amz-log-result"), None);
    let id = answer.header("x-amzn-requestid").unwrap().to_owned();
    wait_for(&served.out, &format!("  START RequestId: {id}")).await;
    wait_for(&served.out, &format!("  REPORT RequestId: {id}")).await;
    wait_for(&served.out, r#"  function: event {"a":1}"#).await;

    let failed = served.invoke(r#"{"error":"as asked"}"#).await;
    assert_eq!(failed.status, 200);
    assert!(failed.header("x-amz-function-error").is_some());
    assert_eq!(failed.json().unwrap()["errorMessage"], "as asked");

    let nothing = served.invoke("").await;
    assert_eq!(nothing.json().unwrap()["echo"], json!({}));
}

#[tokio::test]
async fn the_log_tail_is_returned_on_request() {
    let folders = Folders::new();
    let served = folders.serve(&[]).await;
    served.invoke("{}").await;
    let answer = served
        .invoke_with(r#"{"b":2}"#, &[("x-amz-log-type", "Tail")])
        .await;
    let id = answer.header("x-amzn-requestid").unwrap();
    let log = answer.header("x-amz-log-result").unwrap();
    let log = String::from_utf8(BASE64_STANDARD.decode(log).unwrap()).unwrap();
    assert!(log.starts_with(&format!("START RequestId: {id}")), "{log}");
    assert!(log.contains(r#"function: event {"b":2}"#), "{log}");
    assert!(!log.contains("function: event {}"), "{log}");
    let last = log.lines().last().unwrap();
    assert!(
        last.starts_with(&format!("REPORT RequestId: {id}")),
        "{log}"
    );
}

#[tokio::test]
async fn an_event_is_taken_and_a_dry_run_does_nothing() {
    let folders = Folders::new();
    let served = folders.serve(&[]).await;
    let dry = served
        .invoke_with(r#"{"dry":1}"#, &[("x-amz-invocation-type", "DryRun")])
        .await;
    assert_eq!((dry.status.as_u16(), dry.text().as_str()), (204, ""));
    let taken = served
        .invoke_with(r#"{"c":3}"#, &[("x-amz-invocation-type", "Event")])
        .await;
    assert_eq!((taken.status.as_u16(), taken.text().as_str()), (202, ""));
    wait_for(&served.out, r#"function: event {"c":3}"#).await;
    let lines = served.out.borrow().join("\n");
    assert!(!lines.contains("dry"), "{lines}");
}

#[tokio::test]
async fn invalid_requests_are_rejected_with_the_allowed_values() {
    let folders = Folders::new();
    let served = folders.serve(&[]).await;
    let message = |answer: lab::http::HttpResponse| {
        let json: Value = answer.json().unwrap();
        (
            answer.status.as_u16(),
            json["message"].as_str().unwrap().to_owned(),
        )
    };
    let (status, text) = message(served.invoke("{").await);
    assert_eq!(status, 400);
    assert!(
        text.starts_with("Could not parse request body into json"),
        "{text}"
    );
    let wrong = served
        .invoke_with("{}", &[("x-amz-invocation-type", "Later")])
        .await;
    let (status, text) = message(wrong);
    assert_eq!(status, 400);
    assert_eq!(
        text,
        r#"invalid X-Amz-Invocation-Type: "Later"; allowed: RequestResponse, Event or DryRun"#
    );
    let (status, text) = message(served.invoke_with("{}", &[("x-amz-log-type", "All")]).await);
    assert_eq!(
        (status, text.as_str()),
        (
            400,
            r#"invalid X-Amz-Log-Type: "All"; allowed: None or Tail"#
        )
    );
    let client = Client::tcp(served.port);
    let (status, text) = message(client.get(INVOKE).await.unwrap());
    assert_eq!(
        (status, text.as_str()),
        (405, "method GET not allowed; allowed: POST")
    );
    let (status, text) = message(client.get("/nothing").await.unwrap());
    assert_eq!(status, 404);
    assert!(text.contains(INVOKE), "{text}");
    let (status, text) = message(client.post("/lab/reboot", &json!({})).await.unwrap());
    assert_eq!(status, 404, "{text}");
    let bad = client
        .post("/lab/freeze?for_ms=long", &json!({}))
        .await
        .unwrap();
    assert_eq!(
        message(bad),
        (
            400,
            "invalid for_ms=long; allowed: a whole number of milliseconds".to_owned()
        )
    );
}

#[tokio::test]
async fn environments_are_shown_frozen_thawed_and_reset() {
    let folders = Folders::new();
    let served = folders.serve(&[]).await;
    let head = served.done(&["status"]).await;
    assert_eq!(head.lines().count(), 1, "{head}");
    assert_eq!(served.done(&["freeze"]).await, "freeze: no environments\n");

    served.invoke("{}").await;
    let row = row_with(&served, "idle, frozen").await;
    assert!(row.starts_with("0 "), "{row}");
    let pids = pids(&row);
    assert!(pids.len() >= 2, "{row}");
    assert!(pids.iter().all(|pid| stopped(pid)), "{row}");

    assert_eq!(served.done(&["thaw"]).await, "thaw: environment 0\n");
    let row = row_with(&served, "idle ").await;
    assert!(!row.contains("frozen"), "{row}");
    assert!(!pids.iter().any(|pid| stopped(pid)), "{row}");
    assert_eq!(
        served.done(&["freeze", "--environment", "0"]).await,
        "freeze: environment 0\n"
    );
    assert!(pids.iter().all(|pid| stopped(pid)), "{row}");

    assert_eq!(served.done(&["reset"]).await, "reset: environment 0\n");
    wait_for(&served.out, r#""shutdownReason":"failure""#).await;
    let row = row_with(&served, "empty").await;
    assert!(row.ends_with(" -"), "{row}");
    let answer = served.invoke(r#"{"after":"reset"}"#).await;
    assert_eq!(answer.json().unwrap()["echo"]["after"], "reset");
    row_with(&served, " 2 ").await;

    let output = served.command(&["thaw", "--environment", "7"]).await;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(error, "lab: thaw: no environment 7; existing: [0]\n");
}

#[tokio::test]
async fn an_environment_or_all_and_the_server_are_shut_down() {
    let folders = Folders::new();
    let mut served = folders.serve(&[]).await;
    served.invoke("{}").await;
    let one = ["shutdown", "--environment", "0", "--reason", "timeout"];
    assert_eq!(served.done(&one).await, "shutdown: environment 0\n");
    wait_for(&served.out, r#""shutdownReason":"timeout""#).await;
    assert_eq!(served.done(&["status"]).await.lines().count(), 1);

    served.invoke("{}").await;
    let all = served.done(&["shutdown"]).await;
    assert_eq!(all, "shutdown: all environments and the server\n");
    wait_for(&served.out, r#""shutdownReason":"spindown""#).await;
    assert!(served.ended().await.success());
}

#[tokio::test]
async fn a_signal_ends_environments_with_shutdown() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let folders = Folders::new();
        let mut served = folders.serve(&[]).await;
        served.invoke("{}").await;
        served.signal(signal);
        assert!(served.ended().await.success());
        wait_for(&served.out, r#""shutdownReason":"spindown""#).await;
        wait_for(&served.out, "extension: shutdown, done").await;
    }
}

#[tokio::test]
async fn settings_reach_the_function() {
    let folders = Folders::new();
    let settings = ["--memory", "512", "--timeout", "1s", "--env", "A=b"];
    let served = folders.serve(&settings).await;
    served.invoke("{}").await;
    wait_for(&served.out, "Memory Size: 512 MB").await;
    let environment = wait_for(&served.out, "extension: environment").await;
    assert!(environment.contains(" A "), "{environment}");
    let late = served.invoke(r#"{"hang":true}"#).await;
    assert!(late.header("x-amz-function-error").is_some());
    assert!(
        late.text().contains("Task timed out after 1.00 seconds"),
        "{}",
        late.text()
    );
}

#[tokio::test]
async fn as_many_environments_as_allowed_are_made() {
    let folders = Folders::new();
    let served = folders
        .serve(&["--concurrency", "2", "--timeout", "5s"])
        .await;
    let (one, two) = tokio::join!(served.invoke(r#"{"hang":true}"#), async {
        wait_for(&served.out, r#"function: event {"hang":true}"#).await;
        served.invoke(r#"{"other":1}"#).await
    });
    assert!(one.header("x-amz-function-error").is_some());
    assert_eq!(two.json().unwrap()["echo"]["other"], 1);
    assert_eq!(served.done(&["status"]).await.lines().count(), 3);
}

/// Waits for a row of the status that contains the text.
pub(super) async fn row_with(served: &super::Served, text: &str) -> String {
    let find = async {
        loop {
            let table = served.done(&["status"]).await;
            let mut rows = table.lines().skip(1);
            if let Some(row) = rows.find(|row| row.contains(text)) {
                return row.to_owned();
            }
        }
    };
    tokio::time::timeout(lab::WAIT_LIMIT, find).await.unwrap()
}

fn pids(row: &str) -> Vec<String> {
    let (_, pids) = row.split_once(" MB").unwrap();
    pids.split_whitespace().map(str::to_owned).collect()
}

fn stopped(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().any(|line| line.starts_with("State:\tT"))
}
