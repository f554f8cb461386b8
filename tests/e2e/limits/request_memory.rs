//! Memory of requests: `MODEL_REQUEST_MEMORY_MB`, its errors, and the memory of the process.

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
/// Memory budget of the requests, in MB.
const BUDGET: u32 = 64;
/// Tolerance in KiB for threads, buffers of connections, and memory that is not released yet.
const NOISE: u32 = 24 * KIB_PER_MB;

async fn serving(budget: u32) -> (S3Server, Alone) {
    let s3 = s3_with("wine-v1.onnx").await;
    let budget = budget.to_string();
    let alone = Alone::ready(&s3, &[("MODEL_REQUEST_MEMORY_MB", &budget)]).await;
    (s3, alone)
}

/// Memory figure of the sidecar in `/proc/PID/status`, in KiB.
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

/// Asserts that the sidecar releases the memory and serves the next request.
async fn assert_recovers(alone: &Alone, before: u32) {
    let is_back = || memory(alone, "VmRSS:") <= before + NOISE;
    until("the release of the memory", is_back).await;
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

/// Request of `mb` MB of rows with an unknown field.
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
async fn a_decompressed_body_stays_within_the_budget() {
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
    assert_recovers(&alone, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_budget_is_rejected_by_its_content_length() {
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
async fn a_chunked_body_over_the_budget_is_rejected() {
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
    assert!(answer.contains("may use 8.0 MB"), "{answer}");
    let most = before + 8 * KIB_PER_MB + NOISE;
    assert!(peak(&alone) <= most, "{} KiB, at most {most}", peak(&alone));
    assert_recovers(&alone, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_bodies_stay_within_the_budget() {
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
        // Each body is read once there is memory for it.
        assert_eq!(caller.await.unwrap(), StatusCode::BAD_REQUEST);
    }
    let most = before + BUDGET * KIB_PER_MB + NOISE;
    assert!(peak(&alone) <= most, "{} KiB, at most {most}", peak(&alone));
    assert_recovers(&alone, before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_of_a_rejected_request_is_released() {
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
    assert_recovers(&alone, before).await;
}
