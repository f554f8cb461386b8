//! SIGTERM to a sidecar without Lambda.

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::{Alone, features, s3_with, to_end};
use lab::reference::WINE;

#[tokio::test(flavor = "multi_thread")]
async fn a_running_request_completes() {
    let s3 = s3_with("wine-v1.onnx").await;
    let alone = Alone::ready(&s3, &[]).await;
    let body = features(9).to_string();
    let head = format!(
        "POST /predict HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = UnixStream::connect(alone.socket()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // The interim response shows that the sidecar is processing the request.
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");

    alone.process.signal(Signal::SIGTERM).unwrap();
    alone.process.wait_for("shutting down").await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let answer = to_end(&mut stream).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    WINE.v1.check(&serde_json::from_str(body).unwrap(), 0..9);

    assert_eq!(alone.process.wait().await.unwrap().code(), Some(0));
    assert!(!alone.socket().exists(), "the socket's file is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_do_not_delay_the_exit() {
    let s3 = s3_with("wine-v1.onnx").await;
    let alone = Alone::ready(&s3, &[]).await;
    let mut used = alone.client().connect().await.unwrap();
    let request = lab::http::post("/predict", &features(1)).unwrap();
    assert_eq!(used.send(request).await.unwrap().status, 200);
    let fresh = UnixStream::connect(alone.socket()).await.unwrap();

    assert_eq!(alone.process.terminate().await.unwrap().code(), Some(0));
    drop((used, fresh));
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_does_not_wait_for_a_download() {
    let s3 = s3_with("wine-v1.onnx").await;
    let gate = lab::gate::Gate::new();
    s3.fail(lab::s3::Rule::on("GET").stall_after(10, &gate));
    let alone = Alone::start(&s3, &[]);
    gate.reached(1).await.unwrap();
    let status = alone.process.terminate().await.unwrap();
    assert_eq!(
        status.code(),
        Some(0),
        "{status}: {}",
        alone.process.log().text()
    );
}
