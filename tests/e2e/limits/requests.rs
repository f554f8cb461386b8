//! Requests that are too large, too slow, too many, or too much for the model.

use lab::http::{HttpResponse, post, request};
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

/// Writes a head, and what there is of a body, as they stand.
async fn begin(alone: &Alone, text: &str) -> UnixStream {
    let mut stream = UnixStream::connect(alone.socket()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_64_mib_is_refused_by_its_declared_length() {
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
async fn a_body_without_a_length_is_cut_off_and_its_sender_has_the_answer() {
    let (_s3, alone) = serving("wine-v1.onnx").await;
    let head = "POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut stream = begin(&alone, head).await;
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x10_0000));
    // Written to its end before anything is read, as by simple clients.
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_request_is_told_what_is_wrong() {
    let (_s3, alone) = serving("wine-v1.onnx").await;
    let depth = 1_000_000;
    let deep = format!(
        "{{\"features\":{}{}}}",
        "[".repeat(depth),
        "]".repeat(depth)
    );
    for (path, body, hint) in [
        ("/predict", "", "not a prediction request"),
        ("/predict", "{\"features\":", "not a prediction request"),
        ("/predict", "\u{0}\u{1}\u{2}", "not a prediction request"),
        ("/predict", "{\"features\":[[1,2]]}", "13"),
        ("/predict", "{\"features\":[[1],[2,3]]}", "features"),
        (
            "/predict",
            "[[[1,2,3,4,5,6,7,8,9,10,11,12,13]],null]",
            "an object is expected",
        ),
        ("/predict", "{\"features\":[[NaN]]}", "write null for NaN"),
        ("/predict", "{\"features\":[[-Infinity]]}", "\"-Infinity\""),
        (
            "/predict",
            "{\"features\":null,\"features\":[2]}",
            "duplicate field `features`",
        ),
        (
            "/predict",
            "{\"features\":{\"X\":[1,2,3,4,5,6,7,8,9,10,11,12,13],\"X\":[2]}}",
            "\"X\" is given twice",
        ),
        ("/predict", &deep, "nested deeper"),
        ("/v2/models/wine/infer", "[]", "not an inference request"),
        ("/v2/models/wine/infer", "{\"inputs\":[]}", "X"),
    ] {
        let request = request("POST".parse().unwrap(), path, body.to_owned()).unwrap();
        let answer = alone.client().send(request).await.unwrap();
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        let said = answer.json().unwrap();
        assert!(error(&said).contains(hint), "{body}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_text_are_told_their_place() {
    let (_s3, alone) = serving("wine-v1.onnx").await;
    for path in [
        "/predict",
        "/v2/models/wine/infer",
        "/v1/models/wine:predict",
    ] {
        let body = b"{\"features\": \"\xff\"}".to_vec();
        let request = request("POST".parse().unwrap(), path, body).unwrap();
        let answer = alone.client().send(request).await.unwrap();
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(
            answer.text().contains("byte 14 is 0xff"),
            "{}",
            answer.text()
        );
    }
}

/// A run of so many matrix products, 20,000 of which take about a second.
fn trips(count: u64) -> Value {
    let input = json!({ "name": "trips", "datatype": "INT64", "shape": [1], "data": [count] });
    json!({ "inputs": [input] })
}

/// A run that takes minutes when nobody stops it.
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
async fn a_deadline_stops_the_run_and_the_next_request_has_its_turn() {
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
async fn an_output_without_a_form_is_an_answer_and_the_process_lives() {
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
        assert!(words.contains("an optional value that is empty"), "{words}");
    }
    alone.process.wait_for("inference failed").await.unwrap();
    assert_eq!(
        alone.client().get("/v2/health/ready").await.unwrap().status,
        200
    );
    assert_eq!(alone.process.ended(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_callers_at_once_are_all_answered() {
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
async fn a_sender_who_stops_holds_up_nobody_else() {
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
