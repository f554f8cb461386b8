use http::Method;
use serde_json::{Value, json};

use super::Call;
use crate::event::{self, BasePath, EventContent, EventKind};

/// AWS's sample of a scheduled event.
const SCHEDULED: &str = include_str!("../../../tests/events/eventbridge.json");

fn scheduled(changes: Value) -> String {
    let mut event: Value = serde_json::from_str(SCHEDULED).unwrap();
    if let Value::Object(changes) = changes {
        event.as_object_mut().unwrap().extend(changes);
    }
    event.to_string()
}

fn call(event: &str) -> Call {
    let (kind, work) = event::read(event, &BasePath::default());
    assert_eq!(kind, EventKind::Direct);
    match work.unwrap() {
        EventContent::Call(call) => call,
        EventContent::Batch(batch) => panic!("{batch:?}"),
    }
}

#[test]
fn a_warm_up_waits_for_the_model_and_infers_nothing() {
    for event in [
        SCHEDULED.to_owned(),
        scheduled(json!({ "source": "aws.scheduler" })),
        r#"{"source":"serverless-plugin-warmup"}"#.to_owned(),
        r#" {"warmer":true,"concurrency":3}"#.to_owned(),
    ] {
        let call = call(&event);
        assert_eq!(
            (call.method, call.target.as_str()),
            (Method::GET, "/v2/health/ready"),
            "{event}"
        );
        assert_eq!(call.headers["prefer"], "wait=900");
    }
}

#[test]
fn a_schedule_that_sends_something_to_infer_is_no_warm_up() {
    for field in ["features", "instances", "inputs"] {
        for value in [json!([[1, 2]]), json!(null)] {
            let event = scheduled(json!({ field: value, "warmer": true }));
            let call = call(&event);
            assert_eq!(
                (call.method, call.target.as_str()),
                (Method::POST, "/predict"),
                "{event}"
            );
        }
    }
    for event in [
        r#"{"warmer":1}"#,
        r#"{"warmer":"true"}"#,
        r#"{"warmer":false}"#,
        r#"{"source":"warmup"}"#,
    ] {
        assert_eq!(call(event).method, Method::POST, "{event}");
    }
    // The source EventBridge alone does not make a warm-up.
    let state = scheduled(json!({ "detail-type": "EC2 Instance State-change Notification" }));
    let (_, work) = event::read(&state, &BasePath::default());
    assert!(work.is_err());
}
