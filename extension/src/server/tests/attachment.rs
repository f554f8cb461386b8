//! Attachment of the function's process, and calls from this process.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{Method, Request, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;

use crate::clock::{SystemClock, Thaws};
use crate::models::Models;
use crate::scheduler::ExecutorLimits;
use crate::server::attachment::Attachment;
use crate::server::connection;
use crate::server::context::ServerContext;
use crate::server::host::Transport;
use crate::server::in_process::call;
use crate::status::Status;

const PROCESS: &str = r#"{"version":"1","variables":{"_HANDLER":"bootstrap"}}"#;

fn server(attachments: Option<mpsc::Sender<Attachment>>) -> Arc<ServerContext> {
    let (status, _) = Status::new([]);
    let context = ServerContext::new(
        Arc::new(Models::new([])),
        Arc::new(status),
        ExecutorLimits::default(),
        Arc::new(SystemClock),
        Thaws::default(),
        None,
    );
    Arc::new(context.accept_attachment(attachments))
}

/// Opens a connection, and sends a request to attach, with more lines of its head.
async fn attach(context: &Arc<ServerContext>, transport: Transport, lines: &str) -> DuplexStream {
    let (mut stream, far_side) = tokio::io::duplex(64 * 1024);
    tokio::spawn(connection::serve(far_side, transport, Arc::clone(context)));
    let head = format!(
        "POST /lambda/attach HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n{lines}\r\n",
        PROCESS.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(PROCESS.as_bytes()).await.unwrap();
    stream
}

async fn status(stream: &mut DuplexStream) -> u16 {
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    let text = std::str::from_utf8(&head[9..]).unwrap();
    text.parse().unwrap()
}

#[tokio::test]
async fn each_process_notices_the_end_of_the_other() {
    let (sender, mut attachments) = mpsc::channel(1);
    let context = server(Some(sender));
    let stream = attach(&context, Transport::Unix, "").await;
    let attached = attachments.recv().await.unwrap();
    assert_eq!(attached.process.variables["_HANDLER"], "bootstrap");
    drop(stream);
    attached.ended().await;

    let mut stream = attach(&context, Transport::Unix, "").await;
    drop(attachments.recv().await.unwrap());
    assert_eq!(status(&mut stream).await, 503);
}

#[tokio::test]
async fn one_local_process_attaches_if_the_sidecar_is_the_runtime() {
    let (sender, mut attachments) = mpsc::channel(1);
    let context = server(Some(sender));
    for (transport, lines) in [
        (Transport::Tcp, ""),
        (Transport::Unix, "x-model-remote: true\r\n"),
    ] {
        let mut stream = attach(&context, transport, lines).await;
        assert_eq!(status(&mut stream).await, 404, "{transport:?} {lines}");
    }
    let _first = attach(&context, Transport::Unix, "").await;
    let _attached = attachments.recv().await.unwrap();
    // As when the polls have begun.
    drop(attachments);
    let mut second = attach(&context, Transport::Unix, "").await;
    assert_eq!(status(&mut second).await, 409);

    let mut rejected = attach(&server(None), Transport::Unix, "").await;
    assert_eq!(status(&mut rejected).await, 409);
}

#[tokio::test]
async fn calls_from_this_process_get_what_a_connection_would() {
    let context = server(None);
    let request = |method: Method, path: &str| {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap();
        request
    };
    let live = call(request(Method::GET, "/v2/health/live"), &context).await;
    assert_eq!(live.body(), &b"{\"live\":true}"[..]);
    let head = call(request(Method::HEAD, "/v2/health/live"), &context).await;
    assert_eq!((head.status(), head.body().len()), (StatusCode::OK, 0));
    // Only a process may attach.
    let attach = call(request(Method::POST, "/lambda/attach"), &context).await;
    assert_eq!(attach.status(), StatusCode::NOT_FOUND);
}
