//! What the actors of most cases do, in a few words.

use crate::script::{Call, Step};

pub(crate) const EXTENSION: &str = "/2020-01-01/extension";
pub(crate) const RUNTIME: &str = "/2018-06-01/runtime";
/// An id that is well formed and nobody's.
pub(crate) const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

/// An extension's registration for the events.
pub(crate) fn register(name: &str, events: &[&str]) -> Call {
    let body = serde_json::json!({ "events": events }).to_string();
    Call::new("POST", &format!("{EXTENSION}/register"))
        .header("Lambda-Extension-Name", name)
        .body(&body)
}

/// An extension's wait for the next event.
pub(crate) fn next_event() -> Call {
    Call::new("GET", &format!("{EXTENSION}/event/next"))
        .header("Lambda-Extension-Identifier", "{id}")
}

/// A call of an extension's to `init/error` or `exit/error`.
pub(crate) fn extension_error(which: &str) -> Call {
    let body = r#"{"errorMessage":"as asked","errorType":"Extension.Asked","stackTrace":[]}"#;
    Call::new("POST", &format!("{EXTENSION}/{which}/error"))
        .header("Lambda-Extension-Identifier", "{id}")
        .header("Lambda-Extension-Function-Error-Type", "Extension.Asked")
        .body(body)
}

/// A runtime's wait for the next event.
pub(crate) fn next_invocation() -> Call {
    Call::new("GET", &format!("{RUNTIME}/invocation/next"))
}

/// A runtime's answer to the last event.
pub(crate) fn respond(body: &str) -> Call {
    Call::new(
        "POST",
        &format!("{RUNTIME}/invocation/{{request}}/response"),
    )
    .header("Content-Type", "application/json")
    .body(body)
}

/// A runtime's error, `init/error` or `invocation/{request}/error`.
pub(crate) fn runtime_error(which: &str) -> Call {
    Call::new("POST", &format!("{RUNTIME}/{which}/error"))
        .header("Lambda-Runtime-Function-Error-Type", "Runtime.Asked")
        .body(r#"{"errorMessage":"as asked","errorType":"Runtime.Asked"}"#)
}

/// A runtime that answers every event.
pub(crate) fn runtime() -> Vec<Step> {
    runtime_with(Vec::new())
}

/// A runtime that does the steps on every event before it answers.
pub(crate) fn runtime_with(steps: Vec<Step>) -> Vec<Step> {
    let mut turn = vec![next_invocation().into()];
    turn.extend(steps);
    turn.push(respond(r#"{"ok":true}"#).into());
    vec![Step::Forever(turn)]
}

/// A runtime that does the steps before its first call.
pub(crate) fn runtime_after(mut steps: Vec<Step>) -> Vec<Step> {
    steps.extend(runtime());
    steps
}

/// An extension that registers for the events, and ends at SHUTDOWN.
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

/// As [`extension`], with the steps on each event that holds the text.
pub(crate) fn extension_on(name: &str, event: &str, steps: Vec<Step>) -> Vec<Step> {
    let when = Step::When(event.to_owned(), steps);
    vec![
        register(name, &BOTH).into(),
        events_until_shutdown(vec![when]),
    ]
}

/// Waits for events without end, does the steps on each, and exits at SHUTDOWN.
pub(crate) fn events_until_shutdown(steps: Vec<Step>) -> Step {
    let mut turn = vec![next_event().into()];
    turn.extend(steps);
    turn.push(Step::When("SHUTDOWN".to_owned(), vec![Step::Exit(0)]));
    Step::Forever(turn)
}

/// Both events that an extension may register for.
pub(crate) const BOTH: [&str; 2] = ["INVOKE", "SHUTDOWN"];

impl Call {
    /// A call with an empty body.
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// With a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body.
    pub(crate) fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }
}

impl From<Call> for Step {
    fn from(call: Call) -> Self {
        Self::Call(call)
    }
}
