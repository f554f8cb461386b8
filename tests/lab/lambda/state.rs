//! States of an environment, and reasons for its end.

use std::fmt;
use std::str::FromStr;

/// Published view of an environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EnvironmentView {
    pub(super) state: State,
    pub(super) frozen: bool,
}

/// State of an environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// No process runs: the environment is new, or was reset. The next invocation begins with an
    /// Init.
    #[default]
    Empty,
    /// Init, ahead of an invocation or as part of one.
    Init,
    /// Under `SnapStart`, Init has ended: the processes are frozen until the restore.
    Snapshot,
    /// Under `SnapStart`, the time from the restore until the runtime waits for events.
    Restore,
    /// An invocation whose caller waits.
    Invoke,
    /// The caller has its response; runtime or extensions have not yet called `next`.
    Tail,
    /// All have called `next`.
    Idle,
    /// Processes are being ended, for a reset or a shutdown.
    Ending,
    /// The environment was shut down.
    Gone,
}

/// Reason of a shutdown, as SHUTDOWN passes it to extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// The environment is no longer needed.
    Spindown,
    /// An invocation exceeded its timeout.
    Timeout,
    /// A process exited.
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
#[error("invalid shutdown reason {0:?}; allowed: spindown, timeout, failure")]
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
