//! Requests that would take more memory than there is: what they are answered, and what the process takes for them.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::StatusCode;
use lab::http::{HttpResponse, request};
use lab::s3::S3Server;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::support::{Alone, s3_with, to_end, until};
use lab::reference::WINE;

const KIB_PER_MB: u32 = 1024;
/// MB that requests may take together here.
const BUDGET: u32 = 64;
/// What else may come and go: threads, buffers of connections, and what is not given back yet.
const NOISE: u32 = 24 * KIB_PER_MB;

async fn serving(budget: u32) -> (S3Server, Alone) {
    let s3 = s3_with("wine-v1.onnx").await;
    let budget = budget.to_string();
    let alone = Alone::ready(&s3, &[("MODEL_REQUEST_MEMORY_MB", &budget)]).await;
    (s3, alone)
}

/// What the kernel says of the sidecar's memory under this name, in KiB.
fn memory(alone: &Alone, name: &str) -> u32 {
    let status = format!("/proc/{}/status", alone.process.pid());
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

fn peak(alone: &Alone) -> u32 {
    memory(alone, "VmHWM:")
}

/// Sends what it is given, and asserts that the sidecar answers afterwards and has its memory back.
async fn after(alone: &Alone, before: u32) {
    let is_back = || memory(alone, "VmRSS:") <= before + NOISE;
    until("the memory that it took", is_back).await;
    WINE.v1.check(&alone.predict(1).await.json().unwrap(), 0..1);
}

async fn send(alone: &Alone, path: &str, body: Vec<u8>, is_gzip: bool) -> HttpResponse {
    let mut request = request("POST".parse().unwrap(), path, body).unwrap();
    if is_gzip {
        let gzip = http::HeaderValue::from_static("gzip");
        request.headers_mut().insert("content-encoding", gzip);
    }
    alone.client().send(request).await.unwrap()
}

/// So many MB of rows with a field that the model does not have.
fn objects(mb: usize) -> Vec<u8> {
    let row = b"{\"a\":1},";
    let mut body = b"{\"features\":[".to_vec();
    body.extend(row.repeat(mb * 1024 * 1024 / row.len()));
    body.extend(b"{\"a\":1}]}");
    body
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_body_that_inflates_to_a_large_one_takes_no_more_than_the_budget() {
    let (_s3, alone) = serving(BUDGET).await;
    alone.predict(1).await;
    let before = memory(&alone, "VmRSS:");
    let body = gzip(&objects(60));
    assert!(body.len() < 128 * 1024, "{}", body.len());
    for _ in 0..3 {
        let answer = send(&alone, "/predict", body.clone(), true).await;
        assert!(answer.status.is_client_error(), "{}", answer.text());
    }
    let most = before + BUDGET * KIB_PER_MB + NOISE;
    assert!(peak(&alone) <= most, "{} KiB, at most {most}", peak(&alone));
    after(&alone, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_larger_than_the_budget_is_refused_with_the_numbers_before_it_is_sent() {
    let (_s3, alone) = serving(8).await;
    let mut stream = UnixStream::connect(alone.socket()).await.unwrap();
    let head = "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 33554432\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    for words in ["32.0 MB", "8.0 MB", "MODEL_REQUEST_MEMORY_MB"] {
        assert!(answer.contains(words), "{answer}");
    }
    WINE.v1.check(&alone.predict(9).await.json().unwrap(), 0..9);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_that_outgrows_the_budget_is_cut_off() {
    let (_s3, alone) = serving(8).await;
    alone.predict(1).await;
    let before = memory(&alone, "VmRSS:");
    let mut stream = UnixStream::connect(alone.socket()).await.unwrap();
    let head = "POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x10_0000));
    for _ in 0..48 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("8.0 MB together"), "{answer}");
    let most = before + 8 * KIB_PER_MB + NOISE;
    assert!(peak(&alone) <= most, "{} KiB, at most {most}", peak(&alone));
    after(&alone, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_bodies_together_take_no_more_than_the_budget() {
    let (_s3, alone) = serving(BUDGET).await;
    alone.predict(1).await;
    let before = memory(&alone, "VmRSS:");
    let body = [
        b"{\"features\":[1".as_slice(),
        &b" ".repeat(12 << 20),
        b"]}",
    ]
    .concat();
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let (client, body) = (alone.client(), body.clone());
            tokio::spawn(async move {
                let request = request("POST".parse().unwrap(), "/predict", body).unwrap();
                client.send(request).await.unwrap().status
            })
        })
        .collect();
    for caller in callers {
        // Each has its turn.
        assert_eq!(caller.await.unwrap(), StatusCode::BAD_REQUEST);
    }
    let most = before + BUDGET * KIB_PER_MB + NOISE;
    assert!(peak(&alone) <= most, "{} KiB, at most {most}", peak(&alone));
    after(&alone, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_request_that_is_refused_leaves_nothing_behind() {
    let s3 = s3_with("wine-v1.onnx").await;
    let alone = Alone::ready(&s3, &[]).await;
    alone.predict(1).await;
    let before = memory(&alone, "VmRSS:");
    // 59 MB.
    let input = br#"{"name":"a","shape":[1],"datatype":"FP32","data":[1]},"#;
    let mut body = br#"{"inputs":["#.to_vec();
    body.extend(input.repeat(1_000_000));
    body.extend(&input[..input.len() - 1]);
    body.extend(b"]}");
    let answer = send(&alone, "/v2/models/wine/infer", body, false).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text());
    after(&alone, before).await;
}
