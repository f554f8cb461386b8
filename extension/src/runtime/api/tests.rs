//! Calls to a fake Runtime API, which records the requests.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// Responses in order, each with `true` if the connection is closed after it.
type Script = &'static [(&'static str, bool)];

/// Serves the script; returns the address, and the heads and bodies of the requests so far.
async fn serve(script: Script) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let requests: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        let mut responses = script.iter();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            for (response, closes) in responses.by_ref() {
                let mut request = Vec::new();
                while !is_whole(&request) {
                    let mut part = [0; 4096];
                    let length = stream.read(&mut part).await.unwrap();
                    assert!(length > 0, "the client closed the connection");
                    request.extend_from_slice(&part[..length]);
                }
                let text = String::from_utf8(request).unwrap();
                seen.lock().unwrap().push(text);
                stream.write_all(response.as_bytes()).await.unwrap();
                if *closes {
                    break;
                }
            }
        }
    });
    (address, requests)
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    body.len() == length.map_or(0, |length| length.parse().unwrap())
}

const EVENT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nLambda-Runtime-Aws-Request-Id: 8f50\r\n\
                     Lambda-Runtime-Deadline-Ms: 1542409706888\r\nLambda-Runtime-Trace-Id: Root=1-5bef4de7\r\n\r\n{}";
const ACCEPTED: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 15\r\n\r\n{\"status\":\"OK\"}";

/// First lines of the requests.
fn lines(requests: &Mutex<Vec<String>>) -> Vec<String> {
    let requests = requests.lock().unwrap();
    let lines = requests
        .iter()
        .map(|request| request.lines().next().unwrap());
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn events_and_answers_use_one_connection_until_it_is_closed() {
    let (address, requests) = serve(&[(EVENT, false), (ACCEPTED, true), (EVENT, false)]).await;
    let mut api = RuntimeApi::new(address, false);
    let invoked = api.next().await.unwrap();
    assert_eq!(invoked.event, b"{}");
    let Invocation {
        deadline,
        request_id,
        trace_id,
    } = invoked.invocation;
    assert_eq!(deadline, Deadline(1_542_409_706_888));
    assert_eq!(request_id, "8f50");
    assert_eq!(trace_id.as_deref(), Some("Root=1-5bef4de7"));
    let body = b"{\"prediction\":[0]}".to_vec();
    api.post_response("8f50", body).await.unwrap();
    // On a new connection.
    api.next().await.unwrap();
    assert_eq!(
        lines(&requests),
        [
            "GET /2018-06-01/runtime/invocation/next HTTP/1.1",
            "POST /2018-06-01/runtime/invocation/8f50/response HTTP/1.1",
            "GET /2018-06-01/runtime/invocation/next HTTP/1.1",
        ]
    );
    let posted = requests.lock().unwrap()[1].clone();
    assert!(posted.ends_with("\r\n\r\n{\"prediction\":[0]}"), "{posted}");
}

#[tokio::test]
async fn function_errors_have_a_type_in_head_and_body() {
    let (address, requests) = serve(&[(ACCEPTED, false)]).await;
    let mut api = RuntimeApi::new(address, false);
    let error = FunctionError {
        error_type: "Model.Busy",
        error_message: "the queue is full".to_owned(),
    };
    api.post_error("8f50", &error).await.unwrap();
    let posted = requests.lock().unwrap()[0].clone();
    for part in [
        "POST /2018-06-01/runtime/invocation/8f50/error HTTP/1.1\r\n",
        "lambda-runtime-function-error-type: Model.Busy\r\n",
        "\r\n\r\n{\"errorType\":\"Model.Busy\",\"errorMessage\":\"the queue is full\"}",
    ] {
        assert!(posted.contains(part), "{part}: {posted}");
    }
}

#[tokio::test]
async fn a_snapshot_is_restored_before_the_first_event() {
    const RESTORED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let (address, requests) = serve(&[(RESTORED, true), (EVENT, false), (EVENT, false)]).await;
    let mut api = RuntimeApi::new(address, true);
    assert!(api.restored().await.unwrap());
    api.next().await.unwrap();
    assert!(!api.restored().await.unwrap());
    api.next().await.unwrap();
    assert_eq!(
        lines(&requests),
        [
            "GET /2018-06-01/runtime/restore/next HTTP/1.1",
            "GET /2018-06-01/runtime/invocation/next HTTP/1.1",
            "GET /2018-06-01/runtime/invocation/next HTTP/1.1",
        ]
    );
}

#[tokio::test]
async fn errors_name_the_call_and_the_reason() {
    const REJECTED: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\n\r\nnot now\r\n";
    let (address, _) = serve(&[(REJECTED, false)]).await;
    let error = RuntimeApi::new(address, false).next().await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "call invocation/next of the Runtime API returned status 403 Forbidden: not now"
    );
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap().to_string();
    drop(closed);
    let error = RuntimeApi::new(address.clone(), false).next().await;
    let error = error.err().unwrap().to_string();
    let beginning = format!("cannot call invocation/next of the Runtime API on {address}: ");
    assert!(error.starts_with(&beginning), "{error}");
}
