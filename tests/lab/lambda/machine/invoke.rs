//! Invocations: an event for the runtime and for each registered extension, a response for the
//! caller. An invocation ends when all have called `next` again, after the timeout, or when a
//! process exits.

use std::time::Duration;

use super::super::report::Status;
use super::super::state::ShutdownReason;
use super::ending::After;
use super::in_flight::{InFlight, InvocationFailure, start_line};
use super::response::function_error;
use super::{Effect, Effects, Event, Extension, Machine, Now, Phase};

impl Machine {
    pub(super) fn invoke(&mut self, now: Now, event: Event, effects: &mut Effects) {
        match &self.phase {
            Phase::Gone => effects.push(Effect::NotAccepted(event.id)),
            Phase::Ending(ending) if ending.after == After::Gone => {
                effects.push(Effect::NotAccepted(event.id));
            }
            Phase::Empty => {
                self.waiting.push_back(event);
                self.begin_init(now, effects);
            }
            Phase::Snapshot => {
                self.waiting.push_back(event);
                self.begin_restore(now, effects);
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
            Phase::Init(_) | Phase::Restore(_) | Phase::Ending(_) | Phase::Ready => {
                self.waiting.push_back(event);
            }
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
        one.restore = self.restored_in.take();
        for extension in &mut self.extensions {
            extension.deliver_invoke(&one, &self.setup.arn, effects);
        }
        self.in_flight.push(one);
        self.deliver_event(effects);
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
        let failure = InvocationFailure::timeout(self.setup.timeout);
        if !self.setup.managed {
            self.fail(now, &failure, effects);
            self.end(now, ShutdownReason::Timeout, After::Empty, effects);
            return;
        }
        let late = |one: &mut InFlight| one.due() <= now.active;
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
        let failure = InvocationFailure::error(self.fatal_type(), message);
        self.fail(now, &failure, effects);
    }

    /// Ends all invocations in progress; their capacity becomes free when the processes have
    /// exited.
    pub(super) fn fail(&mut self, now: Now, failure: &InvocationFailure, effects: &mut Effects) {
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
    failure: &InvocationFailure,
    init_error: Option<&bytes::Bytes>,
    effects: &mut Effects,
) {
    let id = &one.event.id;
    effects.push(Effect::Log(failure.line(id)));
    if matches!(failure.status, Status::Error(_)) {
        effects.push(Effect::Log(failure.kind.clone()));
    }
    if !one.answered {
        let message = format!("RequestId: {id} Error: {}", failure.message);
        let body = init_error
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
