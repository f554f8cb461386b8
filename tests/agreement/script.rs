//! What an actor does: a list of steps, written by a case and read by the actor's process.
//!
//! The language is small on purpose: calls, a loop, a branch on what the last answer held, and
//! files in `/tmp` by which actors of one case wait for each other. `{id}` in a call stands for
//! the extension's identifier, `{request}` for the id of the last event.

use serde::{Deserialize, Serialize};

/// Where an actor finds its script: beside its program, under the program's name.
pub(crate) fn file_of(name: &str) -> String {
    format!("{name}.script")
}

/// Where an actor writes its trace, in `/tmp`.
pub(crate) fn trace_of(name: &str) -> String {
    format!("{name}.trace")
}

/// One thing that an actor does.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Step {
    /// Makes a call and waits for its answer.
    Call(Call),
    /// Does the steps again and again.
    Forever(Vec<Step>),
    /// Does the steps if the last answer's body contains the text.
    When(String, Vec<Step>),
    /// Does the steps if this is the process's nth start in the environment, from 1.
    AtStart(u32, Vec<Step>),
    /// Waits until the file is in `/tmp`. In the names of files `{start}` stands for the number of
    /// this start.
    Await(String),
    /// Puts an empty file into `/tmp`; the trace has it before.
    Leave(String),
    /// Writes to the trace whether the file is in `/tmp`.
    Look(String),
    /// Ends the process.
    Exit(u8),
    /// Never does anything again, and writes nothing of it.
    Hang,
}

/// A call of the Runtime API or the Extensions API.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Call {
    /// The method.
    pub(crate) method: String,
    /// The path.
    pub(crate) path: String,
    /// Headers beyond `Host` and `Content-Length`.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: String,
}
