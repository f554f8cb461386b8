use http::HeaderMap;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Reads an event on a function without a base path.
fn read(event: &str) -> (EventKind, Result<EventContent, Failure>) {
    super::read(event, &BasePath::default())
}

const REST: &str = include_str!("../../tests/events/rest.json");
const HTTP_V1: &str = include_str!("../../tests/events/http-v1.json");
const HTTP: &str = include_str!("../../tests/events/http.json");
const FUNCTION_URL: &str = include_str!("../../tests/events/function-url.json");
const ALB: &str = include_str!("../../tests/events/alb.json");
const ALB_MULTI: &str = include_str!("../../tests/events/alb-multi.json");
const S3: &str = include_str!("../../tests/events/s3.json");
const SQS: &str = include_str!("../../tests/events/sqs.json");

fn call(event: &str, kind: EventKind) -> Call {
    let (read_as, work) = read(event);
    assert_eq!(read_as, kind);
    match work.unwrap() {
        EventContent::Call(call) => call,
        EventContent::Batch(batch) => panic!("{batch:?}"),
    }
}

/// The event with some fields replaced; a null removes a value.
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

fn rejection(event: &str) -> String {
    let (kind, call) = read(event);
    assert!(kind.is_http());
    let failure = call.unwrap_err();
    assert_eq!(failure.status(), http::StatusCode::BAD_REQUEST);
    failure.to_string()
}

#[test]
fn a_rest_api_keeps_path_query_and_every_header_value() {
    let call = call(REST, EventKind::Rest);
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
    assert!(
        call(&event, EventKind::Rest)
            .target
            .starts_with("/prod/predict")
    );
}

#[test]
fn an_http_api_with_format_1_loses_its_stage() {
    assert_eq!(call(HTTP_V1, EventKind::Rest).target, "/predict");
}

#[test]
fn an_http_api_loses_its_stage_and_gives_binary_bodies() {
    let call = call(HTTP, EventKind::Http);
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
    let call = call(FUNCTION_URL, EventKind::Http);
    assert_eq!(call.target, "/predict");
    assert_eq!(&call.body[..], br#"{"features":[5.1,3.5,1.4,0.2]}"#);
}

#[test]
fn a_caller_cannot_set_the_platforms_headers() {
    let call = call(FUNCTION_URL, EventKind::Http);
    assert!(!call.headers.contains_key("lambda-runtime-deadline-ms"));
    assert!(!call.headers.contains_key("x-amzn-trace-id"));
}

#[test]
fn a_load_balancers_escapes_are_not_escaped_again() {
    let call = call(ALB, EventKind::Alb { multi: false });
    assert_eq!(call.target, "/models/caf%C3%A9/predict?query=1234%20ABCD");
    for hop in ["connection", "x-private", "host"] {
        assert!(!call.headers.contains_key(hop), "{hop}");
    }
    assert_eq!(values(&call.headers, "x-imforwards"), ["20"]);
}

#[test]
fn a_load_balancer_with_multi_value_headers_is_known_by_them() {
    let call = call(ALB_MULTI, EventKind::Alb { multi: true });
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
    let rest = call(&changed(REST, &nothing), EventKind::Rest);
    assert_eq!(rest.target, "/models/iris/predict");
    assert!(rest.body.is_empty() && rest.headers.is_empty());

    let bare = r#"{"requestContext":{"http":{"method":"GET"}}}"#;
    assert_eq!(call(bare, EventKind::Http).target, "/");
}

#[test]
fn a_wrong_event_is_the_callers_mistake_and_names_the_field() {
    let broken = changed(HTTP, &json!({ "body": "AAE*" }));
    assert!(
        rejection(&broken).starts_with("the body is not valid base64"),
        "{}",
        rejection(&broken)
    );
    let body = changed(HTTP, &json!({ "body": { "features": [1] } }));
    assert_eq!(
        rejection(&body),
        r#"event field body must be a string or null, not {"features":[1]}"#
    );
    let headers = changed(ALB, &json!({ "headers": ["a"] }));
    assert_eq!(
        rejection(&headers),
        r#"event field headers must be an object of strings, or null, not ["a"]"#
    );
    let method = changed(REST, &json!({ "httpMethod": "a b" }));
    assert_eq!(
        rejection(&method),
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
        (
            r#"{"path":"/x","httpMethod":"GET","features":[1]}"#,
            "/predict",
        ),
        (
            r#"{"model":"iris","features":[1],"features":[2]}"#,
            "/models/iris/predict",
        ),
        (r#"{"rows":[1],"path":"/x"}"#, "/predict"),
    ];
    for (payload, target) in cases {
        let call = call(payload, EventKind::Direct);
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
fn a_custom_domains_base_path_is_removed() {
    let event = changed(REST, &json!({ "path": "/scoring/models/iris/predict" }));
    let target = call(&event, EventKind::Rest).target;
    assert!(target.starts_with("/models/iris/predict?"), "{target}");

    let resource =
        json!({ "resource": "/predict", "path": "/a/b/predict", "pathParameters": null });
    let target = call(&changed(REST, &resource), EventKind::Rest).target;
    assert!(target.starts_with("/predict?"), "{target}");

    let mut root: Value = serde_json::from_str(REST).unwrap();
    root["resource"] = "/".into();
    root["path"] = "/scoring".into();
    root["pathParameters"] = Value::Null;
    root["requestContext"]["path"] = "/scoring".into();
    let target = call(&root.to_string(), EventKind::Rest).target;
    assert!(target.starts_with("/predict?"), "{target}");

    let route = json!({ "rawPath": "/scoring/v2/models/iris/infer" });
    let target = call(&changed(HTTP, &route), EventKind::Http).target;
    assert!(target.starts_with("/v2/models/iris/infer?"), "{target}");
}

#[test]
fn an_uninformative_resource_leaves_the_path_unchanged() {
    for odd in [
        json!({ "pathParameters": { "proxy": 5 } }),
        json!({ "pathParameters": "predict" }),
        json!({ "pathParameters": null }),
        json!({ "resource": ["/{proxy+}"] }),
        json!({ "resource": null }),
    ] {
        let target = call(&changed(REST, &odd), EventKind::Rest).target;
        assert!(
            target.starts_with("/models/iris/predict?"),
            "{odd}: {target}"
        );
    }
}

#[test]
fn the_configured_base_path_is_removed_from_every_kind_of_http_event() {
    let base_path = BasePath::new("/scoring");
    let no_resource = json!({ "path": "/scoring/predict", "resource": null });
    for (event, kind) in [
        (changed(REST, &no_resource), EventKind::Rest),
        (
            changed(
                HTTP_V1,
                &json!({ "path": "/dev/scoring/predict", "resource": "$default" }),
            ),
            EventKind::Rest,
        ),
        (
            changed(
                HTTP,
                &json!({ "rawPath": "/prod/scoring/predict", "routeKey": "$default" }),
            ),
            EventKind::Http,
        ),
        (
            changed(FUNCTION_URL, &json!({ "rawPath": "/scoring/predict" })),
            EventKind::Http,
        ),
        (
            changed(FUNCTION_URL, &json!({ "rawPath": "/scoring" })),
            EventKind::Http,
        ),
        (
            changed(ALB, &json!({ "path": "/scoring/predict" })),
            EventKind::Alb { multi: false },
        ),
        (
            r#"{"httpMethod":"POST","path":"/scoring/predict"}"#.to_owned(),
            EventKind::Rest,
        ),
        (
            r#"{"rawPath":"/scoring/predict","body":"x"}"#.to_owned(),
            EventKind::Http,
        ),
    ] {
        let (read_as, work) = super::read(&event, &base_path);
        assert_eq!(read_as, kind, "{event}");
        let EventContent::Call(call) = work.unwrap() else {
            panic!("{event}");
        };
        let path = call.target.split('?').next().unwrap();
        assert_eq!(path, "/predict", "{event}");
    }
}

#[test]
fn method_and_path_are_enough_for_http() {
    let bare = call(
        r#"{"httpMethod":"GET","path":"/v2/health/ready","body":"","isBase64Encoded":false}"#,
        EventKind::Rest,
    );
    assert_eq!(
        (bare.method, bare.target.as_str()),
        (Method::GET, "/v2/health/ready")
    );
    let bare = call(
        r#"{"httpMethod":"POST","path":"/predict","body":"{}","requestContext":null}"#,
        EventKind::Rest,
    );
    assert_eq!(
        (bare.target.as_str(), &bare.body[..]),
        ("/predict", &b"{}"[..])
    );

    for (event, method, target) in [
        (
            r#"{"rawPath":"/predict","body":"{}"}"#,
            Method::POST,
            "/predict",
        ),
        (r#"{"rawPath":"/v2"}"#, Method::GET, "/v2"),
        (
            r#"{"rawPath":"/v2","httpMethod":"HEAD"}"#,
            Method::HEAD,
            "/v2",
        ),
        (
            r#"{"rawPath":"/v2","routeKey":"OPTIONS /v2"}"#,
            Method::OPTIONS,
            "/v2",
        ),
        (
            r#"{"rawPath":"/predict","routeKey":"ANY /predict","body":"{}"}"#,
            Method::POST,
            "/predict",
        ),
        (
            r#"{"rawPath":"/predict","requestContext":{},"body":"{}"}"#,
            Method::POST,
            "/predict",
        ),
        (
            r#"{"path":"/v2","requestContext":{"http":{"method":"GET"}}}"#,
            Method::GET,
            "/v2",
        ),
        (
            r#"{"requestContext":{"http":{"method":"GET","path":"/v2"}}}"#,
            Method::GET,
            "/v2",
        ),
    ] {
        let bare = call(event, EventKind::Http);
        assert_eq!(
            (bare.method, bare.target.as_str()),
            (method, target),
            "{event}"
        );
    }
}

#[test]
fn an_event_of_too_many_headers_is_the_callers_mistake() {
    let headers: serde_json::Map<String, Value> = (0..40_000)
        .map(|at| (format!("x-{at}"), "1".into()))
        .collect();
    let event = json!({ "httpMethod": "GET", "path": "/v2", "headers": headers });
    assert!(rejection(&event.to_string()).contains("header values"));
}

#[test]
fn an_error_quotes_little_of_the_event() {
    let long = "é".repeat(100_000);
    for change in [
        json!({ "httpMethod": format!("{long} ") }),
        json!({ "headers": [long], "multiValueHeaders": null }),
    ] {
        let words = rejection(&changed(REST, &change));
        assert!(words.len() < 200, "{words}");
    }
}

#[test]
fn events_that_look_like_http_or_records_and_are_neither_are_named() {
    let mut authorizer: Value = serde_json::from_str(REST).unwrap();
    authorizer["type"] = "REQUEST".into();
    authorizer["methodArn"] = "arn:aws:execute-api:us-east-2:1:a/prod/GET/".into();
    let web_socket = json!({
        "requestContext": { "routeKey": "$default", "connectionId": "L0SM9", "eventType": "MESSAGE" },
        "headers": {}, "body": "{}", "isBase64Encoded": false,
    });
    for (event, service) in [
        (authorizer.to_string(), "authorizer"),
        (
            r#"{"type":"TOKEN","methodArn":"a"}"#.to_owned(),
            "authorizer",
        ),
        (web_socket.to_string(), "WebSocket"),
        (S3.to_owned(), "Amazon S3"),
    ] {
        let (kind, work) = read(&event);
        assert_eq!(kind, EventKind::Direct);
        let failure = work.unwrap_err();
        assert_eq!(failure.error_type(), "Model.BadRequest");
        assert!(failure.to_string().contains(service), "{failure}");
    }
}

#[test]
fn messages_of_a_queue_are_known_by_their_source() {
    let (kind, work) = read(SQS);
    assert_eq!(kind, EventKind::Queue);
    let EventContent::Batch(batch) = work.unwrap() else {
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
fn a_message_without_an_id_fails_the_event_and_names_the_missing_field() {
    let event = changed(
        SQS,
        &json!({ "Records": [{ "eventSource": "aws:sqs", "body": "{}" }] }),
    );
    let (kind, work) = read(&event);
    assert_eq!(kind, EventKind::Queue);
    let words = work.unwrap_err().to_string();
    assert!(
        words.contains("Records") && words.contains("messageId"),
        "{words}"
    );
}

proptest! {
    /// Text and bytes are unchanged after the detour through JSON.
    #[test]
    fn bodies_survive(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        use base64::Engine as _;
        use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};

        let plain = changed(HTTP, &json!({ "body": text, "isBase64Encoded": false }));
        prop_assert_eq!(&call(&plain, EventKind::Http).body[..], text.as_bytes());
        for encoded in [BASE64_STANDARD.encode(&bytes), BASE64_STANDARD_NO_PAD.encode(&bytes)] {
            let binary = changed(HTTP, &json!({ "body": encoded }));
            prop_assert_eq!(&call(&binary, EventKind::Http).body[..], &bytes[..]);
        }
    }

    /// No payload, JSON or not, causes a panic.
    #[test]
    fn any_text_is_read(text in any::<String>()) {
        let (kind, _) = read(&text);
        prop_assert_eq!(kind, EventKind::Direct);
    }
}
