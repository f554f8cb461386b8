//! Large bodies: other requests while they are decoded, deadlines, and memory.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::SemaphorePermit;

use crate::clock::{Deadline, SystemClock, Thaws, Timestamp};
use crate::ids::ModelName;
use crate::models::{Models, stub};
use crate::request_memory::{Account, Charge};
use crate::scheduler::{ExecutorLimits, RunError};
use crate::server::connection;
use crate::server::context::ServerContext;
use crate::server::error::ApiError;
use crate::server::host::Transport;
use crate::server::off_thread::off_thread;
use crate::status::Status;
use crate::sys::MemoryProbe;
use crate::tensor::{Datatype, Kind, Port, Signature};

const MB: usize = 1024 * 1024;
/// Timeout of the tests: longer than any of them takes.
const TIMEOUT: Duration = Duration::from_secs(60);

struct UnknownMemory;

impl MemoryProbe for UnknownMemory {
    fn free(&self) -> Option<u64> {
        None
    }
}

/// Server of a model that returns its input, with 10 MB for requests.
fn server() -> Arc<ServerContext> {
    let name = ModelName::parse("echo").unwrap();
    let (status, _) = Status::new([name.clone()]);
    let models = Arc::new(Models::new([name.clone()]));
    let port = |name: &str| Port {
        name: name.to_owned(),
        kind: Kind::Tensor {
            datatype: Datatype::Fp32,
            shape: vec![None, Some(1)],
        },
    };
    let signature = Signature {
        inputs: vec![port("x")],
        outputs: vec![port("y")],
    };
    let echo = |inputs: Vec<(String, crate::tensor::Value)>, _: &crate::engine::Cancel| {
        let outputs = inputs.into_iter().map(|(_, value)| ("y".to_owned(), value));
        Ok(outputs.collect())
    };
    models.swap(stub::with_signature(&name, "1", signature, false, echo));
    let context = ServerContext::new(
        models,
        Arc::new(status),
        ExecutorLimits::default(),
        Arc::new(SystemClock),
        Thaws::default(),
        None,
    );
    let account = Account::new(Some(10 * MB), None, Box::new(UnknownMemory));
    Arc::new(context.with_account(Arc::new(account)))
}

/// Prevents the decoding of large bodies until the permit is dropped.
async fn block_large_bodies(context: &ServerContext) -> SemaphorePermit<'_> {
    let all = context.large_bodies.available_permits();
    let all = u32::try_from(all).unwrap();
    context.large_bodies.acquire_many(all).await.unwrap()
}

fn connect(context: &Arc<ServerContext>) -> DuplexStream {
    let (stream, far_side) = tokio::io::duplex(64 * 1024);
    tokio::spawn(connection::serve(
        far_side,
        Transport::Unix,
        Arc::clone(context),
    ));
    stream
}

async fn send(stream: &mut DuplexStream, head: &str, body: &str) {
    let text = format!(
        "{head} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
}

async fn status(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = vec![0; 12];
    stream.read_exact(&mut head).await.unwrap();
    String::from_utf8(head).unwrap()
}

/// Body of a request with this number of rows.
fn rows(count: usize) -> String {
    format!("{{\"features\":[{}[7]]}}", "[7],".repeat(count - 1))
}

#[tokio::test]
async fn small_requests_are_served_while_a_large_body_is_decoded() {
    let context = server();
    let held = block_large_bodies(&context).await;
    let (mut large, mut other) = (connect(&context), connect(&context));
    send(&mut large, "POST /predict", &rows(100_000)).await;
    send(&mut other, "GET /v2/health/live", "").await;
    assert_eq!(status(&mut other).await, "HTTP/1.1 200");
    let mut small = connect(&context);
    send(&mut small, "POST /predict", &rows(1)).await;
    assert_eq!(status(&mut small).await, "HTTP/1.1 200");
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let early = tokio::time::timeout(Duration::ZERO, status(&mut large)).await;
    assert!(early.is_err(), "decoded by the serving thread");
    drop(held);
    assert_eq!(status(&mut large).await, "HTTP/1.1 200");
}

#[tokio::test]
async fn decoding_stops_at_the_deadline_and_releases_its_memory() {
    let context = server();
    let mut charge = Charge::new(&context.account);
    charge.grow(5 * MB).unwrap();
    let (stopped, has_stopped) = mpsc::channel();
    let work = move |charge: &mut Charge| {
        while charge.check().is_ok() {
            std::thread::yield_now();
        }
        stopped.send(()).unwrap();
    };
    let now = Timestamp(context.clock.now().0);
    let deadline = Deadline::after(now, Duration::from_millis(50));
    let ended = off_thread(&mut charge, deadline, &context, work).await;
    let ended = ended.unwrap_err();
    assert!(
        matches!(ended, ApiError::Run(RunError::Deadline)),
        "{ended}"
    );
    has_stopped.recv_timeout(TIMEOUT).unwrap();
    tokio::time::timeout(TIMEOUT, async {
        while context.account.held() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn bodies_take_at_most_the_memory_of_the_account() {
    let context = server();
    // 12 MB are declared and not sent.
    let mut large = connect(&context);
    let head = "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 12582912\r\n\r\n";
    large.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(status(&mut large).await, "HTTP/1.1 413");

    // 6 MB are declared and not sent. Another request of 6 MB waits until its deadline.
    let mut first = connect(&context);
    let head = "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 6291456\r\n\r\n{";
    first.write_all(head.as_bytes()).await.unwrap();
    let second = async |deadline: u64| {
        let mut stream = connect(&context);
        let head = format!(
            "POST /predict HTTP/1.1\r\nhost: x\r\nlambda-runtime-deadline-ms: {deadline}\r\n\
             content-length: 6291456\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    tokio::time::timeout(TIMEOUT, async {
        while context.account.held() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let soon = context.clock.now().0 + 200;
    let mut response = String::new();
    second(soon)
        .await
        .read_to_string(&mut response)
        .await
        .unwrap();
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("retry-after: 1"), "{response}");

    // A body of unknown length does not wait for memory.
    let mut chunked = connect(&context);
    let head = "POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    chunked.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x1_0000));
    let (mut read, mut write) = tokio::io::split(chunked);
    let send = async {
        while write.write_all(chunk.as_bytes()).await.is_ok() {}
        std::future::pending().await
    };
    let response = tokio::select! {
        response = status(&mut read) => response,
        response = send => response,
    };
    assert_eq!(response, "HTTP/1.1 503");
}
