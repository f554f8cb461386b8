//! Connections over a pipe, whose sender stops in the middle and is frozen together with the server.

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
use crate::scheduler::Limits;
use crate::server::{BODY_STALL, BODY_TIME, HEAD_TIME, IDLE_TIME, WRITE_STALL};
use crate::status::Status;

const HOUR: Duration = Duration::from_secs(3_600);
const LIVE: &str = "GET /v2/health/live HTTP/1.1\r\nhost: sidecar\r\n\r\n";

struct Caller {
    wall: Arc<Wall>,
    thaws: Thaws,
    stream: DuplexStream,
}

impl Caller {
    fn connect() -> Self {
        Self::on_an_open_machine(false)
    }

    fn on_an_open_machine(is_one: bool) -> Self {
        let (wall, thaws) = (Wall::new(), Thaws::default());
        let name = ModelName::parse("wine").unwrap();
        let (status, _) = Status::new([name.clone()]);
        let context = Context::new(
            Arc::new(Models::new([name])),
            Arc::new(status),
            Limits::default(),
            Arc::clone(&wall) as _,
            thaws.clone(),
            None,
        )
        .wait_awake(true)
        .on_an_open_machine(is_one);
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

    /// Lets the server read what was sent.
    async fn settle(&self) {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    async fn freeze(&self, clock: Monotonic) {
        clock.freeze(&self.wall, &self.thaws, HOUR).await;
        self.settle().await;
    }

    /// All that comes until the server hangs up.
    async fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        self.stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// The status line of the answer, or nothing when the server hung up.
    async fn status(&mut self) -> String {
        let mut answer = vec![0; 4_096];
        let length = self.stream.read(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer[..length]).into_owned();
        text.lines().next().unwrap_or_default().to_owned()
    }
}

/// The head of a request whose deadline has passed: its answer comes when its body was read.
fn late(body: &str) -> String {
    format!(
        "POST /predict HTTP/1.1\r\nhost: sidecar\r\nlambda-runtime-deadline-ms: 1\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    )
}

#[tokio::test(start_paused = true)]
async fn a_head_whose_rest_came_before_or_in_a_freeze_is_served() {
    for clock in Monotonic::BOTH {
        let mut caller = Caller::connect();
        let (first, rest) = LIVE.split_at(20);
        caller.send(first).await;
        // Its time is nearly over: in a jump, the last second rings as well.
        tokio::time::sleep(HEAD_TIME * 19 / 20).await;
        caller.send(rest).await;
        caller.freeze(clock).await;
        assert_eq!(caller.status().await, "HTTP/1.1 200 OK", "{clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_there_count_although_the_time_is_over() {
    let (mut sender, stream) = tokio::io::duplex(64);
    let mut head = Wire::new(stream, Phase::default(), false);
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
    for _ in 1..HEAD_TIME.as_secs() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(poll().await, (false, 0));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    sender.write_all(b"x").await.unwrap();
    assert_eq!(poll().await, (true, 1), "the last second has rung");
}

#[tokio::test(start_paused = true)]
async fn a_sender_frozen_in_the_middle_of_a_head_may_go_on_after_the_thaw() {
    for clock in Monotonic::BOTH {
        let mut caller = Caller::connect();
        let (first, rest) = LIVE.split_at(20);
        caller.send(first).await;
        caller.settle().await;
        caller.freeze(clock).await;
        tokio::time::sleep(HEAD_TIME * 4 / 5).await;
        caller.send(rest).await;
        assert_eq!(caller.status().await, "HTTP/1.1 200 OK", "{clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_given_up_after_a_freeze_as_without_one() {
    for clock in [None, Some(Monotonic::Jumps), Some(Monotonic::StandsStill)] {
        let mut caller = Caller::connect();
        caller.send(&LIVE[..20]).await;
        caller.settle().await;
        if let Some(clock) = clock {
            caller.freeze(clock).await;
        }
        let ended = tokio::time::timeout(HEAD_TIME * 2, caller.status()).await;
        assert_eq!(
            ended.as_deref(),
            Ok("HTTP/1.1 408 Request Timeout"),
            "{clock:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_drop_by_drop_is_given_up_with_an_answer() {
    let mut caller = Caller::connect();
    caller.send("GET /v2/health/live HTTP/1.1\r\n").await;
    for _ in 0..HEAD_TIME.as_secs() {
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        if caller.stream.write_all(b"x: y\r\n").await.is_err() {
            break;
        }
    }
    let answer = caller.answer().await;
    assert!(
        answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
        "{answer}"
    );
    assert!(answer.contains("{\"error\":\"the head"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_outlives_a_freeze() {
    for clock in Monotonic::BOTH {
        let mut caller = Caller::connect();
        caller.send(LIVE).await;
        assert_eq!(caller.status().await, "HTTP/1.1 200 OK");
        caller.freeze(clock).await;
        caller.send(LIVE).await;
        assert_eq!(caller.status().await, "HTTP/1.1 200 OK", "{clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_frozen_in_the_middle_of_a_body_may_go_on_after_the_thaw() {
    for clock in Monotonic::BOTH {
        let mut caller = Caller::connect();
        let body = "{\"a\": 1}";
        caller.send(&late(body)).await;
        caller.send(&body[..4]).await;
        caller.settle().await;
        caller.freeze(clock).await;
        tokio::time::sleep(BODY_STALL * 4 / 5).await;
        caller.send(&body[4..]).await;
        let status = caller.status().await;
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable", "{clock:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_ends_is_given_up_after_a_freeze_as_without_one() {
    for clock in [None, Some(Monotonic::Jumps), Some(Monotonic::StandsStill)] {
        let mut caller = Caller::connect();
        caller.send(&late("{\"a\": 1}")).await;
        caller.settle().await;
        if let Some(clock) = clock {
            caller.freeze(clock).await;
        }
        let status = tokio::time::timeout(BODY_STALL * 2, caller.status()).await;
        assert_eq!(
            status.as_deref(),
            Ok("HTTP/1.1 408 Request Timeout"),
            "{clock:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_body_is_waited_for_as_others_when_its_sender_stops_in_the_middle() {
    let body = " ".repeat(100_000);
    for goes_on in [true, false] {
        let mut caller = Caller::connect();
        caller.send(&late(&body)).await;
        caller.send(&body[..60_000]).await;
        tokio::time::sleep(BODY_STALL * 4 / 5).await;
        if goes_on {
            caller.send(&body[60_000..]).await;
        }
        let status = tokio::time::timeout(BODY_STALL, caller.status()).await;
        let expected = if goes_on {
            "HTTP/1.1 503 Service Unavailable"
        } else {
            "HTTP/1.1 408 Request Timeout"
        };
        assert_eq!(status.as_deref(), Ok(expected), "goes on: {goes_on}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_drop_by_drop_is_given_up_with_an_answer() {
    let mut caller = Caller::connect();
    caller.send(&late(&" ".repeat(1_000))).await;
    let begun = tokio::time::Instant::now();
    // Each drop comes before the last one is forgotten.
    let answer = loop {
        tokio::time::sleep(BODY_STALL / 2).await;
        caller.send(" ").await;
        let wait = Duration::from_millis(1);
        if let Ok(status) = tokio::time::timeout(wait, caller.status()).await {
            break status;
        }
        assert!(begun.elapsed() < BODY_TIME * 2, "the server reads on");
    };
    assert_eq!(answer, "HTTP/1.1 408 Request Timeout");
}

#[tokio::test(start_paused = true)]
async fn what_hyper_refuses_is_answered_with_words_as_well() {
    let long = "x".repeat(2 * MAX_HEAD);
    for (head, status, words) in [
        ("G\0T / HTTP/1.1\r\n\r\n", "400 Bad Request", "no HTTP/1.1"),
        (
            "POST /predict HTTP/1.1\r\ncontent-length: 18446744073709551615\r\n\r\n",
            "413 Payload Too Large",
            "content-length is 18446744073709551615",
        ),
        (
            "POST /predict HTTP/1.1\r\nhost: x\r\nContent-Length:0018446744073709551614\r\n\r\n{}",
            "413 Payload Too Large",
            "no body of that size is taken",
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
            "no HTTP/1.1",
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
        let mut caller = Caller::connect();
        caller.send(head).await;
        caller.stream.shutdown().await.unwrap();
        let answer = caller.answer().await;
        let (top, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            top.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{answer}"
        );
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert!(body["error"].as_str().unwrap().contains(words), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sender_who_reads_only_behind_its_refused_body_has_the_answer() {
    let mut caller = Caller::connect();
    let length = crate::server::MAX_BODY + 1;
    caller
        .send(&format!(
            "POST /predict HTTP/1.1\r\nhost: sidecar\r\ncontent-length: {length}\r\n\r\n"
        ))
        .await;
    // More than fits into the pipe: it goes through only if somebody takes it.
    for _ in 0..64 {
        caller.send(&" ".repeat(64 * 1024)).await;
    }
    caller.stream.shutdown().await.unwrap();
    let answer = caller.answer().await;
    assert!(
        answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"),
        "{answer}"
    );
    assert!(answer.contains("6 MB"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_refused_sender_who_never_ends_is_left() {
    let mut caller = Caller::connect();
    caller
        .send("POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{")
        .await;
    let (mut reader, mut writer) = tokio::io::split(caller.stream);
    let mut answer = String::new();
    reader.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    let begun = tokio::time::Instant::now();
    while writer.write_all(b" ").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(begun.elapsed() < HEAD_TIME, "the server reads on");
    }
}

/// A response of hyper's own, which the body of one of ours may begin and end as.
const BARE: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

/// Writes to a wire as hyper does, and gives what its peer has then.
async fn written(phase: &Phase, parts: &[&[u8]]) -> String {
    let (mut peer, stream) = tokio::io::duplex(64 * 1024);
    let mut wire = Wire::new(stream, phase.clone(), false);
    for part in parts {
        wire.write_all(part).await.unwrap();
    }
    drop(wire);
    let mut text = String::new();
    peer.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(start_paused = true)]
async fn a_body_may_have_the_bytes_of_an_error_of_hypers() {
    let phase = Phase::default();
    let replaced = written(&phase, &[BARE.as_bytes()]).await;
    assert!(
        replaced.contains("this is no HTTP/1.1 request"),
        "{replaced}"
    );

    // Head and body go out one by one where the body is long.
    let phase = Phase::default();
    phase.busy();
    phase.answered();
    let head = "HTTP/1.1 200 OK\r\n\r\n";
    let text = written(&phase, &[head.as_bytes(), BARE.as_bytes()]).await;
    assert_eq!(text, format!("{head}{BARE}"));

    // The last part of it comes when hyper has taken all.
    phase.buffered();
    assert_eq!(written(&phase, &[BARE.as_bytes()]).await, BARE);
}

#[tokio::test(start_paused = true)]
async fn what_hyper_refuses_behind_an_answer_has_words_too() {
    let mut caller = Caller::connect();
    caller.send(LIVE).await;
    assert_eq!(caller.status().await, "HTTP/1.1 200 OK");
    caller.send("G\0T / HTTP/1.1\r\n\r\n").await;
    let answer = caller.answer().await;
    assert!(answer.contains("this is no HTTP/1.1 request"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_takes_is_given_up() {
    for clock in [None, Some(Monotonic::Jumps), Some(Monotonic::StandsStill)] {
        let mut caller = Caller::connect();
        // The answers are much longer than the requests, and more than the pipe holds.
        let mut sent = 0;
        let request = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n";
        while sent < 200 {
            let write = caller.stream.write_all(request.as_bytes());
            let time = Duration::from_millis(10);
            if tokio::time::timeout(time, write).await.is_err() {
                break;
            }
            sent += 1;
        }
        caller.settle().await;
        tokio::time::sleep(WRITE_STALL * 4 / 5).await;
        if let Some(clock) = clock {
            caller.freeze(clock).await;
        }
        let begun = tokio::time::Instant::now();
        while caller.stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(begun.elapsed() < WRITE_STALL, "{clock:?}: still open");
        }
        assert!(
            begun.elapsed() > Duration::from_secs(1),
            "{clock:?}: the freeze counted"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_where_nothing_freezes() {
    for asks in [false, true] {
        let mut caller = Caller::on_an_open_machine(true);
        if asks {
            tokio::time::sleep(IDLE_TIME * 3 / 4).await;
            caller.send(LIVE).await;
            assert_eq!(caller.status().await, "HTTP/1.1 200 OK");
        }
        tokio::time::sleep(IDLE_TIME * 3 / 4).await;
        caller.send(LIVE).await;
        assert_eq!(caller.status().await, "HTTP/1.1 200 OK", "not idle yet");
        let begun = tokio::time::Instant::now();
        assert_eq!(caller.answer().await, "");
        assert!(begun.elapsed() <= IDLE_TIME, "{:?}", begun.elapsed());
        assert!(begun.elapsed() > IDLE_TIME / 2, "{:?}", begun.elapsed());
    }
}
