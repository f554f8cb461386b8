//! The real binary, driven by a fake Runtime API.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::convert::Infallible;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::sync::{Barrier, Mutex, Semaphore, mpsc};

const BOOTSTRAP: &str = env!("CARGO_BIN_EXE_bootstrap");
const FUNCTION_URL: &str = include_str!("events/function-url.json");

/// Result of one invocation: `response` or `error`, and the body.
type Outcome = (String, Value);

/// The handler's process, and its fake platform.
struct Platform {
    handler: Child,
    events: mpsc::UnboundedSender<String>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    /// Number of posts that the Runtime API may still accept.
    accepted: Arc<Semaphore>,
    _folder: tempfile::TempDir,
}

impl Drop for Platform {
    fn drop(&mut self) {
        let _ = self.handler.kill();
        let _ = self.handler.wait();
    }
}

impl Platform {
    /// Starts the handler with a sidecar that responds only once `together` requests are pending.
    async fn start(together: usize) -> Self {
        Self::start_with(together, &[]).await
    }

    /// As [`Self::start`], with these variables.
    async fn start_with(together: usize, variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("sidecar.sock");
        serve_sidecar(UnixListener::bind(&socket).unwrap(), together);

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (events, queue) = mpsc::unbounded_channel();
        let (results, outcomes) = mpsc::unbounded_channel();
        let accepted = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        serve_runtime_api(listener, queue, results, Arc::clone(&accepted));

        let mut command = Command::new(BOOTSTRAP);
        command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", address)
            .env("AWS_LAMBDA_FUNCTION_NAME", "iris")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("MODEL_SOCKET", &socket)
            .envs(variables.iter().copied());
        if together > 1 {
            command.env("AWS_LAMBDA_MAX_CONCURRENCY", together.to_string());
        }
        Self {
            handler: command.spawn().unwrap(),
            events,
            outcomes,
            accepted,
            _folder: folder,
        }
    }

    /// Private memory of the handler, without file mappings.
    fn kilobytes(&self) -> i64 {
        let status = format!("/proc/{}/status", self.handler.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes = line.unwrap().trim().strip_suffix(" kB");
        kilobytes.unwrap().parse().unwrap()
    }

    async fn invoke(&mut self, event: &str) -> Outcome {
        self.events.send(event.to_owned()).unwrap();
        self.outcomes.recv().await.unwrap()
    }
}

fn serve_sidecar(listener: UnixListener, together: usize) {
    let barrier = Arc::new(Barrier::new(together));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let barrier = barrier.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let barrier = barrier.clone();
                async move {
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    barrier.wait().await;
                    let (status, answer) = if body.windows(8).any(|window| window == b"features") {
                        (200, json!({ "prediction": [0] }))
                    } else {
                        (400, json!({ "error": "missing required field: features" }))
                    };
                    let response = Response::builder().status(status);
                    let response = response.header("content-type", "application/json");
                    Ok::<_, Infallible>(
                        response
                            .body(Full::new(Bytes::from(answer.to_string())))
                            .unwrap(),
                    )
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
}

fn serve_runtime_api(
    listener: TcpListener,
    queue: mpsc::UnboundedReceiver<String>,
    results: mpsc::UnboundedSender<Outcome>,
    accepted: Arc<Semaphore>,
) {
    let queue = Arc::new(Mutex::new(queue));
    let count = Arc::new(AtomicU64::new(0));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (queue, results, count) = (queue.clone(), results.clone(), count.clone());
            let accepted = Arc::clone(&accepted);
            let service = service_fn(move |request: Request<Incoming>| {
                let (queue, results, count) = (queue.clone(), results.clone(), count.clone());
                let accepted = Arc::clone(&accepted);
                async move {
                    let path = request.uri().path().to_owned();
                    let answer = Response::builder();
                    if path.ends_with("/invocation/next") {
                        let Some(event) = queue.lock().await.recv().await else {
                            return std::future::pending().await;
                        };
                        let number = count.fetch_add(1, Ordering::Relaxed);
                        let trace = format!(
                            "Root=1-5759e988-{number:024x};Parent=53995c3f42cd8ad8;Sampled=1"
                        );
                        let answer = answer
                            .header("lambda-runtime-trace-id", trace)
                            .header("lambda-runtime-aws-request-id", "8476a536")
                            .header("lambda-runtime-deadline-ms", "9999999999999")
                            .header(
                                "lambda-runtime-invoked-function-arn",
                                "arn:aws:lambda:::function:iris",
                            );
                        return Ok::<_, Infallible>(
                            answer.body(Full::new(Bytes::from(event))).unwrap(),
                        );
                    }
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let kind = path.rsplit('/').next().unwrap_or_default().to_owned();
                    // A finished test needs no more results.
                    let _ = results.send((kind, serde_json::from_slice(&body).unwrap()));
                    accepted.acquire().await.unwrap().forget();
                    Ok(answer
                        .status(StatusCode::ACCEPTED)
                        .body(Full::default())
                        .unwrap())
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
}

#[tokio::test]
async fn each_kind_of_caller_learns_of_success_and_failure_in_its_own_way() {
    let mut platform = Platform::start(1).await;
    let direct = platform.invoke(r#"{"features":[1]}"#).await;
    assert_eq!(direct, ("response".into(), json!({ "prediction": [0] })));

    let (posted, error) = platform.invoke(r#"{"rows":[1]}"#).await;
    assert_eq!(posted, "error");
    assert_eq!(error["errorType"], "Model.BadRequest");
    assert_eq!(error["errorMessage"], "missing required field: features");

    let (posted, reply) = platform.invoke(FUNCTION_URL).await;
    assert_eq!(
        (posted.as_str(), &reply["statusCode"]),
        ("response", &json!(200))
    );
    let (posted, reply) = platform
        .invoke(&FUNCTION_URL.replace("features", "rows"))
        .await;
    assert_eq!(
        (posted.as_str(), &reply["statusCode"]),
        ("response", &json!(400))
    );
}

/// Each invocation has a trace id of its own, as on Lambda.
#[tokio::test]
async fn thousands_of_invocations_leave_nothing_behind_in_memory() {
    let mut platform = Platform::start(1).await;
    for _ in 0..500 {
        platform.invoke(r#"{"features":[1]}"#).await;
    }
    let before = platform.kilobytes();
    for _ in 0..3_000 {
        platform.invoke(r#"{"features":[1]}"#).await;
    }
    let grown = platform.kilobytes() - before;
    assert!(grown < 100, "{grown} KB more after 3,000 invocations");
}

#[tokio::test]
async fn a_trace_is_sent_once_the_response_is_posted() {
    let daemon = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = daemon.local_addr().unwrap().to_string();
    let mut platform = Platform::start_with(1, &[("AWS_XRAY_DAEMON_ADDRESS", &address)]).await;
    platform.accepted.forget_permits(Semaphore::MAX_PERMITS);
    let mut datagram = [0; 1 << 12];
    for number in 0..2 {
        let outcome = platform.invoke(r#"{"features":[1]}"#).await;
        assert_eq!(outcome.0, "response");
        let early = daemon.try_recv(&mut datagram);
        assert!(
            early.is_err(),
            "sent while the post of the response is pending"
        );
        platform.accepted.add_permits(1);
        let length = daemon.recv(&mut datagram).await.unwrap();
        let text = std::str::from_utf8(&datagram[..length]).unwrap();
        let (_, document) = text.split_once('\n').unwrap();
        let document: Value = serde_json::from_str(document).unwrap();
        assert_eq!(document["trace_id"], format!("1-5759e988-{number:024x}"));
        assert_eq!(document["parent_id"], "53995c3f42cd8ad8");
        assert_eq!(document["http"]["response"]["status"], 200);
    }
}

/// On managed instances. The sidecar responds to none before it has all of them.
#[tokio::test]
async fn invocations_run_concurrently_on_managed_instances() {
    let mut platform = Platform::start(4).await;
    for _ in 0..3 {
        for _ in 0..4 {
            platform
                .events
                .send(r#"{"features":[1]}"#.to_owned())
                .unwrap();
        }
        for _ in 0..4 {
            let outcome = platform.outcomes.recv().await.unwrap();
            assert_eq!(outcome, ("response".into(), json!({ "prediction": [0] })));
        }
    }
}

/// The fake sidecar answers every request, like one of another release: it accepts no process.
#[tokio::test]
async fn a_rejected_attachment_is_an_error_of_init() {
    let variables = [("MODEL_HANDLER", "attach"), ("_HANDLER", "bootstrap")];
    let mut platform = Platform::start_with(1, &variables).await;
    let (posted, error) = platform.outcomes.recv().await.unwrap();
    assert_eq!(posted, "error");
    assert_eq!(error["errorType"], "Handler.Attach");
    let message = error["errorMessage"].as_str().unwrap();
    for words in [
        "MODEL_HANDLER=attach",
        "400",
        "missing required field: features",
        "one release",
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert_eq!(platform.handler.wait().unwrap().code(), Some(1));
}

#[test]
fn outside_lambda_it_prints_its_help() {
    let output = Command::new(BOOTSTRAP)
        .env_remove("AWS_LAMBDA_RUNTIME_API")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let words = String::from_utf8(output.stderr).unwrap();
    assert!(
        words.contains("AWS_LAMBDA_RUNTIME_API") && words.contains("MODEL_SOCKET"),
        "{words}"
    );

    let output = Command::new(BOOTSTRAP).arg("--version").output().unwrap();
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        concat!("model-handler ", env!("CARGO_PKG_VERSION"), "\n")
    );
}
