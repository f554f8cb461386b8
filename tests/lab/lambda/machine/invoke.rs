//! Invocations: an event for the runtime and for each registered extension, a response for the
//! caller. An invocation ends when all have called `next` again, after the timeout, or when a
//! process exits.

use std::time::Duration;

use super::super::environment::ShutdownReason;
use super::super::report::Status;
use super::ending::After;
use super::reply::function_error;
use super::{Account, Effect, Effects, Event, Extension, Machine, Now, Phase};

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
    /// On managed instances: `true` once a worker of the runtime has taken the event.
    pub(super) delivered: bool,
    /// `true` once the caller has a response.
    pub(super) answered: bool,
    /// Time at which the runtime called `next` again.
    pub(super) runtime_done: Option<Duration>,
}

/// Reason why invocations end without a response of the function.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: String,
    pub(super) message: String,
    pub(super) status: Status,
}

impl Failure {
    pub(super) fn timeout(timeout: Duration) -> Self {
        Self {
            kind: "Sandbox.Timedout".to_owned(),
            message: format!("Task timed out after {:.2} seconds", timeout.as_secs_f64()),
            status: Status::Timeout,
        }
    }

    fn line(&self, id: &str) -> String {
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

    fn account(&self, now: Now, status: Status) -> Account {
        let took = now.active.saturating_sub(self.since);
        let tail = self
            .runtime_done
            .map(|done| now.active.saturating_sub(done));
        Account {
            id: self.event.id.clone(),
            init: self.init,
            duration: took.min(self.due.saturating_sub(self.since)),
            tail: tail.unwrap_or_default(),
            status,
        }
    }
}

pub(super) fn start_line(event: &Event) -> Effect {
    Effect::Log(format!("START RequestId: {} Version: $LATEST", event.id))
}

impl Machine {
    pub(super) fn invoke(&mut self, now: Now, event: Event, effects: &mut Effects) {
        match &self.phase {
            Phase::Gone => effects.push(Effect::NotTaken(event.id)),
            Phase::Ending(ending) if ending.after == After::Gone => {
                effects.push(Effect::NotTaken(event.id));
            }
            Phase::Empty => {
                self.waiting.push_back(event);
                self.begin_init(now, effects);
            }
            Phase::Ready if self.setup.managed || self.in_flight.is_empty() => {
                if let Some(message) = self.broken.take() {
                    effects.push(start_line(&event));
                    let timeout = self.setup.timeout;
                    self.in_flight
                        .push(InFlight::new(event, now, now.active, timeout));
                    self.fail_invocations(now, &message, effects);
                    self.end(now, ShutdownReason::Failure, After::Empty, effects);
                } else {
                    self.begin_invocation(now, now.active, event, effects);
                }
            }
            Phase::Init(_) | Phase::Ending(_) | Phase::Ready => self.waiting.push_back(event),
        }
    }

    pub(super) fn begin_invocation(
        &mut self,
        now: Now,
        since: Duration,
        event: Event,
        effects: &mut Effects,
    ) {
        effects.push(Effect::Thaw);
        effects.push(start_line(&event));
        let mut one = InFlight::new(event, now, since, self.setup.timeout);
        one.init = self.init.take();
        for extension in &mut self.extensions {
            extension.hand_invoke(&one, &self.setup.arn, effects);
        }
        self.in_flight.push(one);
        self.hand_out(effects);
    }

    /// Ends the invocations that are complete.
    pub(super) fn finish_invocations(&mut self, now: Now, effects: &mut Effects) {
        let busy = self.extensions.iter().any(Extension::is_busy);
        let done = |one: &mut InFlight| one.answered && one.runtime_done.is_some() && !busy;
        let finished: Vec<_> = self.in_flight.extract_if(.., done).collect();
        if finished.is_empty() {
            return;
        }
        for one in finished {
            effects.push(Effect::Report(one.account(now, Status::Success)));
            effects.push(Effect::Over(one.event.id));
        }
        if self.in_flight.is_empty()
            && let Some(event) = self.waiting.pop_front()
        {
            self.begin_invocation(now, now.active, event, effects);
        }
        self.rest(effects);
    }

    /// Freezes if nothing is pending.
    pub(super) fn rest(&self, effects: &mut Effects) {
        if self.in_flight.is_empty() && self.setup.freeze_when_idle && !self.setup.managed {
            effects.push(Effect::Freeze);
        }
    }

    pub(super) fn invocation_timed_out(&mut self, now: Now, effects: &mut Effects) {
        let failure = Failure::timeout(self.setup.timeout);
        if !self.setup.managed {
            self.fail(now, &failure, effects);
            self.end(now, ShutdownReason::Timeout, After::Empty, effects);
            return;
        }
        let late = |one: &mut InFlight| one.due <= now.active;
        let late: Vec<_> = self.in_flight.extract_if(.., late).collect();
        for one in late {
            let id = one.event.id.clone();
            close(now, &one, &failure, None, effects);
            effects.push(Effect::Over(id.clone()));
            self.late.insert(id);
        }
    }

    /// Fails the invocations after the exit of a process.
    pub(super) fn fail_invocations(&mut self, now: Now, message: &str, effects: &mut Effects) {
        let kind = self.fatal_type().to_owned();
        let failure = Failure {
            message: message.to_owned(),
            status: Status::Error(kind.clone()),
            kind,
        };
        self.fail(now, &failure, effects);
    }

    /// Ends all invocations in progress; their capacity becomes free when the processes have
    /// exited.
    pub(super) fn fail(&mut self, now: Now, failure: &Failure, effects: &mut Effects) {
        for one in std::mem::take(&mut self.in_flight) {
            self.failed.push(one.event.id.clone());
            close(now, &one, failure, self.runtime.init_error(), effects);
        }
    }
}

/// Sends the response to a waiting caller, and reports. The runtime's own Init error takes
/// precedence over the exit of its process.
fn close(
    now: Now,
    one: &InFlight,
    failure: &Failure,
    said: Option<&bytes::Bytes>,
    effects: &mut Effects,
) {
    let id = &one.event.id;
    effects.push(Effect::Log(failure.line(id)));
    if matches!(failure.status, Status::Error(_)) {
        effects.push(Effect::Log(failure.kind.clone()));
    }
    if !one.answered {
        let message = format!("RequestId: {id} Error: {}", failure.message);
        let body = said
            .cloned()
            .unwrap_or_else(|| function_error(&failure.kind, &message));
        effects.push(Effect::Answer {
            id: id.clone(),
            body,
            failed: true,
        });
    }
    effects.push(Effect::Report(one.account(now, failure.status.clone())));
}
