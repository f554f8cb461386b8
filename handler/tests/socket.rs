//! The handler with a real server on a real Unix socket, which misbehaves on demand.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use model_handler::Handler;
use model_handler::deadline::Deadline;
use model_handler::failure::{Failure, FunctionError};
use model_handler::invocation::Invocation;
use model_handler::sidecar::Sidecar;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

const HTTP: &str = include_str!("events/http.json");
const FUNCTION_URL: &str = include_str!("events/function-url.json");

/// Temporary folder of a test's socket.
struct SocketFolder {
    _folder: tempfile::TempDir,
    socket: PathBuf,
}

impl SocketFolder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            socket: folder.path().join("sidecar.sock"),
            _folder: folder,
        }
    }

    fn sidecar(&self) -> Sidecar {
        Sidecar::new(self.socket.clone())
    }
}

/// A server that echoes its requests, and counts its connections.
struct Echo {
    connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Echo {
    fn start(socket: &Path) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                open.spawn(
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo)),
                );
            }
        });
        Self { connections, task }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Stops the server with all its connections.
    async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    if parts.uri.path() == "/binary" {
        let response = Response::builder().header("content-type", "application/octet-stream");
        return Ok(response.body(Full::new(body)).unwrap());
    }
    let headers: serde_json::Map<String, Value> = parts
        .headers
        .keys()
        .map(|name| {
            let values = parts.headers.get_all(name).iter();
            let values: Vec<&str> = values.map(|value| value.to_str().unwrap()).collect();
            (name.to_string(), values.join(" and ").into())
        })
        .collect();
    let echo = json!({
        "method": parts.method.as_str(),
        "target": parts.uri.to_string(),
        "headers": headers,
        "bytes": body.len(),
    });
    let response = Response::builder()
        .header("content-type", "application/json")
        .header("x-model-name", "iris");
    Ok(response.body(Full::new(echo.to_string().into())).unwrap())
}

fn in_ms(millis: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap() + millis
}

fn invocation(deadline: u64) -> Invocation {
    Invocation {
        deadline: Deadline(deadline),
        request_id: "8476a536-e9f4-11e8-9739-2dfe598c3fcd".into(),
        trace_id: Some("Root=1-the-platforms".into()),
    }
}

/// The reply as Lambda would receive it.
async fn reply(sidecar: &Sidecar, payload: &str, deadline: u64) -> Value {
    let handler = Handler::new(sidecar.clone());
    let reply = handler
        .handle(payload, &invocation(deadline))
        .await
        .unwrap();
    serde_json::to_value(reply).unwrap()
}

async fn failure(sidecar: &Sidecar, payload: &str, deadline: u64) -> Failure {
    let handler = Handler::new(sidecar.clone());
    handler
        .handle(payload, &invocation(deadline))
        .await
        .unwrap_err()
}

/// An HTTP event that posts these bytes to this path.
fn post(path: &str, body: &[u8]) -> String {
    use base64::Engine as _;
    let mut event: Value = serde_json::from_str(HTTP).unwrap();
    event["rawPath"] = format!("/prod{path}").into();
    event["body"] = base64::prelude::BASE64_STANDARD.encode(body).into();
    event.to_string()
}

#[tokio::test]
async fn the_invocation_travels_with_the_request() {
    let place = SocketFolder::new();
    let _server = Echo::start(&place.socket);
    let deadline = in_ms(30_000);
    let reply = reply(&place.sidecar(), FUNCTION_URL, deadline).await;
    assert_eq!(reply["statusCode"], 200);
    assert_eq!(reply["headers"]["x-model-name"], "iris");
    let echo: Value = serde_json::from_str(reply["body"].as_str().unwrap()).unwrap();
    assert_eq!(echo["method"], "POST");
    assert_eq!(echo["target"], "/predict");
    assert_eq!(
        echo["headers"]["lambda-runtime-deadline-ms"],
        deadline.to_string()
    );
    assert_eq!(
        echo["headers"]["lambda-runtime-aws-request-id"],
        "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
    );
    assert_eq!(echo["headers"]["x-amzn-trace-id"], "Root=1-the-platforms");
    assert_eq!(echo["headers"]["host"], "localhost");
}

/// The sidecar trusts these two headers, so a caller must not be able to set them.
#[tokio::test]
async fn a_caller_cannot_set_or_remove_the_handlers_headers() {
    let place = SocketFolder::new();
    let _server = Echo::start(&place.socket);
    let names = ["x-model-remote", "X-Model-Remote", "X-MODEL-REMOTE"];
    let single: serde_json::Map<String, Value> = names
        .iter()
        .map(|name| ((*name).to_owned(), "false".into()))
        .chain([
            ("Connection".to_owned(), "keep-alive, X-Model-Remote".into()),
            ("connection".to_owned(), "x-model-remote".into()),
            ("X-Model-Token".to_owned(), "a guess".into()),
            ("x_model_remote".to_owned(), "false".into()),
            ("x-model-remote ".to_owned(), "false".into()),
            ("x-spare".to_owned(), "1\r\nx-model-remote: false".into()),
        ])
        .collect();
    let multi: serde_json::Map<String, Value> = single
        .iter()
        .map(|(name, value)| (name.clone(), json!([value, "", value])))
        .collect();
    for event in [
        json!({ "httpMethod": "GET", "path": "/v2", "headers": single }),
        json!({ "httpMethod": "GET", "path": "/v2", "multiValueHeaders": multi }),
        json!({ "httpMethod": "GET", "path": "/v2", "requestContext": { "elb": {} }, "headers": single }),
        json!({ "requestContext": { "http": { "method": "GET" } }, "rawPath": "/v2", "headers": single }),
    ] {
        let reply = reply(&place.sidecar(), &event.to_string(), in_ms(30_000)).await;
        let echo: Value = serde_json::from_str(reply["body"].as_str().unwrap()).unwrap();
        assert_eq!(echo["headers"]["x-model-remote"], "true", "{event}: {echo}");
        for absent in ["connection", "x-model-token"] {
            assert!(echo["headers"][absent].is_null(), "{absent}: {echo}");
        }
        let spare = echo["headers"]["x-spare"].as_str().unwrap_or_default();
        assert_eq!(spare, "", "{echo}");
    }
    let direct = reply(&place.sidecar(), r#"{"features":[1]}"#, in_ms(30_000)).await;
    assert_eq!(direct["headers"]["x-model-remote"], "true");
}

#[tokio::test]
async fn calls_one_after_another_share_a_connection() {
    let place = SocketFolder::new();
    let server = Echo::start(&place.socket);
    let sidecar = place.sidecar();
    for _ in 0..5 {
        reply(&sidecar, r#"{"features":[1]}"#, in_ms(30_000)).await;
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn calls_at_once_have_a_connection_each() {
    let place = SocketFolder::new();
    let server = Echo::start(&place.socket);
    let sidecar = place.sidecar();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let sidecar = sidecar.clone();
        calls.spawn(async move { reply(&sidecar, r#"{"features":[1]}"#, in_ms(30_000)).await });
    }
    for echo in calls.join_all().await {
        assert_eq!(echo["target"], "/predict");
    }
    assert!(
        (1..=16).contains(&server.connections()),
        "{}",
        server.connections()
    );
}

#[tokio::test]
async fn a_connection_that_died_while_idle_is_replaced_without_an_error() {
    let place = SocketFolder::new();
    let sidecar = place.sidecar();
    let first = Echo::start(&place.socket);
    reply(&sidecar, r#"{"features":[1]}"#, in_ms(30_000)).await;
    first.stop().await;

    let second = Echo::start(&place.socket);
    let echo = reply(&sidecar, r#"{"features":[1]}"#, in_ms(30_000)).await;
    assert_eq!(echo["bytes"], 16);
    assert_eq!(second.connections(), 1);
}

/// As after a thaw: the server closes the connection while the request is in transit.
#[tokio::test]
async fn a_connection_that_dies_under_a_request_is_replaced_without_an_error() {
    let place = SocketFolder::new();
    let listener = UnixListener::bind(&place.socket).unwrap();
    let sidecar = place.sidecar();
    let server = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        read_request(&mut first).await;
        first
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1")
            .await
            .unwrap();
        read_request(&mut first).await;
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        read_request(&mut second).await;
        second
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n2")
            .await
            .unwrap();
    });
    assert_eq!(reply(&sidecar, "{}", in_ms(30_000)).await, json!(1));
    assert_eq!(reply(&sidecar, "{}", in_ms(30_000)).await, json!(2));
    server.await.unwrap();
}

#[tokio::test]
async fn an_incomplete_response_is_requested_once_more() {
    let place = SocketFolder::new();
    let listener = UnixListener::bind(&place.socket).unwrap();
    let server = tokio::spawn(async move {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhal",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n2",
        ] {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    assert_eq!(reply(&place.sidecar(), "{}", in_ms(30_000)).await, json!(2));
    server.await.unwrap();
}

#[tokio::test]
async fn a_sidecar_that_keeps_closing_connections_is_a_bad_gateway_after_bounded_attempts() {
    let place = SocketFolder::new();
    let listener = UnixListener::bind(&place.socket).unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            read_request(&mut stream).await;
        }
    });
    let reply = reply(&place.sidecar(), FUNCTION_URL, in_ms(30_000)).await;
    assert_eq!(reply["statusCode"], 502);
    assert_eq!(taken.load(Ordering::SeqCst), 2);
    server.abort();
}

#[tokio::test]
async fn a_call_waits_for_a_sidecar_that_is_still_starting() {
    let place = SocketFolder::new();
    let sidecar = place.sidecar();
    let call = reply(&sidecar, r#"{"features":[1]}"#, in_ms(30_000));
    tokio::pin!(call);
    // The call waits for the socket before it exists.
    assert!(
        tokio::time::timeout(Duration::from_millis(60), &mut call)
            .await
            .is_err()
    );
    let server = Echo::start(&place.socket);
    assert_eq!(call.await["target"], "/predict");
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_socket_that_a_dead_sidecar_left_behind_is_waited_for_too() {
    let place = SocketFolder::new();
    drop(UnixListener::bind(&place.socket).unwrap());
    let sidecar = place.sidecar();
    let call = reply(&sidecar, r#"{"features":[1]}"#, in_ms(30_000));
    tokio::pin!(call);
    assert!(
        tokio::time::timeout(Duration::from_millis(60), &mut call)
            .await
            .is_err()
    );
    let _server = Echo::start(&place.socket);
    assert_eq!(call.await["target"], "/predict");
}

/// Time advances by timers alone, so that the assertions do not depend on the machine.
#[tokio::test(start_paused = true)]
async fn an_absent_sidecar_is_503_before_the_deadline_with_a_hint() {
    let place = SocketFolder::new();
    let deadline = in_ms(300);
    let reply = reply(&place.sidecar(), FUNCTION_URL, deadline).await;
    assert!(
        in_ms(0) < deadline,
        "the response came after Lambda had stopped the invocation"
    );
    assert_eq!(reply["statusCode"], 503);
    let body: Value = serde_json::from_str(reply["body"].as_str().unwrap()).unwrap();
    let words = body["error"].as_str().unwrap();
    assert!(
        words.contains("layer") && words.contains("MODEL_SOCKET"),
        "{words}"
    );

    let error = FunctionError::from(&failure(&place.sidecar(), "{}", in_ms(30_000)).await);
    assert_eq!(error.error_type, "Model.NotReady");
}

#[tokio::test]
async fn a_path_that_is_no_socket_fails_immediately() {
    let place = SocketFolder::new();
    let below_a_file = place.socket.join("sidecar.sock");
    std::fs::write(&place.socket, "").unwrap();
    let failure = failure(&Sidecar::new(below_a_file), "{}", in_ms(60_000)).await;
    assert!(matches!(failure, Failure::Unreachable { .. }), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_does_not_respond_in_time_is_504_and_sees_the_disconnect() {
    let place = SocketFolder::new();
    let listener = UnixListener::bind(&place.socket).unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        // Ends when the handler has closed its side.
        stream.read_to_end(&mut Vec::new()).await.unwrap()
    });
    let deadline = in_ms(300);
    let reply = reply(&place.sidecar(), FUNCTION_URL, deadline).await;
    assert!(
        in_ms(0) < deadline,
        "the response came after Lambda had stopped the invocation"
    );
    assert_eq!(reply["statusCode"], 504);
    assert_eq!(server.await.unwrap(), 0);
}

#[tokio::test]
async fn large_and_binary_bodies_are_unchanged() {
    use base64::Engine as _;
    let place = SocketFolder::new();
    let _server = Echo::start(&place.socket);
    let sidecar = place.sidecar();
    let large: Vec<u8> = (0..4_400_000_u32)
        .map(|n| n.to_le_bytes()[(n % 3) as usize])
        .collect();

    let counted = reply(&sidecar, &post("/predict", &large), in_ms(60_000)).await;
    let echo: Value = serde_json::from_str(counted["body"].as_str().unwrap()).unwrap();
    assert_eq!(echo["bytes"], large.len());

    let binary = reply(&sidecar, &post("/binary", &large), in_ms(60_000)).await;
    assert_eq!(binary["isBase64Encoded"], true);
    let back = base64::prelude::BASE64_STANDARD
        .decode(binary["body"].as_str().unwrap())
        .unwrap();
    assert!(back == large, "the body changed in transit");
}

#[tokio::test]
async fn a_response_over_lambdas_limit_is_413_with_a_hint() {
    let place = SocketFolder::new();
    let _server = Echo::start(&place.socket);
    let sidecar = place.sidecar();
    // The raw bytes would be within the limit, their base64 is not.
    let reply = reply(
        &sidecar,
        &post("/binary", &vec![7; 5_000_000]),
        in_ms(60_000),
    )
    .await;
    assert_eq!(reply["statusCode"], 413);
    assert!(
        reply["body"].as_str().unwrap().contains("6291556"),
        "{}",
        reply["body"]
    );
}

async fn read_request(stream: &mut UnixStream) {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let head = read.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ").map(str::to_owned));
            if read.len() >= head + 4 + length.map_or(0, |length| length.parse().unwrap()) {
                return;
            }
        }
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the handler closed before its request was whole");
        read.extend_from_slice(&buffer[..count]);
    }
}
