//! Each fault of the S3 server, through a client.

use std::time::{Duration, Instant};

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use lab::gate::Gate;
use lab::s3::{Rule, S3Server};

const SIZE: usize = 1 << 20;

async fn server() -> S3Server {
    let s3 = S3Server::start().await.unwrap();
    s3.put("models", "m", Bytes::from(vec![42; SIZE]));
    s3.put("models", "other", "other");
    s3
}

async fn get(s3: &S3Server, key: &str) -> Result<ByteStream, u16> {
    let get = s3.client().get_object().bucket("models").key(key).send();
    match get.await {
        Ok(answer) => Ok(answer.body),
        Err(error) => Err(error.raw_response().unwrap().status().as_u16()),
    }
}

/// Received bytes of a body, and `true` if it ended without an error.
async fn read(mut body: ByteStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    loop {
        match body.try_next().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return (bytes, true),
            Err(_) => return (bytes, false),
        }
    }
}

#[tokio::test]
async fn a_rule_means_the_requests_that_it_names() {
    let s3 = server().await;
    s3.fail(Rule::on("GET").key("m").nth(2).status(503, "SlowDown"));
    s3.fail(Rule::on("HEAD").status(500, "InternalError"));
    assert!(get(&s3, "m").await.is_ok());
    assert!(get(&s3, "other").await.is_ok());
    assert_eq!(get(&s3, "m").await.unwrap_err(), 503);
    assert!(get(&s3, "m").await.is_ok());
    s3.fail(Rule::any().first(1).status(503, "SlowDown"));
    assert_eq!(get(&s3, "other").await.unwrap_err(), 503);
    assert!(get(&s3, "other").await.is_ok());
    s3.fail(Rule::any().status(503, "SlowDown"));
    assert_eq!(get(&s3, "m").await.unwrap_err(), 503);
    s3.heal();
    assert!(get(&s3, "m").await.is_ok());
}

#[tokio::test]
async fn a_truncated_response_ends_before_its_declared_length() {
    let s3 = server().await;
    s3.fail(Rule::on("GET").truncate_after(300_001));
    let (bytes, whole) = read(get(&s3, "m").await.unwrap()).await;
    assert_eq!((bytes.len(), whole), (300_001, false));
    let last = s3.requests().pop().unwrap();
    assert_eq!((last.status, last.sent), (Some(200), 300_001));
}

#[tokio::test]
async fn a_reset_breaks_the_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let s3 = server().await;
    s3.fail(Rule::on("GET").reset_after(1000));
    let (bytes, whole) = read(get(&s3, "m").await.unwrap()).await;
    assert!(bytes.len() <= 1000 && !whole, "{} {whole}", bytes.len());

    // The same on a plain socket, where a reset and a close can be told apart.
    s3.heal();
    s3.fail(Rule::any().reset_after(10));
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", s3.port()))
        .await
        .unwrap();
    socket
        .write_all(b"GET /models/m HTTP/1.1\r\nHost: s3\r\n\r\n")
        .await
        .unwrap();
    let error = socket.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_stalled_response_continues_when_the_gate_opens() {
    let s3 = server().await;
    let gate = Gate::new();
    s3.fail(Rule::on("GET").stall_after(500_000, &gate));
    let mut body = get(&s3, "m").await.unwrap();
    let mut bytes = 0;
    while bytes < 500_000 {
        bytes += body.try_next().await.unwrap().unwrap().len();
    }
    assert_eq!(bytes, 500_000);
    gate.reached(1).await.unwrap();
    let under_way = s3.requests().pop().unwrap();
    assert_eq!((under_way.sent, under_way.took), (500_000, None));
    gate.open();
    let (rest, whole) = read(body).await;
    assert_eq!((rest.len(), whole), (SIZE - 500_000, true));
}

#[tokio::test]
async fn a_flipped_byte_is_the_only_one_that_differs() {
    let s3 = server().await;
    s3.fail(Rule::on("GET").flip(700_000));
    // A range has no checksum by which the SDK could notice.
    let client = s3.client();
    let ranged = client.get_object().bucket("models").key("m");
    let part = ranged.range(format!("bytes=0-{}", SIZE - 1)).send().await;
    let (bytes, whole) = read(part.unwrap().body).await;
    assert!(whole);
    let wrong: Vec<_> = (0..SIZE).filter(|at| bytes[*at] != 42).collect();
    assert_eq!((wrong, bytes[700_000]), (vec![700_000], !42));
    assert_eq!(s3.get("models", "m").unwrap().bytes[700_000], 42);

    let (bytes, whole) = read(get(&s3, "m").await.unwrap()).await;
    assert!(!whole, "the SDK accepted {} wrong bytes", bytes.len());
}

#[tokio::test]
async fn an_overwrite_happens_between_two_ranges() {
    let s3 = server().await;
    s3.fail(Rule::on("GET").nth(2).overwrite(vec![7; SIZE]));
    let client = s3.client();
    let part = |range: &str| {
        client
            .get_object()
            .bucket("models")
            .key("m")
            .range(range)
            .send()
    };
    let first = part("bytes=0-9").await.unwrap();
    let second = part("bytes=10-19").await.unwrap();
    assert_ne!(first.e_tag(), second.e_tag());
    assert_eq!(second.body.collect().await.unwrap().to_vec(), [7; 10]);
    assert_eq!(s3.versions("models", "m").len(), 2);
}

#[tokio::test]
async fn latency_and_bandwidth_take_their_time() {
    let s3 = server().await;
    s3.fail(
        Rule::on("GET")
            .key("other")
            .latency(Duration::from_millis(120)),
    );
    s3.fail(Rule::on("GET").key("m").bandwidth(4 << 20));
    let started = Instant::now();
    get(&s3, "other").await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(120));

    // Two concurrent downloads share the link: 2 MB at 4 MB/s.
    let started = Instant::now();
    let (one, two) = tokio::join!(get(&s3, "m"), get(&s3, "m"));
    let ((_, one), (_, two)) = tokio::join!(read(one.unwrap()), read(two.unwrap()));
    assert!(one && two);
    assert!(started.elapsed() >= Duration::from_millis(480));
}

#[tokio::test]
async fn a_server_that_is_down_refuses_and_returns_with_its_state() {
    let mut s3 = server().await;
    let gate = Gate::new();
    s3.fail(Rule::on("GET").stall_after(1000, &gate));
    let under_way = get(&s3, "m").await.unwrap();
    let port = s3.port();
    s3.down().await;
    let (_, whole) = read(under_way).await;
    assert!(!whole, "the connection was not cut");
    let refused = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    s3.heal();
    s3.up().await.unwrap();
    assert_eq!(s3.port(), port);
    let (bytes, whole) = read(get(&s3, "m").await.unwrap()).await;
    assert_eq!((bytes.len(), whole), (SIZE, true));
}
