//! Credentials under `SnapStart`, fetched from a local server and again when they expire, and a function
//! without credentials.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::{Bench, CloudWatchSink, Dimensions};
use crate::clock::wall::Wall;
use crate::clock::{Clock as _, Thaws};
use crate::config::Environment;

/// Requests that the server received, in order: for credentials with a token, or metrics signed with a key.
type Seen = Arc<Mutex<Vec<String>>>;

#[tokio::test]
async fn credentials_of_the_container_are_fetched_again_when_they_expired_in_the_snapshot() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    tokio::spawn(serve(listener, Arc::clone(&seen)));
    let run = move || {
        crate::test_util::run_alone(
            "metrics::cloudwatch::tests::credentials::sends_before_and_after_a_restore",
            &[
                ("AWS_ENDPOINT_URL", &here),
                (
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                    &format!("{here}/credentials"),
                ),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "token-of-the-test"),
            ],
        );
    };
    tokio::task::spawn_blocking(run).await.unwrap();
    let fetch = "credentials for token-of-the-test";
    assert_eq!(
        *seen.lock().unwrap(),
        [
            fetch,
            "signed by KEY1",
            "signed by KEY1",
            fetch,
            "signed by KEY2"
        ]
    );
}

/// A bench with a sink that takes its credentials from the process's environment, as on Lambda.
async fn bench() -> Bench {
    let (wall, thaws) = (Wall::new(), Thaws::default());
    let environment = Environment::of([("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1")]);
    let aws = crate::aws::load(&environment, &(Arc::clone(&wall) as _), &thaws).await;
    let sink = CloudWatchSink::new(&aws, "Test".to_owned(), Dimensions::default());
    Bench { wall, thaws, sink }
}

#[tokio::test]
#[ignore = "needs an environment of its own, which the test above gives"]
async fn sends_before_and_after_a_restore() {
    let bench = bench().await;
    bench.send().await.unwrap();
    bench.send().await.unwrap();
    bench.wall.pass(Duration::from_secs(3_600));
    bench.thaws.note(bench.wall.now());
    bench.send().await.unwrap();
}

#[test]
fn error_without_credentials_names_the_execution_role_at_once() {
    crate::test_util::run_alone(
        "metrics::cloudwatch::tests::credentials::sends_without_credentials",
        &[],
    );
}

#[tokio::test(start_paused = true)]
#[ignore = "needs an environment of its own, which the test above gives"]
async fn sends_without_credentials() {
    let bench = bench().await;
    let started = tokio::time::Instant::now();
    let error = bench.send().await.unwrap_err();
    println!("{error}");
    for part in ["execution role", "AWS_CONTAINER_CREDENTIALS_FULL_URI"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(started.elapsed(), Duration::ZERO);
}

async fn serve(listener: TcpListener, seen: Seen) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(answer(stream, Arc::clone(&seen)));
    }
}

/// Credentials that end 15 minutes after the start of [`Wall`], and from the second time on much later.
async fn answer(mut stream: TcpStream, seen: Seen) {
    while let Some(head) = super::read_request(&mut stream).await {
        let after = |mark: &str| {
            let (_, rest) = head.split_once(mark).unwrap();
            rest.split(['/', '\r']).next().unwrap().to_owned()
        };
        let (kind, body) = if head.starts_with("GET /credentials ") {
            let mut seen = seen.lock().unwrap();
            let (key, expiry) = if seen.is_empty() {
                ("KEY1", "2026-09-21T14:28:20Z")
            } else {
                ("KEY2", "2096-01-01T00:00:00Z")
            };
            seen.push(format!("credentials for {}", after("authorization: ")));
            let body = format!(
                r#"{{"AccessKeyId":"{key}","SecretAccessKey":"s","Token":"t","Expiration":"{expiry}"}}"#
            );
            ("content-type: application/json", body)
        } else {
            let signer = format!("signed by {}", after("Credential="));
            seen.lock().unwrap().push(signer);
            ("smithy-protocol: rpc-v2-cbor", String::new())
        };
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\n{kind}\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}
