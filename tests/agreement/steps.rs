//! Steps that most cases share.

use lab::script::{Call, Step};

pub(crate) const EXTENSION: &str = "/2020-01-01/extension";
pub(crate) const RUNTIME: &str = "/2018-06-01/runtime";
/// Well-formed identifier that no extension has.
pub(crate) const UNKNOWN_ID: &str = "00000000-0000-0000-0000-000000000000";

/// Registers an extension for the events.
pub(crate) fn register(name: &str, events: &[&str]) -> Call {
    let body = serde_json::json!({ "events": events }).to_string();
    Call::new("POST", &format!("{EXTENSION}/register"))
        .header("Lambda-Extension-Name", name)
        .body(&body)
}

/// Call of `next` by an extension.
pub(crate) fn next_event() -> Call {
    Call::new("GET", &format!("{EXTENSION}/event/next"))
        .header("Lambda-Extension-Identifier", "{id}")
}

/// Report of `init/error` or `exit/error` by an extension.
pub(crate) fn extension_error(which: &str) -> Call {
    let body = r#"{"errorMessage":"as asked","errorType":"Extension.Asked","stackTrace":[]}"#;
    Call::new("POST", &format!("{EXTENSION}/{which}/error"))
        .header("Lambda-Extension-Identifier", "{id}")
        .header("Lambda-Extension-Function-Error-Type", "Extension.Asked")
        .body(body)
}

/// Call of `next` by a runtime.
pub(crate) fn next_invocation() -> Call {
    Call::new("GET", &format!("{RUNTIME}/invocation/next"))
}

/// Response of a runtime to the last event.
pub(crate) fn respond(body: &str) -> Call {
    Call::new(
        "POST",
        &format!("{RUNTIME}/invocation/{{request}}/response"),
    )
    .header("Content-Type", "application/json")
    .body(body)
}

/// Report of `init/error` or `invocation/{request}/error` by a runtime.
pub(crate) fn runtime_error(which: &str) -> Call {
    Call::new("POST", &format!("{RUNTIME}/{which}/error"))
        .header("Lambda-Runtime-Function-Error-Type", "Runtime.Asked")
        .body(r#"{"errorMessage":"as asked","errorType":"Runtime.Asked"}"#)
}

/// Runtime that responds to every event.
pub(crate) fn runtime() -> Vec<Step> {
    runtime_with(Vec::new())
}

/// Runtime that performs the steps before each response.
pub(crate) fn runtime_with(steps: Vec<Step>) -> Vec<Step> {
    let mut turn = vec![next_invocation().into()];
    turn.extend(steps);
    turn.push(respond(r#"{"ok":true}"#).into());
    vec![Step::Forever(turn)]
}

/// Runtime that performs the steps before its first call.
pub(crate) fn runtime_after(mut steps: Vec<Step>) -> Vec<Step> {
    steps.extend(runtime());
    steps
}

/// Extension that registers for the events and exits at SHUTDOWN.
pub(crate) fn extension(name: &str, events: &[&str]) -> Vec<Step> {
    extension_after(name, events, Vec::new())
}

/// As [`extension`], with the steps between the registration and the first `next`.
pub(crate) fn extension_after(name: &str, events: &[&str], steps: Vec<Step>) -> Vec<Step> {
    let mut all = vec![register(name, events).into()];
    all.extend(steps);
    all.push(events_until_shutdown(Vec::new()));
    all
}

/// As [`extension`], with the steps on each event that contains the text.
pub(crate) fn extension_on(name: &str, event: &str, steps: Vec<Step>) -> Vec<Step> {
    let when = Step::When(event.to_owned(), steps);
    vec![
        register(name, &BOTH).into(),
        events_until_shutdown(vec![when]),
    ]
}

/// Performs the steps on each event, and exits at SHUTDOWN.
pub(crate) fn events_until_shutdown(steps: Vec<Step>) -> Step {
    let mut turn = vec![next_event().into()];
    turn.extend(steps);
    turn.push(Step::When("SHUTDOWN".to_owned(), vec![Step::Exit(0)]));
    Step::Forever(turn)
}

/// Both events for which an extension can register.
pub(crate) const BOTH: [&str; 2] = ["INVOKE", "SHUTDOWN"];
