//! Unmodified functions of users: Python on AWS's own runtime client, and Node over the Runtime
//! API. AWS's client for Node is not tested: its package is compiled at installation, with cmake
//! and autoconf, which not every machine has.

use lab::http::Client;
use serde_json::{Value, json};

use super::{Served, wait_for, workspace};

/// The function that `make runtimes` stages.
fn python() -> String {
    let function = workspace("target/functions/python");
    assert!(
        function.join("bootstrap").is_file(),
        "{} is missing: run `make runtimes`",
        function.display()
    );
    function.display().to_string()
}

async fn answer(served: &Served, event: &Value) -> Value {
    let answer = served.invoke(&event.to_string()).await;
    assert_eq!(
        answer.header("x-amz-function-error"),
        None,
        "{}",
        answer.text()
    );
    answer.json().unwrap()
}

#[tokio::test]
async fn a_python_function_runs_on_its_real_client() {
    let settings = ["--memory", "256", "--timeout", "20s", "--env", "SETTING=a"];
    let served = Served::start(&[&["--function", &python()], &settings[..]].concat()).await;
    for name in ["first", "second"] {
        let event = json!({"name": name, "variable": "SETTING"});
        let reply = answer(&served, &event).await;
        assert_eq!(reply["event"], event);
        assert_eq!(reply["variable"], "a");
        assert_eq!(reply["memory_mb"], "256");
        assert!(
            (1..=20_000).contains(&reply["remaining_ms"].as_i64().unwrap()),
            "{reply}"
        );
        let id = reply["request_id"].as_str().unwrap();
        wait_for(&served.out, &format!("REPORT RequestId: {id}")).await;
        wait_for(&served.out, &format!("handling {name}")).await;
    }
    let failed = served.invoke(r#"{"error":"as asked"}"#).await;
    assert!(failed.header("x-amz-function-error").is_some());
    let error = failed.json().unwrap();
    assert_eq!(
        (&error["errorType"], &error["errorMessage"]),
        (&json!("ValueError"), &json!("as asked"))
    );
    wait_for(&served.out, "[ERROR] ValueError: as asked").await;
}

#[tokio::test]
async fn a_node_function_runs() {
    let function = workspace("tests/functions/node").display().to_string();
    let settings = ["--timeout", "20s", "--memory", "512", "--env", "SETTING=b"];
    let served = Served::start(&[&["--function", &function], &settings[..]].concat()).await;
    let event = json!({"name": "node", "variable": "SETTING"});
    let reply = answer(&served, &event).await;
    assert_eq!(
        reply,
        json!({"event": event, "memory": "512", "variable": "b"})
    );
    wait_for(&served.out, "handling node").await;
    let failed = served.invoke(r#"{"error":"as asked"}"#).await;
    assert_eq!(failed.json().unwrap()["errorType"], "RangeError");
}

#[tokio::test]
async fn an_hour_of_freeze_passes_at_once_on_a_clock_that_is_not_real() {
    for clock in ["jumps", "stands-still"] {
        let arguments = [
            "--function",
            &python(),
            "--timeout",
            "20s",
            "--clock",
            clock,
        ];
        let served = Served::start(&arguments).await;
        let before = answer(&served, &json!({})).await;
        // The caller gets its response before the environment waits for the next event.
        super::serving::row_with(&served, "frozen").await;
        let frozen = served.done(&["freeze", "--for", "1h"]).await;
        assert_eq!(frozen, "freeze: environment 0\n");
        let after = answer(&served, &json!({})).await;
        let passed = after["time"].as_f64().unwrap() - before["time"].as_f64().unwrap();
        assert!((3600.0..4200.0).contains(&passed), "{clock}: {passed} s");
    }
}

#[tokio::test]
async fn a_link_stands_before_each_endpoint() {
    let endpoint = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", endpoint.local_addr().unwrap());
    let variable = format!("AWS_ENDPOINT_URL_S3={url}");
    let function = python();
    let arguments = [
        "--function",
        &function,
        "--timeout",
        "20s",
        "--env",
        &variable,
    ];
    let linked = ["--bandwidth", "75MB", "--latency", "1ms"];
    let served = Served::start(&[&arguments[..], &linked].concat()).await;
    let reply = answer(&served, &json!({"variable": "AWS_ENDPOINT_URL_S3"})).await;
    let seen = reply["variable"].as_str().unwrap();
    assert_ne!(seen, url);
    // A connection to the link reaches the endpoint.
    let (_, port) = seen.rsplit_once(':').unwrap();
    let _connection = Client::tcp(port.parse().unwrap()).connect().await.unwrap();
    let arrived = tokio::time::timeout(lab::WAIT_LIMIT, endpoint.accept());
    arrived.await.unwrap().unwrap();
}
