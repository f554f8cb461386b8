//! Credentials as under `SnapStart`: an endpoint for temporary credentials instead of keys in the environment.
//!
//! Credentials from before a snapshot or a freeze have expired afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use lab::credentials::{ACCESS_KEY, SECRET_KEY};
use lab::lambda::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    BUCKET, KEY, LONG, features, freeze, invoke_until_logged, model, platform, s3_with, transfers,
    with_both_clocks,
};
use lab::reference::WINE;

with_both_clocks!(credentials_that_expired_in_a_freeze_are_replaced);

/// Authorization token of the endpoint.
const TOKEN: &str = "only-for-this-environment";
/// Lifetime of credentials.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

/// Endpoint for temporary credentials, as the platform provides inside an environment.
struct CredentialsEndpoint {
    port: u16,
    issued: Arc<AtomicUsize>,
    /// Offset of the endpoint's clock in seconds.
    ahead: Arc<AtomicU64>,
}

impl CredentialsEndpoint {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Self {
            port: listener.local_addr().unwrap().port(),
            issued: Arc::default(),
            ahead: Arc::default(),
        };
        let (issued, ahead) = (Arc::clone(&endpoint.issued), Arc::clone(&endpoint.ahead));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let ahead = Duration::from_secs(ahead.load(Ordering::Relaxed));
                let expires = SystemTime::now() + ahead + LIFETIME;
                if serve(stream, expires).await {
                    issued.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        endpoint
    }

    /// Number of credentials issued.
    fn issued(&self) -> usize {
        self.issued.load(Ordering::Relaxed)
    }
}

/// Serves one request; returns `true` if it had the token.
async fn serve(mut stream: TcpStream, expires: SystemTime) -> bool {
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

async fn credentials_that_expired_in_a_freeze_are_replaced(clock: Clock) {
    let s3 = s3_with("wine-v1.onnx").await;
    let endpoint = CredentialsEndpoint::start().await;
    let function = platform(&s3)
        // Init ahead of requests, as for a snapshot.
        .initialization_type("provisioned-concurrency")
        // Empty variables count as absent.
        .env("AWS_ACCESS_KEY_ID", "")
        .env("AWS_SECRET_ACCESS_KEY", "")
        .env(
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            format!("http://127.0.0.1:{}/keys", endpoint.port),
        )
        .env("AWS_CONTAINER_AUTHORIZATION_TOKEN", TOKEN)
        .clock(clock);
    let function = function.start().await.unwrap();
    // Init ends before the first invocation, which follows after an hour.
    function
        .environment()
        .unwrap()
        .wait_until_frozen()
        .await
        .unwrap();
    assert_eq!((endpoint.issued(), transfers(&s3).len()), (1, 1));
    freeze(&function, &s3).await;
    endpoint.ahead.store(LONG.as_secs(), Ordering::Relaxed);
    s3.put(BUCKET, KEY, model("wine-v2.onnx"));
    let log = function.log();
    invoke_until_logged(&function, "a new version is active").await;
    WINE.v2
        .check(&function.answer(&features(9)).await.unwrap(), 0..9);
    assert_eq!(endpoint.issued(), 2, "{}", log.text());
    assert_eq!(transfers(&s3).len(), 2);
    let log = log.text();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
}
