use http::header::HeaderName;
use serde_json::{Value, json};

use super::*;

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> SidecarResponse {
    let headers = headers
        .iter()
        .map(|(name, value)| {
            (
                name.parse::<HeaderName>().unwrap(),
                value.parse::<HeaderValue>().unwrap(),
            )
        })
        .fold(HeaderMap::new(), |mut all, (name, value)| {
            all.append(name, value);
            all
        });
    SidecarResponse {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        body: body.into(),
    }
}

fn prediction() -> SidecarResponse {
    let headers = [
        ("content-type", "application/json"),
        ("content-length", "18"),
        ("connection", "keep-alive"),
        ("date", "Tue, 24 Nov 2026 00:00:00 GMT"),
        ("server-timing", "queue;dur=0.1"),
        ("server-timing", "infer;dur=2"),
        ("x-model-name", "iris"),
        ("x-model-version", "7"),
    ];
    answer(200, &headers, r#"{"prediction":[0]}"#)
}

fn as_json(kind: EventKind, answer: SidecarResponse) -> Value {
    serde_json::to_value(success(kind, answer).unwrap()).unwrap()
}

#[test]
fn a_rest_api_gets_single_and_repeated_headers_apart() {
    let expected = json!({
        "statusCode": 200,
        "headers": { "content-type": "application/json", "x-model-name": "iris", "x-model-version": "7" },
        "multiValueHeaders": { "server-timing": ["queue;dur=0.1", "infer;dur=2"] },
        "body": r#"{"prediction":[0]}"#,
        "isBase64Encoded": false,
    });
    assert_eq!(as_json(EventKind::Rest, prediction()), expected);
}

#[test]
fn an_http_api_gets_joined_headers_and_cookies_apart() {
    let mut with_cookies = prediction();
    with_cookies
        .headers
        .append("set-cookie", HeaderValue::from_static("a=1"));
    with_cookies
        .headers
        .append("set-cookie", HeaderValue::from_static("b=2"));
    let expected = json!({
        "statusCode": 200,
        "headers": {
            "content-type": "application/json",
            "server-timing": "queue;dur=0.1, infer;dur=2",
            "x-model-name": "iris",
            "x-model-version": "7",
        },
        "cookies": ["a=1", "b=2"],
        "body": r#"{"prediction":[0]}"#,
        "isBase64Encoded": false,
    });
    assert_eq!(as_json(EventKind::Http, with_cookies), expected);
}

#[test]
fn a_load_balancer_gets_one_form_of_headers_and_a_description() {
    let single = as_json(EventKind::Alb { multi: false }, prediction());
    assert_eq!(single["statusDescription"], "200 OK");
    assert_eq!(single["headers"]["x-model-name"], "iris");
    assert!(single.get("multiValueHeaders").is_none());

    let multi = as_json(EventKind::Alb { multi: true }, prediction());
    assert_eq!(multi["multiValueHeaders"]["x-model-name"], json!(["iris"]));
    assert_eq!(
        multi["multiValueHeaders"]["server-timing"],
        json!(["queue;dur=0.1", "infer;dur=2"])
    );
    assert!(multi.get("headers").is_none());
}

#[test]
fn a_status_passes_through_to_callers_over_http() {
    for status in [400, 404, 413, 415, 422, 429, 500, 503, 504] {
        let error_response = answer(
            status,
            &[("content-type", "application/json")],
            r#"{"error":"why"}"#,
        );
        let reply = as_json(EventKind::Http, error_response);
        assert_eq!(reply["statusCode"], status);
        assert_eq!(reply["body"], r#"{"error":"why"}"#);
    }
}

#[test]
fn a_body_is_base64_unless_it_is_text_all_through() {
    let json = ("content-type", "application/json; charset=utf-8");
    let cases = [
        (vec![json], &b"{}"[..], false),
        (
            vec![("content-type", "application/problem+json")],
            b"{}",
            false,
        ),
        (vec![("content-type", "text/plain")], b"ok", false),
        (vec![], b"", false),
        (
            vec![("content-type", "application/octet-stream")],
            b"looks like text",
            true,
        ),
        (
            vec![json, ("content-encoding", "gzip")],
            b"looks like text",
            true,
        ),
        (
            vec![json, ("inference-header-content-length", "2")],
            b"{}looks like text",
            true,
        ),
        (vec![json], b"\xff\xfe", true),
    ];
    for (headers, body, base64) in cases {
        let reply = as_json(
            EventKind::Rest,
            answer(200, &headers, Bytes::from_static(body)),
        );
        assert_eq!(reply["isBase64Encoded"], base64, "{headers:?}");
        let text = reply["body"].as_str().unwrap();
        let back = if base64 {
            BASE64_STANDARD.decode(text).unwrap()
        } else {
            text.as_bytes().to_vec()
        };
        assert_eq!(back, body, "{headers:?}");
    }
}

#[test]
fn a_direct_caller_gets_the_json_to_the_byte() {
    let text = "{\"prediction\": [1.10, 2e3],\n \"model\":\"iris\"}";
    let reply = success(EventKind::Direct, answer(200, &[], text)).unwrap();
    assert_eq!(serde_json::to_string(&reply).unwrap(), text);
}

#[test]
fn an_error_of_a_direct_invocation_has_the_sidecars_message() {
    let error_response = answer(503, &[], r#"{"error":"model iris is still loading"}"#);
    let failure = success(EventKind::Direct, error_response).unwrap_err();
    assert_eq!(failure.error_type(), "Model.NotReady");
    assert_eq!(failure.to_string(), "model iris is still loading");

    let wordless = success(EventKind::Direct, answer(500, &[], "")).unwrap_err();
    assert_eq!(
        wordless.to_string(),
        "the model sidecar responded with 500 Internal Server Error"
    );
    let binary = success(
        EventKind::Direct,
        answer(200, &[], Bytes::from_static(b"\xff")),
    )
    .unwrap_err();
    assert_eq!(binary.error_type(), "Model.BadGateway");
}

#[test]
fn a_response_is_rejected_exactly_when_its_serialised_form_exceeds_the_limit() {
    let json = [("content-type", "application/json")];
    let around = |kind: EventKind| serialised_len(&http(kind, answer(200, &json, "")));
    let limit = MAX_RESPONSE - around(EventKind::Http);
    assert!(success(EventKind::Http, answer(200, &json, vec![b'a'; limit])).is_ok());
    assert!(matches!(
        success(EventKind::Http, answer(200, &json, vec![b'a'; limit + 1])),
        Err(Failure::TooLarge)
    ));
    // Quotes take two bytes each.
    assert!(success(EventKind::Http, answer(200, &json, vec![b'"'; limit / 2])).is_ok());
    assert!(matches!(
        success(
            EventKind::Http,
            answer(200, &json, vec![b'"'; limit / 2 + 1])
        ),
        Err(Failure::TooLarge)
    ));

    let reply = serde_json::to_value(failure(EventKind::Http, &Failure::TooLarge)).unwrap();
    assert_eq!(reply["statusCode"], 413);
    assert!(reply["body"].as_str().unwrap().contains("6291556 bytes"));
}
