//! Connections over a pipe whose sender stops in the middle of a request, and is frozen together with the server.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use tokio::io::ReadBuf;

use super::*;
use crate::clock::Thaws;
use crate::clock::wall::{Monotonic, Wall};
use crate::ids::ModelName;
use crate::models::Models;
use crate::scheduler::ExecutorLimits;
use crate::server::limits::{
    BODY_STALL_TIMEOUT, BODY_TIMEOUT, HEAD_TIMEOUT, IDLE_TIMEOUT, MAX_BODY, WRITE_STALL_TIMEOUT,
};
use crate::status::Status;

const HOUR: Duration = Duration::from_secs(3_600);
const LIVE: &str = "GET /v2/health/live HTTP/1.1\r\nhost: sidecar\r\n\r\n";

struct PipeClient {
    wall: Arc<Wall>,
    thaws: Thaws,
    stream: DuplexStream,
}

impl PipeClient {
    fn connect() -> Self {
        Self::on_local_machine(false)
    }

    fn on_local_machine(is_local_machine: bool) -> Self {
        let (wall, thaws) = (Wall::new(), Thaws::default());
        let name = ModelName::parse("wine").unwrap();
        let (status, _) = Status::new([name.clone()]);
        let context = ServerContext::new(
            Arc::new(Models::new([name])),
            Arc::new(status),
            ExecutorLimits::default(),
            Arc::clone(&wall) as _,
            thaws.clone(),
            None,
        )
        .poll_bodies_eagerly(true)
        .on_local_machine(is_local_machine);
        if let Some(ticks) = context.idle_ticks() {
            tokio::spawn(ticks.send());
        }
        let (stream, far_side) = tokio::io::duplex(64 * 1024);
        tokio::spawn(serve(far_side, Transport::Unix, Arc::new(context)));
        Self {
            wall,
            thaws,
            stream,
        }
    }

    async fn send(&mut self, part: &str) {
        self.stream.write_all(part.as_bytes()).await.unwrap();
    }

    /// Lets the server read the sent bytes.
    async fn settle(&self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    async fn freeze(&self, clock: Monotonic) {
        clock.freeze(&self.wall, &self.thaws, HOUR).await;
        self.settle().await;
    }

    /// Returns all bytes until the server closes the connection.
    async fn response(&mut self) -> String {
        let mut response = Vec::new();
        self.stream.read_to_end(&mut response).await.unwrap();
        String::from_utf8(response).unwrap()
    }

    /// Returns the status line of the response; empty if the server closed the connection.
    async fn status(&mut self) -> String {
        let mut response = vec![0; 4_096];
        let length = self.stream.read(&mut response).await.unwrap();
        let text = String::from_utf8_lossy(&response[..length]).into_owned();
        text.lines().next().unwrap_or_default().to_owned()
    }
}

/// Returns the head of a request whose deadline has passed: its response follows once the body is read.
fn expired(body: &str) -> String {
    format!(
        "POST /predict HTTP/1.1\r\nhost: sidecar\r\nlambda-runtime-deadline-ms: 1\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_completed_before_or_during_a_freeze_is_served() {
    for clock in Monotonic::BOTH {
        let mut client = PipeClient::connect();
        let (first, rest) = LIVE.split_at(20);
        client.send(first).await;
        // The timeout is nearly over: a jump of the clock ends its last second.
        tokio::time::sleep(HEAD_TIMEOUT * 19 / 20).await;
        client.send(rest).await;
        client.freeze(clock).await;
        assert_eq!(client.status().await, "HTTP/1.1 200 OK", "{clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn available_bytes_are_read_after_the_timeout() {
    let (mut sender, stream) = tokio::io::duplex(64);
    let mut head = Wire::new(stream, ConnectionPhase::default(), None);
    sender.write_all(b"G").await.unwrap();
    let mut poll = async || {
        let mut bytes = [0; 8];
        let mut buffer = ReadBuf::new(&mut bytes);
        let read =
            |cx: &mut TaskContext<'_>| Poll::Ready(Pin::new(&mut head).poll_read(cx, &mut buffer));
        let read = std::future::poll_fn(read).await;
        (matches!(read, Poll::Ready(Ok(()))), buffer.filled().len())
    };
    assert_eq!(poll().await, (true, 1));
    assert_eq!(poll().await, (false, 0));
    for _ in 1..HEAD_TIMEOUT.as_secs() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(poll().await, (false, 0));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    sender.write_all(b"x").await.unwrap();
    assert_eq!(poll().await, (true, 1), "the last second is over");
}

#[tokio::test(start_paused = true)]
async fn a_sender_frozen_in_the_middle_of_a_head_may_continue_after_the_thaw() {
    for clock in Monotonic::BOTH {
        let mut client = PipeClient::connect();
        let (first, rest) = LIVE.split_at(20);
        client.send(first).await;
        client.settle().await;
        client.freeze(clock).await;
        tokio::time::sleep(HEAD_TIMEOUT * 4 / 5).await;
        client.send(rest).await;
        assert_eq!(client.status().await, "HTTP/1.1 200 OK", "{clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_head_times_out_with_and_without_a_freeze() {
    for clock in [None, Some(Monotonic::Jumps), Some(Monotonic::StandsStill)] {
        let mut client = PipeClient::connect();
        client.send(&LIVE[..20]).await;
        client.settle().await;
        if let Some(clock) = clock {
            client.freeze(clock).await;
        }
        let ended = tokio::time::timeout(HEAD_TIMEOUT * 2, client.status()).await;
        assert_eq!(
            ended.as_deref(),
            Ok("HTTP/1.1 408 Request Timeout"),
            "{clock:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_times_out_with_a_408() {
    let mut client = PipeClient::connect();
    client.send("GET /v2/health/live HTTP/1.1\r\n").await;
    for _ in 0..HEAD_TIMEOUT.as_secs() {
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        if client.stream.write_all(b"x: y\r\n").await.is_err() {
            break;
        }
    }
    let response = client.response().await;
    assert!(
        response.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
        "{response}"
    );
    assert!(response.contains("{\"error\":\"the head"), "{response}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_outlives_a_freeze() {
    for clock in Monotonic::BOTH {
        let mut client = PipeClient::connect();
        client.send(LIVE).await;
        assert_eq!(client.status().await, "HTTP/1.1 200 OK");
        client.freeze(clock).await;
        client.send(LIVE).await;
        assert_eq!(client.status().await, "HTTP/1.1 200 OK", "{clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_frozen_in_the_middle_of_a_body_may_continue_after_the_thaw() {
    for clock in Monotonic::BOTH {
        let mut client = PipeClient::connect();
        let body = "{\"a\": 1}";
        client.send(&expired(body)).await;
        client.send(&body[..4]).await;
        client.settle().await;
        client.freeze(clock).await;
        tokio::time::sleep(BODY_STALL_TIMEOUT * 4 / 5).await;
        client.send(&body[4..]).await;
        let status = client.status().await;
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable", "{clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_body_times_out_with_and_without_a_freeze() {
    for clock in [None, Some(Monotonic::Jumps), Some(Monotonic::StandsStill)] {
        let mut client = PipeClient::connect();
        client.send(&expired("{\"a\": 1}")).await;
        client.settle().await;
        if let Some(clock) = clock {
            client.freeze(clock).await;
        }
        let status = tokio::time::timeout(BODY_STALL_TIMEOUT * 2, client.status()).await;
        assert_eq!(
            status.as_deref(),
            Ok("HTTP/1.1 408 Request Timeout"),
            "{clock:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_body_whose_sender_pauses_has_the_same_timeout() {
    let body = " ".repeat(100_000);
    for continues in [true, false] {
        let mut client = PipeClient::connect();
        client.send(&expired(&body)).await;
        client.send(&body[..60_000]).await;
        tokio::time::sleep(BODY_STALL_TIMEOUT * 4 / 5).await;
        if continues {
            client.send(&body[60_000..]).await;
        }
        let status = tokio::time::timeout(BODY_STALL_TIMEOUT, client.status()).await;
        let expected = if continues {
            "HTTP/1.1 503 Service Unavailable"
        } else {
            "HTTP/1.1 408 Request Timeout"
        };
        assert_eq!(status.as_deref(), Ok(expected), "continues: {continues}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_times_out_with_a_408() {
    let mut client = PipeClient::connect();
    client.send(&expired(&" ".repeat(1_000))).await;
    let begun = tokio::time::Instant::now();
    // Each byte arrives before the stall timeout.
    let response = loop {
        tokio::time::sleep(BODY_STALL_TIMEOUT / 2).await;
        client.send(" ").await;
        let wait = Duration::from_millis(1);
        if let Ok(status) = tokio::time::timeout(wait, client.status()).await {
            break status;
        }
        assert!(begun.elapsed() < BODY_TIMEOUT * 2, "the server still reads");
    };
    assert_eq!(response, "HTTP/1.1 408 Request Timeout");
}

#[tokio::test(start_paused = true)]
async fn requests_that_hyper_rejects_get_an_error_body() {
    let long = "x".repeat(2 * MAX_HEAD);
    for (head, status, words) in [
        ("G\0T / HTTP/1.1\r\n\r\n", "400 Bad Request", "not HTTP/1.1"),
        (
            "POST /predict HTTP/1.1\r\ncontent-length: 18446744073709551615\r\n\r\n",
            "413 Payload Too Large",
            "content-length is 18446744073709551615",
        ),
        (
            "POST /predict HTTP/1.1\r\nhost: x\r\nContent-Length:0018446744073709551614\r\n\r\n{}",
            "413 Payload Too Large",
            "expected at most 67108864 bytes",
        ),
        (
            &format!(
                "POST /predict HTTP/1.1\r\ncontent-length: {}\r\n\r\n",
                "9".repeat(300)
            ),
            "413 Payload Too Large",
            "… (300 bytes)",
        ),
        (
            "POST /predict HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
            "400 Bad Request",
            "header content-length is \"-1\", expected a whole number",
        ),
        (
            "POST /predict HTTP/1.1\r\ncontent-length: 2 MB\r\n\r\n",
            "400 Bad Request",
            "header content-length is \"2 MB\"",
        ),
        (
            "POST /predict HTTP/1.1\r\ncontent-length: 18446744073709551613\r\n\r\n",
            "413 Payload Too Large",
            "larger than",
        ),
        (
            "GET /v2 HTTP/1.1\r\nno header\r\n\r\n",
            "400 Bad Request",
            "not HTTP/1.1",
        ),
        (
            &format!("GET /v2 HTTP/1.1\r\nx: {long}\r\n\r\n"),
            "431 Request Header Fields Too Large",
            "65536 bytes",
        ),
        (
            &format!("GET /v2 HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101)),
            "431 Request Header Fields Too Large",
            "100 headers",
        ),
    ] {
        let mut client = PipeClient::connect();
        client.send(head).await;
        client.stream.shutdown().await.unwrap();
        let response = client.response().await;
        let (top, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(
            top.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{response}"
        );
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(
            body["error"].as_str().unwrap().contains(words),
            "{response}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_reads_only_after_its_rejected_body_gets_the_response() {
    let mut client = PipeClient::connect();
    let length = MAX_BODY + 1;
    client
        .send(&format!(
            "POST /predict HTTP/1.1\r\nhost: sidecar\r\ncontent-length: {length}\r\n\r\n"
        ))
        .await;
    // More than fits into the pipe, so that the server has to read it.
    for _ in 0..64 {
        client.send(&" ".repeat(64 * 1024)).await;
    }
    client.stream.shutdown().await.unwrap();
    let response = client.response().await;
    assert!(
        response.starts_with("HTTP/1.1 413 Payload Too Large\r\n"),
        "{response}"
    );
    assert!(response.contains("6 MB"), "{response}");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_sender_that_never_stops_is_disconnected() {
    let mut client = PipeClient::connect();
    client
        .send("POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{")
        .await;
    let (mut reader, mut writer) = tokio::io::split(client.stream);
    let mut response = String::new();
    reader.read_to_string(&mut response).await.unwrap();
    assert!(
        response.starts_with("HTTP/1.1 404 Not Found\r\n"),
        "{response}"
    );
    let begun = tokio::time::Instant::now();
    while writer.write_all(b" ").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(begun.elapsed() < HEAD_TIMEOUT, "the server still reads");
    }
}

/// Response of hyper's own, whose bytes a response body may contain.
const BARE: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

/// Writes to a wire as hyper does, and returns the bytes that arrive at the peer.
async fn written(phase: &ConnectionPhase, parts: &[&[u8]]) -> String {
    let (mut peer, stream) = tokio::io::duplex(64 * 1024);
    let mut wire = Wire::new(stream, phase.clone(), None);
    for part in parts {
        wire.write_all(part).await.unwrap();
    }
    drop(wire);
    let mut text = String::new();
    peer.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(start_paused = true)]
async fn a_body_may_contain_the_bytes_of_hypers_errors() {
    let phase = ConnectionPhase::default();
    let replaced = written(&phase, &[BARE.as_bytes()]).await;
    assert!(
        replaced.contains("the request is not HTTP/1.1"),
        "{replaced}"
    );

    // hyper writes a long body separately from its head.
    let phase = ConnectionPhase::default();
    phase.handling();
    phase.idle();
    let head = "HTTP/1.1 200 OK\r\n\r\n";
    let text = written(&phase, &[head.as_bytes(), BARE.as_bytes()]).await;
    assert_eq!(text, format!("{head}{BARE}"));

    // The last part of a body is written once hyper has taken all of it.
    phase.buffered();
    assert_eq!(written(&phase, &[BARE.as_bytes()]).await, BARE);
}

#[tokio::test(start_paused = true)]
async fn requests_that_hyper_rejects_after_a_response_get_an_error_body() {
    let mut client = PipeClient::connect();
    client.send(LIVE).await;
    assert_eq!(client.status().await, "HTTP/1.1 200 OK");
    client.send("G\0T / HTTP/1.1\r\n\r\n").await;
    let response = client.response().await;
    assert!(
        response.contains("the request is not HTTP/1.1"),
        "{response}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_read_times_out() {
    for clock in [None, Some(Monotonic::Jumps), Some(Monotonic::StandsStill)] {
        let mut client = PipeClient::connect();
        // The responses are much longer than the requests and do not fit into the pipe.
        let mut sent = 0;
        let request = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n";
        while sent < 200 {
            let write = client.stream.write_all(request.as_bytes());
            let time = Duration::from_millis(10);
            if tokio::time::timeout(time, write).await.is_err() {
                break;
            }
            sent += 1;
        }
        client.settle().await;
        tokio::time::sleep(WRITE_STALL_TIMEOUT * 4 / 5).await;
        if let Some(clock) = clock {
            client.freeze(clock).await;
        }
        let begun = tokio::time::Instant::now();
        while client.stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(
                begun.elapsed() < WRITE_STALL_TIMEOUT,
                "{clock:?}: still open"
            );
        }
        assert!(
            begun.elapsed() > Duration::from_secs(1),
            "{clock:?}: the freeze counted"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_on_a_machine_without_freezes() {
    for sends_request in [false, true] {
        let mut client = PipeClient::on_local_machine(true);
        if sends_request {
            tokio::time::sleep(IDLE_TIMEOUT * 3 / 4).await;
            client.send(LIVE).await;
            assert_eq!(client.status().await, "HTTP/1.1 200 OK");
        }
        tokio::time::sleep(IDLE_TIMEOUT * 3 / 4).await;
        client.send(LIVE).await;
        assert_eq!(client.status().await, "HTTP/1.1 200 OK", "not idle yet");
        let begun = tokio::time::Instant::now();
        assert_eq!(client.response().await, "");
        assert!(begun.elapsed() <= IDLE_TIMEOUT, "{:?}", begun.elapsed());
        assert!(begun.elapsed() > IDLE_TIMEOUT / 2, "{:?}", begun.elapsed());
    }
}
