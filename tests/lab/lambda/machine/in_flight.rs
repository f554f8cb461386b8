//! An invocation in progress, and the failure that can end it.

use std::time::Duration;

use super::super::report::Status;
use super::{Account, Effect, Event, Now};

/// An invocation in progress.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) event: Event,
    since: Duration,
    due: Duration,
    /// Deadline on the environment's wall clock.
    pub(super) deadline_ms: u64,
    /// Duration of the Init to report.
    pub(super) init: Option<Duration>,
    /// Duration of the restore to report.
    pub(super) restore: Option<Duration>,
    /// On managed instances: `true` once a worker of the runtime has taken the event.
    pub(super) delivered: bool,
    /// `true` once the caller has a response.
    pub(super) answered: bool,
    /// Time at which the runtime called `next` again.
    pub(super) runtime_done: Option<Duration>,
}

/// Reason why invocations end without a response of the function.
#[derive(Debug)]
pub(super) struct InvocationFailure {
    pub(super) kind: String,
    pub(super) message: String,
    pub(super) status: Status,
}

impl InvocationFailure {
    /// An error of this type.
    pub(super) fn error(kind: &str, message: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            message: message.into(),
            status: Status::Error(kind.to_owned()),
        }
    }

    pub(super) fn timeout(timeout: Duration) -> Self {
        Self {
            kind: "Sandbox.Timedout".to_owned(),
            message: format!("Task timed out after {:.2} seconds", timeout.as_secs_f64()),
            status: Status::Timeout,
        }
    }

    pub(super) fn line(&self, id: &str) -> String {
        match &self.status {
            Status::Timeout => format!("{id} {}", self.message),
            _ => format!("RequestId: {id} Error: {}", self.message),
        }
    }
}

impl InFlight {
    pub(super) fn new(event: Event, now: Now, since: Duration, timeout: Duration) -> Self {
        let due = since + timeout;
        let left = due.saturating_sub(now.active).as_millis();
        Self {
            event,
            since,
            due,
            deadline_ms: now.epoch_ms + u64::try_from(left).unwrap_or_default(),
            init: None,
            restore: None,
            delivered: false,
            answered: false,
            runtime_done: None,
        }
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }

    pub(super) fn due(&self) -> Duration {
        self.due
    }

    pub(super) fn account(&self, now: Now, status: Status) -> Account {
        let took = now.active.saturating_sub(self.since);
        let tail = self
            .runtime_done
            .map(|done| now.active.saturating_sub(done));
        Account {
            id: self.event.id.clone(),
            init: self.init,
            restore: self.restore,
            duration: took.min(self.due.saturating_sub(self.since)),
            tail: tail.unwrap_or_default(),
            status,
        }
    }
}

pub(super) fn start_line(event: &Event) -> Effect {
    Effect::Log(format!("START RequestId: {} Version: $LATEST", event.id))
}
