//! Memory of the process after a large request.

use lab::http::{Client, Connection, post};
use lab::s3::S3Server;
use serde_json::json;

use crate::support::{Alone, BUCKET, KEY, model, until};
use lab::reference::WINE;
use lab::soak::adder::{self, Size};

/// Rows of the large request; the model computes 460 numbers per row.
const ROWS: usize = 70_000;
/// Minimum memory of these numbers, in KiB.
const LARGE: u32 = 100 * 1024;
/// Tolerance in KiB for other memory.
const NOISE: u32 = 20 * 1024;

async fn ask(client: &Client, rows: usize) {
    let input =
        json!({ "name": "x", "datatype": "FP32", "shape": [rows, 1], "data": vec![7; rows] });
    let request = json!({ "inputs": [input] });
    let answer = client
        .post("/v2/models/wine/infer", &request)
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json().unwrap();
    let numbers = answer["outputs"][0]["data"].as_array().unwrap();
    assert_eq!(numbers.len(), rows);
    assert!(numbers.iter().all(|number| *number == 12.0));
}

/// Memory figure of a process in `/proc/PID/status`, in KiB.
fn memory(pid: i32, name: &str) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_of_a_large_request_is_released() {
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, KEY, adder::adder(Size::SMALL, 5));
    let alone = Alone::ready(&s3, &[]).await;
    let (client, pid) = (alone.client(), alone.process.pid());
    for _ in 0..50 {
        ask(&client, 1).await;
    }
    let resident = || memory(pid, "VmRSS:");
    let before = resident();
    let is_back = || resident() <= before + NOISE;

    ask(&client, ROWS).await;
    assert!(
        memory(pid, "VmHWM:") > before + LARGE,
        "the request was not large"
    );
    until("the release of the memory", is_back).await;

    // The memory is released under load, too.
    for _ in 0..3 {
        ask(&client, ROWS).await;
        let small_requests = async {
            while !is_back() {
                ask(&client, 1).await;
            }
        };
        let released = tokio::time::timeout(lab::WAIT_LIMIT, small_requests).await;
        assert!(released.is_ok(), "{} KiB, {before} before", resident());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_of_each_server_thread_is_released() {
    /// Tolerance in KiB, less than the body of one request.
    const LEFT: u32 = 5 * 1024;
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, KEY, model("wine-v1.onnx"));
    // A run per CPU and one server thread.
    let alone = Alone::ready(&s3, &[("MODEL_THREADS", "1")]).await;
    let pid = alone.process.pid();
    let ask = async |connection: &mut Connection, rows: usize| {
        let request = json!({ "features": vec![&WINE.rows[0]; rows] });
        let request = post("/predict", &request).unwrap();
        let answer = connection.send(request).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    // Open all connections at once, so that each thread has some.
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(alone.client().connect().await.unwrap());
    }
    for connection in &mut connections {
        for _ in 0..50 {
            ask(connection, 1).await;
        }
    }
    let before = memory(pid, "VmRSS:");
    for connection in &mut connections {
        ask(connection, 100_000).await;
    }
    let most = memory(pid, "VmHWM:");
    assert!(most > before + 4 * LEFT, "the requests were not large");
    for connection in &mut connections {
        for _ in 0..50 {
            ask(connection, 1).await;
        }
    }
    let is_back = || memory(pid, "VmRSS:") <= before + LEFT;
    until("the release of the memory", is_back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_larger_than_the_memory_are_an_error() {
    let s3 = S3Server::start().await.unwrap();
    s3.put(BUCKET, KEY, model("sized.onnx"));
    let alone = Alone::ready(&s3, &[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")]).await;
    let pid = alone.process.pid();
    let ask = async |count: u64| {
        let request = json!({ "features": [count] });
        alone.client().post("/predict", &request).await.unwrap()
    };
    assert_eq!(ask(3).await.status, 200);
    let before = memory(pid, "VmRSS:");
    for (count, bytes) in [(1_000_000_000, "4000000000"), (1 << 40, "4398046511104")] {
        let answer = ask(count).await;
        assert_eq!(answer.status, 413, "{}", answer.text());
        let text = answer.text();
        let is_told = text.contains("not enough memory") && text.contains(bytes);
        assert!(is_told, "{text}");
    }
    let most = memory(pid, "VmHWM:");
    assert!(most < before + NOISE, "{most} KiB, and {before} before");
    // A request within the free memory succeeds.
    let answer = ask(50_000_000).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(memory(pid, "VmHWM:") > before + 190_000);
}
