use http::HeaderMap;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const REST: &str = include_str!("../../tests/events/rest.json");
const HTTP_V1: &str = include_str!("../../tests/events/http-v1.json");
const HTTP: &str = include_str!("../../tests/events/http.json");
const FUNCTION_URL: &str = include_str!("../../tests/events/function-url.json");
const ALB: &str = include_str!("../../tests/events/alb.json");
const ALB_MULTI: &str = include_str!("../../tests/events/alb-multi.json");
const SQS: &str = include_str!("../../tests/events/sqs.json");
const S3: &str = include_str!("../../tests/events/s3.json");
const EVENTBRIDGE: &str = include_str!("../../tests/events/eventbridge.json");

fn call(event: &str, kind: Kind) -> Call {
    let (read_as, work) = read(event);
    assert_eq!(read_as, kind);
    match work.unwrap() {
        Work::Call(call) => call,
        Work::Batch(batch) => panic!("{batch:?}"),
    }
}

/// The event with some of its fields replaced; a null takes a field's value away.
fn changed(event: &str, changes: &Value) -> String {
    let mut event: Value = serde_json::from_str(event).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        event[name] = value.clone();
    }
    event.to_string()
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect()
}

fn refusal(event: &str) -> String {
    let (kind, call) = read(event);
    assert!(kind.is_http());
    let failure = call.unwrap_err();
    assert_eq!(failure.status(), http::StatusCode::BAD_REQUEST);
    failure.to_string()
}

#[test]
fn a_rest_api_keeps_path_query_and_every_header_value() {
    let call = call(REST, Kind::Rest);
    assert_eq!(call.method, Method::POST);
    assert_eq!(
        call.target,
        "/models/iris/predict?explain=a%20b&tag=1&tag=2"
    );
    assert_eq!(&call.body[..], br#"{"features":[5.1,3.5,1.4,0.2]}"#);
    assert_eq!(values(&call.headers, "x-custom"), ["one", "two"]);
    assert_eq!(values(&call.headers, "content-type"), ["application/json"]);
    for absent in ["host", "x-amzn-trace-id", "accept-encoding"] {
        assert!(!call.headers.contains_key(absent), "{absent}");
    }
}

#[test]
fn a_rest_apis_path_may_begin_like_its_stage() {
    let event = changed(REST, &json!({ "path": "/prod/predict" }));
    assert!(call(&event, Kind::Rest).target.starts_with("/prod/predict"));
}

#[test]
fn an_http_api_with_format_1_loses_its_stage() {
    assert_eq!(call(HTTP_V1, Kind::Rest).target, "/predict");
}

#[test]
fn an_http_api_loses_its_stage_and_gives_binary_bodies() {
    let call = call(HTTP, Kind::Http);
    assert_eq!(
        call.target,
        "/v2/models/iris/infer?parameter1=value1&parameter1=value2&parameter2=a%20b"
    );
    assert_eq!(&call.body[..], [0, 1, 2, 3, 0xff, 0xfe, 0xfd, 0xfc]);
    assert_eq!(values(&call.headers, "cookie"), ["cookie1=1; cookie2=2"]);
    assert_eq!(
        values(&call.headers, "inference-header-content-length"),
        ["0"]
    );
    assert_eq!(values(&call.headers, "accept-encoding"), ["gzip"]);
    assert!(!call.headers.contains_key("content-length"));
}

#[test]
fn a_function_url_posted_at_its_root_means_predict() {
    let call = call(FUNCTION_URL, Kind::Http);
    assert_eq!(call.target, "/predict");
    assert_eq!(&call.body[..], br#"{"features":[5.1,3.5,1.4,0.2]}"#);
}

#[test]
fn a_caller_cannot_set_the_platforms_headers() {
    let call = call(FUNCTION_URL, Kind::Http);
    assert!(!call.headers.contains_key("lambda-runtime-deadline-ms"));
    assert!(!call.headers.contains_key("x-amzn-trace-id"));
}

#[test]
fn a_load_balancers_escapes_are_not_escaped_again() {
    let call = call(ALB, Kind::Alb { multi: false });
    assert_eq!(call.target, "/models/caf%C3%A9/predict?query=1234%20ABCD");
    for hop in ["connection", "x-private", "host"] {
        assert!(!call.headers.contains_key(hop), "{hop}");
    }
    assert_eq!(values(&call.headers, "x-imforwards"), ["20"]);
}

#[test]
fn a_load_balancer_with_multi_value_headers_is_known_by_them() {
    let call = call(ALB_MULTI, Kind::Alb { multi: true });
    assert_eq!(call.method, Method::GET);
    assert_eq!(call.target, "/v2/health/ready?myKey=val1&myKey=val2");
    assert_eq!(
        values(&call.headers, "accept"),
        ["text/html", "application/json"]
    );
    assert!(call.body.is_empty());
}

#[test]
fn nulls_and_missing_fields_are_nothing_to_stumble_over() {
    let nothing = json!({
        "headers": null, "multiValueHeaders": null, "queryStringParameters": null,
        "multiValueQueryStringParameters": null, "body": null, "isBase64Encoded": null,
    });
    let rest = call(&changed(REST, &nothing), Kind::Rest);
    assert_eq!(rest.target, "/models/iris/predict");
    assert!(rest.body.is_empty() && rest.headers.is_empty());

    let bare = r#"{"requestContext":{"http":{"method":"GET"}}}"#;
    assert_eq!(call(bare, Kind::Http).target, "/");
}

#[test]
fn a_wrong_event_is_the_callers_mistake_and_names_the_field() {
    let broken = changed(HTTP, &json!({ "body": "AAE*" }));
    assert!(
        refusal(&broken).starts_with("the body is not valid base64"),
        "{}",
        refusal(&broken)
    );
    let body = changed(HTTP, &json!({ "body": { "features": [1] } }));
    assert_eq!(
        refusal(&body),
        r#"event field body must be a string or null, not {"features":[1]}"#
    );
    let headers = changed(ALB, &json!({ "headers": ["a"] }));
    assert_eq!(
        refusal(&headers),
        r#"event field headers must be an object of strings, or null, not ["a"]"#
    );
    let method = changed(REST, &json!({ "httpMethod": "a b" }));
    assert_eq!(
        refusal(&method),
        r#"event field httpMethod must be an HTTP method, not "a b""#
    );
}

#[test]
fn a_direct_payload_goes_unchanged_where_it_points() {
    let cases = [
        (r#"{"features":[1]}"#, "/predict"),
        (
            r#" {"features":[1],"model":"iris"} "#,
            "/models/iris/predict",
        ),
        (
            r#"{"inputs":[{"name":"x"}],"model":"iris"}"#,
            "/v2/models/iris/infer",
        ),
        (
            r#"{"inputs":{"x":[1]},"model":"iris"}"#,
            "/models/iris/predict",
        ),
        (r#"{"inputs":[{"name":"x"}]}"#, "/predict"),
        (r#"{"model":5,"age":[1]}"#, "/predict"),
        (
            r#"{"model":"a/b \"c\"","features":[1]}"#,
            "/models/a%2Fb%20%22c%22/predict",
        ),
        ("[1,2]", "/predict"),
        ("null", "/predict"),
        (r#""text""#, "/predict"),
        (r#"{"path":"/x","httpMethod":"GET","body":"y"}"#, "/predict"),
    ];
    for (payload, target) in cases {
        let call = call(payload, Kind::Direct);
        assert_eq!(
            (call.method, call.target.as_str()),
            (Method::POST, target),
            "{payload}"
        );
        assert_eq!(&call.body[..], payload.as_bytes());
        assert_eq!(values(&call.headers, "content-type"), ["application/json"]);
    }
    assert!(read(r#"{"model":"","features":[1]}"#).1.is_err());
}

#[test]
fn events_of_other_services_are_direct() {
    for event in [S3, EVENTBRIDGE] {
        assert_eq!(call(event, Kind::Direct).target, "/predict");
    }
}

#[test]
fn messages_of_a_queue_are_known_by_their_source() {
    let (kind, work) = read(SQS);
    assert_eq!(kind, Kind::Queue);
    let Work::Batch(batch) = work.unwrap() else {
        panic!("not a batch");
    };
    let [message] = &batch.messages[..] else {
        panic!("{batch:?}");
    };
    assert_eq!(message.id, "059f36b4-87a3-44ab-83d2-661975830a7d");
    assert_eq!(message.group, None);
    let call = message.call.as_ref().unwrap();
    assert_eq!(call.target, "/predict");
    assert_eq!(&call.body[..], br#"{"features":[1,2]}"#);
}

#[test]
fn a_message_without_an_id_fails_the_event_and_names_what_is_missing() {
    let event = changed(
        SQS,
        &json!({ "Records": [{ "eventSource": "aws:sqs", "body": "{}" }] }),
    );
    let (kind, work) = read(&event);
    assert_eq!(kind, Kind::Queue);
    let words = work.unwrap_err().to_string();
    assert!(
        words.contains("Records") && words.contains("messageId"),
        "{words}"
    );
}

proptest! {
    /// Text and bytes come out as they went in, whatever JSON made of them on the way.
    #[test]
    fn bodies_survive(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        use base64::Engine as _;
        use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};

        let plain = changed(HTTP, &json!({ "body": text, "isBase64Encoded": false }));
        prop_assert_eq!(&call(&plain, Kind::Http).body[..], text.as_bytes());
        for encoded in [BASE64_STANDARD.encode(&bytes), BASE64_STANDARD_NO_PAD.encode(&bytes)] {
            let binary = changed(HTTP, &json!({ "body": encoded }));
            prop_assert_eq!(&call(&binary, Kind::Http).body[..], &bytes[..]);
        }
    }

    /// No payload, JSON or not, brings the handler down.
    #[test]
    fn any_text_is_read(text in any::<String>()) {
        let (kind, _) = read(&text);
        prop_assert_eq!(kind, Kind::Direct);
    }
}
