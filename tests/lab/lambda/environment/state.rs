//! What an environment is about, and why it ends.

use std::fmt;
use std::str::FromStr;

/// What whoever looks at an environment sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) state: State,
    pub(super) frozen: bool,
}

/// What an environment is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing runs: it is new, or was reset. The next invocation begins with an Init.
    #[default]
    Empty,
    /// Init, before an invocation or as part of one.
    Init,
    /// An invocation whose caller waits.
    Invoke,
    /// The caller has its answer; runtime or extensions have not called `next` so far.
    Tail,
    /// All have called `next`.
    Idle,
    /// Processes are being ended, for a reset or for good.
    Ending,
    /// It has been shut down.
    Gone,
}

/// Why an environment ends, as SHUTDOWN tells extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// It is no longer needed.
    Spindown,
    /// An invocation took too long.
    Timeout,
    /// A process died.
    Failure,
}

impl fmt::Display for ShutdownReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Spindown => "spindown",
            Self::Timeout => "timeout",
            Self::Failure => "failure",
        })
    }
}

/// A text that names no reason.
#[derive(Debug, thiserror::Error)]
#[error("no reason to shut down: {0:?}; there are spindown, timeout and failure")]
pub struct NoSuchReason(String);

impl FromStr for ShutdownReason {
    type Err = NoSuchReason;

    fn from_str(text: &str) -> Result<Self, NoSuchReason> {
        [Self::Spindown, Self::Timeout, Self::Failure]
            .into_iter()
            .find(|reason| reason.to_string() == text)
            .ok_or_else(|| NoSuchReason(text.to_owned()))
    }
}
