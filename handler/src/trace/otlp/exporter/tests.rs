//! Exports to collectors that accept, reject, and misbehave.

use std::net::SocketAddr;

use http::header::HeaderValue;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::super::{CLIENT, ERROR, SERVER};
use super::*;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// Maximum time of a test's waits.
const LIMIT: Duration = Duration::from_secs(60);
const ACCEPTED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

/// Returns a listener on a free port, and an exporter to it.
async fn collector() -> (TcpListener, Exporter) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, exporter_to(address))
}

/// Returns an exporter to this address, with a secret header.
fn exporter_to(address: SocketAddr) -> Exporter {
    let url = format!("http://{address}");
    let (settings, errors) = OtlpSettings::read(|name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(url.clone()),
        "OTEL_EXPORTER_OTLP_HEADERS" => Some("x-api-key=secret".to_owned()),
        "OTEL_SERVICE_NAME" => Some("fraud".to_owned()),
        _ => None,
    });
    assert_eq!(errors, []);
    Exporter::new(settings.unwrap(), Handle::current())
}

/// Returns a sampled call of this path.
fn call(path: &str) -> CallRecord {
    let mut request = Request::new(());
    *request.uri_mut() = path.parse().unwrap();
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let headers = request.headers_mut();
    headers.insert("traceparent", parent.parse().unwrap());
    headers.insert("tracestate", HeaderValue::from_static("a=1"));
    let id = HeaderValue::from_static("an-invocation");
    headers.insert(crate::invocation::REQUEST_ID, id);
    let call = PendingCall::of_client(&request, false, Some(&Sampler::default()));
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-model-name", "wine"),
        ("x-model-version", "7"),
        ("server-timing", "infer;dur=1, load;dur=2;end=1700000000000"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    call.unwrap()
        .end(CallOutcome::of_response(StatusCode::OK, &headers, Some(2)))
}

/// Reads a request; returns its head and its body.
async fn read(stream: &mut TcpStream) -> (String, Value) {
    let mut received = Vec::new();
    loop {
        stream.read_buf(&mut received).await.unwrap();
        let text = String::from_utf8_lossy(&received);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        if let Ok(body) = serde_json::from_str(body) {
            return (head.to_ascii_lowercase(), body);
        }
    }
}

/// Accepts one connection, reads its request, and sends a response.
async fn respond(listener: &TcpListener, response: &str) -> (String, Value) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let request = read(&mut stream).await;
    stream.write_all(response.as_bytes()).await.unwrap();
    request
}

fn spans(body: &Value) -> &Vec<Value> {
    let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
    spans.as_array().unwrap()
}

fn paths(body: &Value) -> Vec<&str> {
    let attributes = spans(body).iter().flat_map(|span| {
        let attributes = span["attributes"].as_array();
        attributes.map_or(&[][..], |attributes| attributes)
    });
    let paths = attributes.filter(|attribute| attribute["key"] == "url.path");
    paths
        .map(|attribute| attribute["value"]["stringValue"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_call_is_a_span_with_its_stages() {
    let (listener, exporter) = collector().await;
    exporter.export(vec![call("/predict?query=1")]);
    let (head, body) = respond(&listener, ACCEPTED).await;
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    for line in ["x-api-key: secret", "content-type: application/json"] {
        assert!(head.lines().any(|header| header == line), "{head}");
    }
    let resource = &body["resourceSpans"][0]["resource"]["attributes"];
    assert_eq!(resource[0]["key"], "service.name");
    assert_eq!(resource[0]["value"]["stringValue"], "fraud");
    let [call, infer, load] = &spans(&body)[..] else {
        panic!("{body}");
    };
    let names = [call, infer, load].map(|span| span["name"].as_str().unwrap());
    assert_eq!(names, ["model-sidecar", "infer", "load"]);
    for span in [call, infer, load] {
        assert_eq!(span["traceId"], TRACE);
        assert_eq!(span["traceState"], "a=1");
        let id = span["spanId"].as_str().unwrap();
        assert!(id.len() == 16 && id.bytes().all(|digit| digit.is_ascii_hexdigit()));
    }
    assert_eq!(call["kind"], CLIENT);
    assert_eq!(call["parentSpanId"], PARENT);
    assert_eq!(infer["parentSpanId"], call["spanId"]);
    assert_eq!(load["parentSpanId"], PARENT);
    assert_eq!(load["endTimeUnixNano"], "1700000000000000000");
    assert_eq!(paths(&body), ["/predict"]);
    let attributes = call["attributes"].to_string();
    for part in [
        r#"{"key":"faas.invocation_id","value":{"stringValue":"an-invocation"}}"#,
        r#"{"key":"http.response.status_code","value":{"intValue":"200"}}"#,
        r#"{"key":"model.version","value":{"stringValue":"7"}}"#,
    ] {
        assert!(attributes.contains(part), "{attributes}");
    }
    exporter.drain(LIMIT).await;
    assert_eq!(exporter.0.queue().lost, 0);
}

#[tokio::test]
async fn calls_that_end_during_an_export_are_the_next_one() {
    let (listener, exporter) = collector().await;
    exporter.export(vec![call("/1")]);
    let (mut stream, _) = listener.accept().await.unwrap();
    read(&mut stream).await;
    for number in 0..=MAX_CALLS {
        exporter.export(vec![call(&format!("/{number}"))]);
    }
    assert_eq!(exporter.0.queue().lost, 1);
    stream.write_all(ACCEPTED.as_bytes()).await.unwrap();
    let (_, body) = respond(&listener, ACCEPTED).await;
    assert_eq!(paths(&body).len(), MAX_CALLS);
}

#[tokio::test]
async fn a_failed_export_is_sent_again_before_later_calls() {
    let (listener, exporter) = collector().await;
    exporter.export(vec![call("/1")]);
    for _ in 0..2 {
        let (_, body) = respond(&listener, UNAVAILABLE).await;
        assert_eq!(paths(&body), ["/1"]);
    }
    while exporter.0.queue().is_exporting {
        tokio::task::yield_now().await;
    }
    exporter.export(vec![call("/2")]);
    for expected in ["/1", "/2"] {
        let (_, body) = respond(&listener, ACCEPTED).await;
        assert_eq!(paths(&body), [expected]);
    }
    exporter.drain(LIMIT).await;
    assert!(exporter.0.queue().is_empty());
}

#[tokio::test]
async fn an_export_is_lost_after_three_attempts() {
    // Bound, so that no other test has the port, but not listening.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let exporter = exporter_to(socket.local_addr().unwrap());
    exporter.export(vec![call("/1"), call("/2")]);
    exporter.drain(LIMIT).await;
    assert_eq!(exporter.0.queue().lost, 0);
    exporter.drain(LIMIT).await;
    let queue = exporter.0.queue();
    assert!(queue.is_empty() && queue.is_failing && !queue.is_exporting);
    assert_eq!(queue.lost, 2);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (target, _) = collector().await;
    let (listener, exporter) = collector().await;
    exporter.export(vec![call("/1")]);
    let location = target.local_addr().unwrap();
    let redirect = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{location}/v1/traces\r\ncontent-length: 0\r\n\r\n"
    );
    respond(&listener, &redirect).await;
    exporter.drain(LIMIT).await;
    assert_eq!(exporter.0.queue().lost, 1);
    target.into_std().unwrap().accept().unwrap_err();
}

/// Sends `start` and then `part` for ever; returns once the peer closes the connection.
async fn flood(mut stream: TcpStream, start: &str, part: &str) {
    read(&mut stream).await;
    let part = part.repeat(1000);
    let mut sent = stream.write_all(start.as_bytes()).await;
    while sent.is_ok() {
        sent = stream.write_all(part.as_bytes()).await;
    }
}

#[tokio::test]
async fn an_endless_body_is_not_read() {
    let (listener, exporter) = collector().await;
    exporter.export(vec![call("/1")]);
    let (stream, _) = listener.accept().await.unwrap();
    let start = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    flood(stream, start, "4\r\nmore\r\n").await;
    exporter.drain(LIMIT).await;
    assert!(exporter.0.queue().is_empty());
    assert_eq!(exporter.0.queue().lost, 0);
}

#[tokio::test]
async fn an_endless_head_is_an_error() {
    let (listener, exporter) = collector().await;
    exporter.export(vec![call("/1")]);
    let attempts = async {
        for _ in 0..MAX_ATTEMPTS {
            let (stream, _) = listener.accept().await.unwrap();
            flood(stream, "HTTP/1.1 200 OK\r\n", "x-more: more\r\n").await;
        }
    };
    let drains = async {
        exporter.drain(LIMIT).await;
        exporter.drain(LIMIT).await;
    };
    tokio::join!(attempts, drains);
    assert_eq!(exporter.0.queue().lost, 1);
}

#[tokio::test(start_paused = true)]
async fn an_export_without_a_response_ends() {
    let (_listener, exporter) = collector().await;
    exporter.export(vec![call("/1")]);
    exporter.drain(LIMIT).await;
    exporter.drain(LIMIT).await;
    assert_eq!(exporter.0.queue().lost, 1);
}

#[tokio::test]
async fn a_request_to_the_server_has_a_server_span() {
    let (listener, exporter) = collector().await;
    let mut request = Request::new(());
    assert!(exporter.begin(&request).is_none());
    for (flags, is_sampled) in [("00", false), ("01", true)] {
        let parent = format!("00-{TRACE}-{PARENT}-{flags}");
        let headers = request.headers_mut();
        headers.insert("traceparent", parent.parse().unwrap());
        assert_eq!(exporter.begin(&request).is_some(), is_sampled);
    }
    for (status, error) in [(200, None), (400, None), (500, Some(ERROR))] {
        let call = exporter.begin(&request).unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        call.end(status, &HeaderMap::new(), None);
        let (_, body) = respond(&listener, ACCEPTED).await;
        let span = &spans(&body)[0];
        assert_eq!(span["kind"], SERVER);
        assert_eq!(span["parentSpanId"], PARENT);
        let code = span.get("status").map(|status| &status["code"]);
        assert_eq!(code, error.map(Value::from).as_ref(), "{status}");
        exporter.drain(LIMIT).await;
    }
}
