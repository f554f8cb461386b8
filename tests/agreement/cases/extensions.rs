//! Extensions with valid calls, and with calls out of order.

use serde_json::json;

use crate::case::Case;
use crate::steps::{
    BOTH, EXTENSION, UNKNOWN_ID, events_until_shutdown, extension, extension_after, extension_on,
    next_event, register, runtime_after, runtime_with,
};
use lab::script::{Call, Step};

/// Subscription to the Telemetry API or to its predecessor, the Logs API.
fn subscribe(api: &str, version: &str) -> Call {
    Call::new("PUT", &format!("/{version}/{api}"))
        .header("Lambda-Extension-Identifier", "{id}")
        .body(r#"{"schemaVersion":"2022-12-13","types":["platform","function"],"destination":{"protocol":"HTTP","URI":"http://sandbox.localdomain:4243"}}"#)
}

/// Extension that answers the function's events once the function's process runs, which only waits.
fn polled_by_an_extension() -> Case {
    let mut steps = vec![
        register("one", &[]).into(),
        Step::Await("function".into()),
        // Its response never comes: the extension has registered for no event.
        Step::Send(next_event()),
    ];
    steps.extend(runtime_with(Vec::new()));
    Case::new("an extension that polls the Runtime API")
        .extension("one", steps)
        .function(vec![Step::Leave("function".into()), Step::Hang])
        .invoke(json!({"n": 1}))
        .invoke(json!({"n": 2}))
}

pub(crate) fn cases() -> Vec<Case> {
    let next = || Call::new("GET", &format!("{EXTENSION}/event/next"));
    vec![
        Case::new("extension")
            .extension("one", extension("one", &BOTH))
            .invoke(json!({}))
            .invoke(json!({})),
        Case::new("two extensions")
            .extension("one", extension("one", &BOTH))
            .extension("two", extension("two", &BOTH))
            .invoke(json!({}))
            .invoke(json!({})),
        Case::new("for SHUTDOWN only")
            .extension("one", extension("one", &["SHUTDOWN"]))
            .invoke(json!({})),
        Case::new("for INVOKE only")
            .extension("one", extension("one", &["INVOKE"]))
            .invoke(json!({})),
        Case::new("for no event")
            .extension("one", extension("one", &[]))
            .invoke(json!({})),
        polled_by_an_extension(),
        Case::new("the runtime starts when all have registered")
            .extension(
                "one",
                vec![
                    Step::Look("function".into()),
                    register("one", &BOTH).into(),
                    Step::Await("function".into()),
                    events_until_shutdown(Vec::new()),
                ],
            )
            .function(runtime_after(vec![Step::Leave("function".into())]))
            .invoke(json!({})),
        Case::new("next without an id, and with a wrong one")
            .extension(
                "one",
                extension_after(
                    "one",
                    &BOTH,
                    vec![
                        next().into(),
                        next().header("Lambda-Extension-Identifier", "mine").into(),
                        next()
                            .header("Lambda-Extension-Identifier", UNKNOWN_ID)
                            .into(),
                    ],
                ),
            )
            .invoke(json!({})),
        Case::new("next before registration")
            .extension(
                "one",
                vec![
                    next().into(),
                    next()
                        .header("Lambda-Extension-Identifier", UNKNOWN_ID)
                        .into(),
                    Step::Forever(extension("one", &BOTH)),
                ],
            )
            .invoke(json!({})),
        Case::new("the runtime waits for an extension's next")
            .extension(
                "one",
                extension_on("one", "INVOKE", vec![Step::Await("answered".into())]),
            )
            .function(runtime_with(vec![Step::Leave("answered".into())]))
            .invoke(json!({}))
            .invoke(json!({})),
        Case::new("telemetry and logs")
            .extension(
                "one",
                extension_after(
                    "one",
                    &BOTH,
                    vec![
                        subscribe("telemetry", "2022-07-01").into(),
                        subscribe("logs", "2020-08-15").into(),
                        next_event().into(),
                    ],
                ),
            )
            .invoke(json!({})),
        Case::new("paths of no extension")
            .extension(
                "one",
                extension_after(
                    "one",
                    &BOTH,
                    vec![
                        Call::new("GET", &format!("{EXTENSION}/register")).into(),
                        Call::new("GET", &format!("{EXTENSION}/nothing")).into(),
                    ],
                ),
            )
            .invoke(json!({})),
    ]
}
