//! A runtime without extensions: responses, errors, and calls that the API rejects.

use serde_json::json;

use crate::case::Case;
use crate::steps::{RUNTIME, UNKNOWN_ID, next_invocation, respond, runtime_error, runtime_with};
use lab::script::{Call, Step};

pub(crate) fn cases() -> Vec<Case> {
    let error = || runtime_error("invocation/{request}");
    let to_unknown =
        |what: &str| Call::new("POST", &format!("{RUNTIME}/invocation/{UNKNOWN_ID}/{what}"));
    let early = respond("{}");
    vec![
        Case::new("invocations")
            .invoke(json!({"n": 1}))
            .invoke(json!("text"))
            .invoke(json!(null)),
        Case::new("function error")
            .function(vec![Step::Forever(vec![
                next_invocation().into(),
                error().into(),
            ])])
            .invoke(json!({}))
            .invoke(json!({})),
        Case::new("response twice")
            .function(vec![Step::Forever(vec![
                next_invocation().into(),
                respond("1").into(),
                respond("2").into(),
            ])])
            .invoke(json!({})),
        Case::new("response to another request")
            .function(runtime_with(vec![
                to_unknown("response").into(),
                to_unknown("error").into(),
            ]))
            .invoke(json!({})),
        Case::new("response before next")
            .function(
                [
                    vec![
                        Call {
                            path: format!("{RUNTIME}/invocation/{UNKNOWN_ID}/response"),
                            ..early
                        }
                        .into(),
                    ],
                    runtime_with(Vec::new()),
                ]
                .concat(),
            )
            .invoke(json!({})),
        Case::new("paths of no runtime")
            .function(runtime_with(vec![
                Call::new("GET", &format!("{RUNTIME}/invocation/nothing")).into(),
                Call::new("POST", &format!("{RUNTIME}/invocation/next")).into(),
                Call::new("GET", "/2019-01-01/runtime/invocation/next").into(),
            ]))
            .invoke(json!({})),
    ]
}
