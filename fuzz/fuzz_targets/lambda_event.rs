//! Lambda events in the handler: always a kind and a valid call, and for messages of a queue
//! unchanged rows.
//!
//! JSON input is used as the event. If the first byte is a control character, it selects a kind of
//! event. The rest is text in it: a path, a header, a body, a message.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use model_handler::event::{self, BasePath, Batch, Call, EventContent, EventKind};
use serde_json::{Value, json};

static BASE_PATH: LazyLock<BasePath> = LazyLock::new(|| BasePath::new("/scoring"));

/// Headers of the caller's connection, and headers reserved for the platform.
const NEVER_PASSED_ON: [&str; 8] = [
    "connection",
    "transfer-encoding",
    "content-length",
    "host",
    "expect",
    "lambda-runtime-deadline-ms",
    "lambda-runtime-aws-request-id",
    "x-amzn-trace-id",
];

fuzz_target!(|text: &str| {
    match text.as_bytes().first() {
        Some(&which) if which < b' ' && !which.is_ascii_whitespace() => {
            let made = made(which, &text[1..]).to_string();
            check(&made, made_kind(which));
        }
        // The runtime passes JSON only.
        _ if serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok() => {
            check(text, None);
        }
        _ => {}
    }
});

fn check(event: &str, expected: Option<EventKind>) {
    let (kind, work) = event::read(event, &BASE_PATH);
    if let Some(expected) = expected {
        assert_eq!(kind, expected, "{event}");
    }
    match work {
        Ok(EventContent::Call(call)) => check_call(&call),
        Ok(EventContent::Batch(batch)) => check_batch(&batch),
        Err(failure) => {
            assert!(failure.status().is_client_error(), "{failure}");
            assert!(failure.to_string().len() < 1_000, "{failure}");
        }
    }
}

/// An event that contains this text.
fn made(which: u8, text: &str) -> Value {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    match which {
        1 => json!({ "httpMethod": "POST", "path": first, "body": rest }),
        2 => json!({
            "resource": "/{proxy+}", "path": format!("/scoring/{first}"), "httpMethod": "POST",
            "pathParameters": { "proxy": first }, "body": rest, "requestContext": { "path": rest },
        }),
        3 => json!({
            "version": "1.0", "resource": first, "path": rest, "httpMethod": "GET", "pathParameters": { "a": first },
            "requestContext": { "stage": first },
        }),
        4 => json!({
            "rawPath": first, "rawQueryString": rest, "routeKey": "ANY /{proxy+}", "pathParameters": { "proxy": rest },
            "requestContext": { "stage": "prod", "http": { "method": "POST" } },
        }),
        5 => {
            json!({ "rawPath": "/predict", "body": first, "isBase64Encoded": true, "cookies": [rest] })
        }
        6 => json!({
            "path": first, "httpMethod": "GET", "queryStringParameters": { first: rest },
            "requestContext": { "elb": {} }, "headers": { first: rest, "connection": first },
        }),
        7 => json!({
            "path": "/predict", "httpMethod": "POST", "multiValueHeaders": { first: [rest, first], "Connection": [rest] },
            "multiValueQueryStringParameters": { first: [rest, first] }, "requestContext": { "elb": {} },
        }),
        8 => {
            let messages = text.split('\n').enumerate().map(|(at, body)| {
                json!({ "messageId": at.to_string(), "eventSource": "aws:sqs", "body": body })
            });
            json!({ "Records": messages.collect::<Vec<_>>() })
        }
        9.. => json!({
            "source": first, "detail-type": "Scheduled Event", "Records": [{ "eventSource": first, "EventSource": rest }],
            "eventSource": rest, "warmer": first.is_empty(),
        }),
        0 => json!({ "model": first, "inputs": [rest] }),
    }
}

fn made_kind(which: u8) -> Option<EventKind> {
    match which {
        1..=3 => Some(EventKind::Rest),
        4 | 5 => Some(EventKind::Http),
        6 => Some(EventKind::Alb { multi: false }),
        7 => Some(EventKind::Alb { multi: true }),
        8 => Some(EventKind::Queue),
        0 => Some(EventKind::Direct),
        // A text may be the source name of a queue.
        _ => None,
    }
}

fn check_call(call: &Call) {
    let target: http::Uri = call.target.parse().expect("a target");
    assert_eq!(
        target.path_and_query().map(http::uri::PathAndQuery::as_str),
        Some(call.target.as_str())
    );
    for name in NEVER_PASSED_ON {
        assert!(!call.headers.contains_key(name), "{name}");
    }
}

fn check_batch(batch: &Batch) {
    assert!(!batch.messages.is_empty());
    for message in &batch.messages {
        if let Ok(call) = &message.call {
            check_call(call);
        }
        if let Some(rows) = &message.rows {
            let list = format!("[{}]", rows.text);
            let list: Vec<Value> = serde_json::from_str(&list).expect("rows in JSON");
            assert_eq!(list.len(), rows.count);
            assert!(list.iter().all(|row| row.is_object() == rows.by_name));
        }
    }
}
