//! Scripts of the processes in the agreement tests: a list of steps that a case writes and the binary `actor` performs.
//!
//! Steps are calls of the Lambda APIs, loops, and branches on the last response. The actors of a case wait for each
//! other by files in `/tmp`. `{id}` in a call is the extension's identifier, `{request}` the id of the last event.

use serde::{Deserialize, Serialize};

/// File name of an actor's script, in the folder of its program.
#[must_use]
pub fn file_of(name: &str) -> String {
    format!("{name}.script")
}

/// File name of an actor's trace, in `/tmp`.
#[must_use]
pub fn trace_of(name: &str) -> String {
    format!("{name}.trace")
}

/// A step of an actor.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub enum Step {
    /// Sends a call and waits for its response.
    Call(Call),
    /// Sends a call and goes on without its response.
    Send(Call),
    /// Repeats the steps forever.
    Forever(Vec<Step>),
    /// Performs the steps if the body of the last response contains the text.
    When(String, Vec<Step>),
    /// Performs the steps in the nth start of the process in the environment, from 1.
    AtStart(u32, Vec<Step>),
    /// Waits until the file exists in `/tmp`; `{start}` in a name is the number of this start.
    Await(String),
    /// Records the step in the trace, then creates an empty file in `/tmp`.
    Leave(String),
    /// Records in the trace if the file exists in `/tmp`.
    Look(String),
    /// Exits with this code.
    Exit(u8),
    /// Blocks forever without a line in the trace.
    Hang,
}

/// A call of the Runtime API or the Extensions API.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Call {
    /// Method.
    pub method: String,
    /// Path.
    pub path: String,
    /// Headers in addition to `Host` and `Content-Length`.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
}

impl Call {
    /// Returns a call with an empty body.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: String::new(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }
}

impl From<Call> for Step {
    fn from(call: Call) -> Self {
        Self::Call(call)
    }
}
