//! Exits of processes, in the platform's wording, which is Go's.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use super::ProcessRole;

/// Exit of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Exit {
    Code(i32),
    Signal(i32),
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::Signal(signal.unwrap_or_default()),
        }
    }
}

impl Exit {
    /// Message for the log and the caller.
    pub(super) fn message(self, role: ProcessRole) -> String {
        match (role, self) {
            (ProcessRole::Runtime, Self::Code(0)) => {
                "Runtime exited without providing a reason".into()
            }
            (ProcessRole::Runtime, other) => {
                format!("Runtime exited with error: {}", other.words())
            }
            (ProcessRole::Extension(_), Self::Code(0)) => "exit code 0".into(),
            (ProcessRole::Extension(_), other) => other.words(),
        }
    }

    fn words(self) -> String {
        match self {
            Self::Code(code) => format!("exit status {code}"),
            Self::Signal(signal) => format!("signal: {}", signal_words(signal)),
        }
    }
}

fn signal_words(signal: i32) -> String {
    match signal {
        1 => "hangup".into(),
        2 => "interrupt".into(),
        3 => "quit".into(),
        4 => "illegal instruction".into(),
        6 => "aborted".into(),
        7 => "bus error".into(),
        8 => "floating point exception".into(),
        9 => "killed".into(),
        11 => "segmentation fault".into(),
        13 => "broken pipe".into(),
        15 => "terminated".into(),
        other => format!("signal {other}"),
    }
}
