//! End of an environment's processes, for a reset or a shutdown. The runtime gets SIGTERM and its
//! share of the time. Extensions that registered for SHUTDOWN get that event, the others SIGKILL.
//! When the time is up, all remaining processes get SIGKILL. Without extensions all processes are
//! killed at once.

use std::time::Duration;

use super::super::state::ShutdownReason;
use super::super::{RUNTIME_SHUTDOWN_LIMIT, SHUTDOWN_LIMIT};
use super::in_flight::InvocationFailure;
use super::{Effect, Effects, Machine, Now, Phase, ProcessRole};

#[derive(Debug)]
pub(super) struct Ending {
    since: Duration,
    pub(super) reason: ShutdownReason,
    /// Deadline on the environment's wall clock.
    pub(super) deadline_ms: u64,
    stage: EndingStage,
    pub(super) after: After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndingStage {
    Runtime,
    Extensions,
    Killed,
}

/// State after all processes have exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// No process runs until the next invocation.
    Empty,
    /// Init starts at once, for the waiting invocation.
    Init,
    /// The environment is removed.
    Gone,
}

impl Ending {
    pub(super) fn due(&self) -> Option<Duration> {
        match self.stage {
            EndingStage::Runtime => Some(self.since + RUNTIME_SHUTDOWN_LIMIT),
            EndingStage::Extensions => Some(self.since + SHUTDOWN_LIMIT),
            EndingStage::Killed => None,
        }
    }

    /// Returns `true` if an extension's `next` must return SHUTDOWN.
    pub(super) fn notifies_extensions(&self) -> bool {
        self.stage == EndingStage::Extensions
    }
}

impl Machine {
    pub(super) fn end(
        &mut self,
        now: Now,
        reason: ShutdownReason,
        after: After,
        effects: &mut Effects,
    ) {
        let asked = !self.extensions.is_empty();
        self.begin_ending(now, reason, after, effects);
        if !asked {
            self.kill(effects);
        } else if self.alive.contains(&ProcessRole::Runtime) {
            effects.push(Effect::Terminate(ProcessRole::Runtime));
        }
        self.go_on_ending(now, effects);
    }

    /// Kills all processes without SHUTDOWN.
    pub(super) fn kill_all(&mut self, now: Now, after: After, effects: &mut Effects) {
        self.begin_ending(now, ShutdownReason::Failure, after, effects);
        self.kill(effects);
        self.go_on_ending(now, effects);
    }

    pub(super) fn end_on_request(
        &mut self,
        now: Now,
        reason: ShutdownReason,
        permanently: bool,
        effects: &mut Effects,
    ) {
        let after = if permanently {
            After::Gone
        } else {
            After::Empty
        };
        match &mut self.phase {
            Phase::Gone => return,
            Phase::Empty => {
                if permanently {
                    self.phase = Phase::Gone;
                }
                return;
            }
            Phase::Ending(ending) => {
                if permanently {
                    ending.after = After::Gone;
                }
                return;
            }
            Phase::Init(_) | Phase::Snapshot | Phase::Restore(_) | Phase::Ready => {}
        }
        let message = format!("the environment was ended: {reason}");
        let failure = InvocationFailure::error("Sandbox.Failure", message);
        match self.waiting_since() {
            Some(since) => self.fail_waiting(now, since, &failure, effects),
            None => self.fail(now, &failure, effects),
        }
        self.end(now, reason, after, effects);
    }

    /// Start of the Init or the restore that invocations wait for.
    fn waiting_since(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Init(init) => Some(init.since),
            Phase::Restore(restore) => Some(restore.since),
            _ => None,
        }
    }

    pub(super) fn go_on_ending(&mut self, now: Now, effects: &mut Effects) {
        let Phase::Ending(ending) = &mut self.phase else {
            return;
        };
        let overdue = ending.due().is_some_and(|due| due <= now.active);
        if self.alive.is_empty() {
            self.ended(now, effects);
        } else if ending.stage == EndingStage::Runtime {
            let runs = self.alive.contains(&ProcessRole::Runtime);
            if runs && overdue {
                effects.push(Effect::Kill(ProcessRole::Runtime));
            }
            if !runs || overdue {
                ending.stage = EndingStage::Extensions;
                self.notify_extensions(effects);
            }
        } else if ending.stage == EndingStage::Extensions && overdue {
            self.kill(effects);
        }
    }

    fn begin_ending(
        &mut self,
        now: Now,
        reason: ShutdownReason,
        after: After,
        effects: &mut Effects,
    ) {
        effects.push(Effect::Thaw);
        let limit = u64::try_from(SHUTDOWN_LIMIT.as_millis()).unwrap_or_default();
        self.phase = Phase::Ending(Ending {
            since: now.active,
            reason,
            deadline_ms: now.epoch_ms + limit,
            stage: EndingStage::Runtime,
            after,
        });
    }

    fn notify_extensions(&mut self, effects: &mut Effects) {
        let Phase::Ending(ending) = &self.phase else {
            return;
        };
        for role in &self.alive {
            let ProcessRole::Extension(place) = role else {
                continue;
            };
            match self.extensions.get_mut(*place) {
                Some(extension) if extension.wants_shutdown() => {
                    extension.deliver_shutdown(ending, effects);
                }
                _ => effects.push(Effect::Kill(*role)),
            }
        }
    }

    fn kill(&mut self, effects: &mut Effects) {
        if let Phase::Ending(ending) = &mut self.phase {
            ending.stage = EndingStage::Killed;
        }
        effects.extend(self.alive.iter().map(|role| Effect::Kill(*role)));
    }

    fn ended(&mut self, now: Now, effects: &mut Effects) {
        let Phase::Ending(ending) = &self.phase else {
            return;
        };
        let after = ending.after;
        effects.push(Effect::HangUp);
        effects.extend(self.failed.drain(..).map(Effect::Over));
        self.forget_runtime();
        self.extensions.clear();
        self.registration = false;
        match after {
            After::Gone => {
                self.phase = Phase::Gone;
                let waiting = self.waiting.drain(..);
                effects.extend(waiting.map(|event| Effect::NotAccepted(event.id)));
            }
            After::Empty | After::Init => {
                self.phase = Phase::Empty;
                if !self.waiting.is_empty() {
                    self.begin_init(now, effects);
                }
            }
        }
    }
}
