use serde_json::{Value, json};

use super::*;

fn read(messages: &[Value]) -> Vec<Message> {
    let records: Vec<Value> = messages
        .iter()
        .map(|body| json!({ "messageId": "m", "eventSource": "aws:sqs", "body": body.to_string() }))
        .collect();
    let raw = RawValue::from_string(json!(records).to_string()).unwrap();
    assert!(sent(&raw));
    batch(&raw).unwrap().messages
}

fn rows_of(body: &Value) -> Option<(String, usize, bool)> {
    let rows = read(std::slice::from_ref(body)).remove(0).rows;
    rows.map(|rows| (rows.text, rows.count, rows.by_name))
}

#[test]
fn unambiguous_rows_can_be_combined() {
    let row = |text: &str, count, by_name| Some((text.to_owned(), count, by_name));
    assert_eq!(
        rows_of(&json!({ "features": [1, 2] })),
        row("[1,2]", 1, false)
    );
    assert_eq!(
        rows_of(&json!({ "instances": [[1, null], [3, "x"]], "id": 7 })),
        row(r#"[1,null],[3,"x"]"#, 2, false)
    );
    assert_eq!(
        rows_of(&json!({ "features": [[[1], [2]]], "model": "iris" })),
        row("[[1],[2]]", 1, false)
    );
    assert_eq!(
        rows_of(&json!({ "features": { "age": 39, "job": "x" } })),
        row(r#"{"age":39,"job":"x"}"#, 1, true)
    );
    assert_eq!(
        rows_of(&json!({ "features": [{ "age": 39 }, { "age": [40] }] })),
        row(r#"{"age":39},{"age":[40]}"#, 2, true)
    );
}

#[test]
fn all_else_goes_alone() {
    for body in [
        json!({ "features": { "age": [39, 40] } }),
        json!({ "features": [] }),
        json!({ "features": [1, [2]] }),
        json!({ "features": [[1], { "age": 1 }] }),
        json!({ "features": 5 }),
        json!({ "features": [1], "instances": [1] }),
        json!({ "model": "iris", "inputs": [{ "name": "x" }], "features": [1] }),
        json!({ "rows": [1] }),
        json!([1, 2]),
        json!("text"),
    ] {
        assert_eq!(rows_of(&body), None, "{body}");
    }
}

#[test]
fn a_body_that_is_no_json_is_still_a_message() {
    let records =
        json!([{ "messageId": "m", "eventSource": "aws:sqs", "body": "{\"features\":[1," }]);
    let raw = RawValue::from_string(records.to_string()).unwrap();
    let message = batch(&raw).unwrap().messages.remove(0);
    assert_eq!(message.rows, None);
    assert_eq!(message.call.unwrap().target, "/predict");
}

/// Fair queues are standard queues with groups, without any order.
#[test]
fn groups_count_where_the_queue_keeps_their_order() {
    let group = |arn: &str| {
        let records = json!([{
            "messageId": "m", "eventSource": "aws:sqs", "body": "{}", "eventSourceARN": arn,
            "attributes": { "MessageGroupId": "g", "SentTimestamp": "1545082649183" },
        }]);
        let raw = RawValue::from_string(records.to_string()).unwrap();
        batch(&raw).unwrap().messages.remove(0).group
    };
    assert_eq!(
        group("arn:aws:sqs:us-east-2:123456789012:q.fifo").as_deref(),
        Some("g")
    );
    assert_eq!(group("arn:aws:sqs:us-east-2:123456789012:q"), None);
}

#[test]
fn records_of_others_are_not_messages() {
    for records in [
        json!([{ "eventSource": "aws:s3" }]),
        json!([{}]),
        json!([]),
        json!({ "eventSource": "aws:sqs" }),
        json!("aws:sqs"),
    ] {
        let raw = RawValue::from_string(records.to_string()).unwrap();
        assert!(!sent(&raw), "{records}");
    }
}
