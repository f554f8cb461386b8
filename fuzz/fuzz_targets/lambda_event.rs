//! Events as Lambda hands them to the handler: always a kind, a call that can be made, and for messages of a queue
//! rows that are what they were.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model_handler::event::{self, Batch, Call, Work};
use serde_json::Value;

fuzz_target!(|event: &str| {
    // The runtime hands over JSON alone.
    if serde_json::from_str::<&serde_json::value::RawValue>(event).is_err() {
        return;
    }
    match event::read(event).1 {
        Ok(Work::Call(call)) => check_call(&call),
        Ok(Work::Batch(batch)) => check_batch(&batch),
        Err(failure) => assert!(failure.status().is_client_error(), "{failure}"),
    }
});

fn check_call(call: &Call) {
    let target: http::Uri = call.target.parse().expect("a target");
    assert_eq!(
        target.path_and_query().map(http::uri::PathAndQuery::as_str),
        Some(call.target.as_str())
    );
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
