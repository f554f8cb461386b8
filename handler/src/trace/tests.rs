//! Calls of a transport, and the datagrams that a daemon receives.

use std::net::UdpSocket;
use std::time::Duration;

use http::header::HeaderMap;
use http::{Method, StatusCode};
use serde_json::Value;

use super::*;
use crate::invocation::TRACE_ID;

const ROOT: &str = "1-5759e988-bd862e3fe1be46a994272793";
const PARENT: &str = "53995c3f42cd8ad8";

/// Transport with one response.
#[derive(Clone, Debug)]
struct Fixed(Result<(StatusCode, HeaderMap), ()>);

impl Transport for Fixed {
    async fn exchange(
        &self,
        _: Request<Bytes>,
        limit: TimeLimit,
    ) -> Result<SidecarResponse, Failure> {
        let (status, headers) = self.0.clone().map_err(|()| limit.passed())?;
        Ok(SidecarResponse {
            status,
            headers,
            body: Bytes::from_static(b"{}"),
        })
    }
}

/// Makes a call with this header, and returns the received documents.
async fn sent(inner: Fixed, path: &str, header: &str) -> Vec<Value> {
    let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = daemon.local_addr().unwrap().to_string();
    let tracer = Tracer::new(Some(&address), None).unwrap();
    let transport = Traced::new(inner, Some(Arc::clone(&tracer)));
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().unwrap();
    let header = header.parse().unwrap();
    request.headers_mut().insert(TRACE_ID, header);
    let limit = TimeLimit::starting_now(Duration::from_secs(1));
    let _ = transport.exchange(request, limit).await;
    daemon.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 1 << 16];
    assert!(daemon.recv(&mut buffer).is_err(), "sent before the flush");
    let mut documents = Vec::new();
    tracer.flush();
    // A datagram to the same machine is in the buffer when the call returns.
    while let Ok(length) = daemon.recv(&mut buffer) {
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let (first, document) = text.split_once('\n').unwrap();
        assert_eq!(first, r#"{"format":"json","version":1}"#);
        documents.push(serde_json::from_str(document).unwrap());
    }
    documents
}

fn sampled() -> String {
    format!("Root={ROOT};Parent={PARENT};Sampled=1")
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let fields = fields.iter();
    let parsed = fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    parsed.collect()
}

fn names(subsegments: &Value) -> Vec<&str> {
    let all = subsegments.as_array().unwrap().iter();
    all.map(|one| one["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_sampled_call_is_one_subsegment_with_its_stages() {
    let response = headers(&[
        ("x-model-name", "wine"),
        ("x-model-version", "7"),
        (
            "server-timing",
            "queue;dur=0.010, decode;dur=0.020, infer;dur=0, encode;dur=0.001",
        ),
    ]);
    let fixed = Fixed(Ok((StatusCode::OK, response)));
    let documents = sent(fixed, "/v2/models/wine/infer?secret=1", &sampled()).await;
    assert_eq!(documents.len(), 1);
    let call = &documents[0];
    assert_eq!(call["name"], "model-sidecar");
    assert_eq!(call["type"], "subsegment");
    assert_eq!(call["trace_id"], ROOT);
    assert_eq!(call["parent_id"], PARENT);
    assert_eq!(call["annotations"]["model"], "wine");
    assert_eq!(call["annotations"]["model_version"], "7");
    assert_eq!(call["http"]["request"]["method"], "POST");
    assert_eq!(
        call["http"]["request"]["url"],
        "http://localhost/v2/models/wine/infer"
    );
    assert_eq!(call["http"]["response"]["status"], 200);
    assert_eq!(call["http"]["response"]["content_length"], 2);
    assert!(call.get("fault").is_none() && call.get("error").is_none());
    assert_eq!(
        names(&call["subsegments"]),
        ["decode", "queue", "infer", "encode"]
    );
}

#[tokio::test]
async fn a_load_is_a_subsegment_for_each_step() {
    let timing = "infer;dur=1, fetch;dur=800.5;end=1700000000900, load;dur=95;end=1700000000995";
    let fixed = Fixed(Ok((StatusCode::OK, headers(&[("server-timing", timing)]))));
    let documents = sent(fixed, "/predict", &sampled()).await;
    assert_eq!(
        names(&documents.clone().into()),
        ["model-sidecar", "fetch", "load"]
    );
    let fetch = &documents[1];
    assert_eq!(fetch["parent_id"], PARENT);
    for (field, expected) in [
        ("start_time", 1_700_000_000.099_5),
        ("end_time", 1_700_000_000.9),
    ] {
        let time = fetch[field].as_f64().unwrap();
        assert!((time - expected).abs() < 1e-6, "{field}: {time}");
    }
}

#[tokio::test]
async fn failures_have_x_rays_flags() {
    for (status, flags) in [
        (400, &["error"][..]),
        (429, &["error", "throttle"]),
        (503, &["fault"]),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let fixed = Fixed(Ok((status, HeaderMap::new())));
        let documents = sent(fixed, "/predict", &sampled()).await;
        for flag in ["error", "throttle", "fault"] {
            let expected = flags.contains(&flag).then_some(Value::Bool(true));
            assert_eq!(documents[0].get(flag), expected.as_ref(), "{status} {flag}");
        }
    }
    let documents = sent(Fixed(Err(())), "/predict", &sampled()).await;
    assert_eq!(documents[0]["fault"], true);
    let exception = &documents[0]["cause"]["exceptions"][0];
    assert_eq!(exception["type"], "Model.Timeout");
    assert!(exception["message"].as_str().unwrap().contains("1000 ms"));
    assert!(documents[0]["http"].get("response").is_none());
}

#[tokio::test]
async fn nothing_is_sent_for_an_invocation_that_is_not_sampled() {
    let fixed = Fixed(Ok((StatusCode::OK, HeaderMap::new())));
    let header = sampled().replace("Sampled=1", "Sampled=0");
    assert_eq!(sent(fixed, "/predict", &header).await, [Value::Null; 0]);
}

#[tokio::test]
async fn a_document_is_bounded_in_size() {
    let long = "~".repeat(60_000);
    let response = headers(&[
        ("x-model-name", &long),
        ("x-model-version", &long),
        (
            "server-timing",
            &format!("infer;dur=1, fetch;dur=1;end=1700000000900, other{long}"),
        ),
    ]);
    let fixed = Fixed(Ok((StatusCode::OK, response)));
    let documents = sent(fixed, &format!("/{}", "a".repeat(60_000)), &sampled()).await;
    assert_eq!(names(&documents.clone().into()), ["model-sidecar"]);
    assert!(documents.iter().all(|one| one.to_string().len() < 8 << 10));
}

#[tokio::test]
async fn calls_between_two_flushes_are_bounded_in_number() {
    let tracer = Tracer::new(Some("127.0.0.1:9"), None).unwrap();
    let fixed = Fixed(Ok((StatusCode::OK, HeaderMap::new())));
    let transport = Traced::new(fixed, Some(Arc::clone(&tracer)));
    for _ in 0..=MAX_CALLS {
        let mut request = Request::new(Bytes::new());
        let trace = sampled().parse().unwrap();
        request.headers_mut().insert(TRACE_ID, trace);
        let limit = TimeLimit::starting_now(Duration::from_secs(1));
        transport.exchange(request, limit).await.unwrap();
    }
    assert_eq!(tracer.calls().len(), MAX_CALLS);
}

#[test]
fn without_an_address_there_is_no_tracer() {
    assert!(Tracer::new(None, None).is_none());
    assert!(Tracer::new(Some("xray-daemon:2000"), None).is_none());
}
