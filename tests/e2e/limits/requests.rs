//! Limits of single requests: size of the body, deadline, slow senders, number of connections.

use lab::http::{HttpResponse, post};
use lab::s3::S3Server;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::support::{Alone, error, now_ms, s3_with, to_end};
use lab::reference::WINE;

async fn serving(file: &str) -> (S3Server, Alone) {
    let s3 = s3_with(file).await;
    let alone = Alone::ready(&s3, &[]).await;
    (s3, alone)
}

/// Opens a connection and writes the text of a request.
async fn begin(alone: &Alone, text: &str) -> UnixStream {
    let mut stream = UnixStream::connect(alone.socket()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_64_mib_is_rejected_by_its_content_length() {
    let (_s3, alone) = serving("wine-v1.onnx").await;
    let length = 64 * 1024 * 1024 + 1;
    let head = format!("POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    let mut stream = begin(&alone, &head).await;
    let answer = to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    for words in ["larger than 67108864 bytes", "6 MB", "4.5 MB"] {
        assert!(answer.contains(words), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_over_64_mib_is_rejected() {
    let (_s3, alone) = serving("wine-v1.onnx").await;
    let head = "POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut stream = begin(&alone, head).await;
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x10_0000));
    // Simple clients write the whole body before they read.
    for _ in 0..96 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    WINE.v1.check(&alone.predict(1).await.json().unwrap(), 0..1);
}

/// Request for a run of `count` matrix products; 20,000 take about a second.
fn trips(count: u64) -> Value {
    let input = json!({ "name": "trips", "datatype": "INT64", "shape": [1], "data": [count] });
    json!({ "inputs": [input] })
}

/// Matrix products of a run that takes minutes.
const ENDLESS: u64 = 20_000_000;

async fn run(alone: &Alone, count: u64, deadline: Option<u64>) -> HttpResponse {
    let mut request = post("/v2/models/wine/infer", &trips(count)).unwrap();
    if let Some(deadline) = deadline {
        let name = "lambda-runtime-deadline-ms";
        request.headers_mut().insert(name, deadline.into());
    }
    alone.client().send(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_cancels_the_run() {
    let (_s3, alone) = serving("slow.onnx").await;
    for deadline in [1, now_ms(), now_ms() + 300] {
        let answer = run(&alone, ENDLESS, Some(deadline)).await;
        assert_eq!(answer.status, 504, "{}", answer.text());
        assert!(answer.text().contains("deadline"), "{}", answer.text());
    }
    let answer = run(&alone, 1, None).await;
    assert_eq!(answer.status, 200, "{}", answer.text());

    let mut request = post("/v2/models/wine/infer", &trips(1)).unwrap();
    let soon = http::HeaderValue::from_static("soon");
    request
        .headers_mut()
        .insert("lambda-runtime-deadline-ms", soon);
    let answer = alone.client().send(request).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("milliseconds since the Unix epoch"),
        "{}",
        answer.text()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsupported_output_is_a_500_response() {
    let (_s3, alone) = serving("optional-empty.onnx").await;
    let input = json!({ "name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1.5] });
    for _ in 0..3 {
        let request = json!({ "inputs": [&input] });
        let answer = alone
            .client()
            .post("/v2/models/wine/infer", &request)
            .await
            .unwrap();
        assert_eq!(answer.status, 500, "{}", answer.text());
        let body = answer.json().unwrap();
        let words = error(&body);
        assert!(words.contains("an empty optional value"), "{words}");
    }
    alone.process.wait_for("inference failed").await.unwrap();
    assert_eq!(
        alone.client().get("/v2/health/ready").await.unwrap().status,
        200
    );
    assert_eq!(alone.process.ended(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_concurrent_requests_are_served() {
    let s3 = s3_with("wine-v1.onnx").await;
    let alone = Alone::ready(&s3, &[("MODEL_QUEUE", "300")]).await;
    let callers: Vec<_> = (0..300)
        .map(|caller| {
            let client = alone.client();
            let index = caller % WINE.rows.len();
            tokio::spawn(async move {
                let row = json!({ "features": WINE.rows[index] });
                let answer = client.post("/predict", &row).await.unwrap();
                assert_eq!(answer.status, 200, "{}", answer.text());
                WINE.v1.check(&answer.json().unwrap(), index..index + 1);
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_senders_delay_no_other_request() {
    let (_s3, alone) = serving("wine-v1.onnx").await;
    let stalled = [
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{\"features\"",
        "POST /predict HTTP/1.1\r\nhost: ",
        "",
    ];
    let mut senders = Vec::new();
    for text in stalled.iter().cycle().take(60) {
        senders.push(begin(&alone, text).await);
    }
    for rows in 1..=9 {
        let answer = alone.predict(rows).await;
        WINE.v1.check(&answer.json().unwrap(), 0..rows);
    }
}
