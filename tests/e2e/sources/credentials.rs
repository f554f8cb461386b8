//! Credentials as under `SnapStart`: no keys in the environment, and an address at which to ask for
//! some. Those from before the snapshot, or a freeze, have expired when it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use lab::credentials::{ACCESS_KEY, SECRET_KEY};
use lab::lambda::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    BUCKET, KEY, LONG, features, freeze, model, platform, s3_with, transfers, with_both_clocks,
};
use lab::reference::WINE;

with_both_clocks!(credentials_that_expired_while_frozen_are_fetched_again);

/// What whoever asks must say.
const TOKEN: &str = "only-for-this-environment";
/// How long credentials are good for.
const LIFE: Duration = Duration::from_secs(15 * 60);

/// Gives out credentials, as the platform does inside an environment.
struct Vault {
    port: u16,
    asked: Arc<AtomicUsize>,
    /// Seconds that its clock is ahead of the machine's.
    ahead: Arc<AtomicU64>,
}

impl Vault {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let vault = Self {
            port: listener.local_addr().unwrap().port(),
            asked: Arc::default(),
            ahead: Arc::default(),
        };
        let (asked, ahead) = (Arc::clone(&vault.asked), Arc::clone(&vault.ahead));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let ahead = Duration::from_secs(ahead.load(Ordering::Relaxed));
                let expires = SystemTime::now() + ahead + LIFE;
                if give(stream, expires).await {
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        vault
    }

    /// How often it gave some.
    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Answers one request on a connection of its own; whether it was one that knows the token.
async fn give(mut stream: TcpStream, expires: SystemTime) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let known = head.starts_with("get /keys ") && head.contains(&format!("authorization: {TOKEN}"));
    let (status, body) = if known {
        let expires = aws_smithy_types::DateTime::from(expires);
        let expires = expires.fmt(aws_smithy_types::date_time::Format::DateTime);
        let keys = serde_json::json!({
            "AccessKeyId": ACCESS_KEY,
            "SecretAccessKey": SECRET_KEY,
            "Token": "a-session",
            "Expiration": expires.unwrap(),
        });
        ("200 OK", keys.to_string())
    } else {
        ("403 Forbidden", String::new())
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await.is_ok() && known
}

async fn credentials_that_expired_while_frozen_are_fetched_again(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    let vault = Vault::start().await;
    let function = platform(&s3)
        // Ahead of requests, as a snapshot is made.
        .initialization_type("provisioned-concurrency")
        // An empty one counts as none.
        .env("AWS_ACCESS_KEY_ID", "")
        .env("AWS_SECRET_ACCESS_KEY", "")
        .env(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            format!("http://127.0.0.1:{}/keys", vault.port),
        )
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN", TOKEN)
        .clock(clock);
    let function = function.start().await.unwrap();
    // Init is over before anyone calls, and an hour passes before the first one does.
    function
        .environment()
        .unwrap()
        .wait_until_frozen()
        .await
        .unwrap();
    assert_eq!((vault.asked(), transfers(&s3).len()), (1, 1));
    freeze(&function, &s3).await;
    vault.ahead.store(LONG.as_secs(), Ordering::Relaxed);
    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    let log = function.log();
    function.answer(&features(1)).await.unwrap();
    log.wait_for("another version answers").await.unwrap();
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    assert_eq!(vault.asked(), 2, "{}", log.text());
    assert_eq!(transfers(&s3).len(), 2);
    let log = log.text();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
}
