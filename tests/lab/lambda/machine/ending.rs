//! End of an environment's processes, for a reset or a shutdown: SIGTERM for the runtime, within
//! its share of the time; SHUTDOWN for the extensions that registered for it, SIGKILL for the
//! others; SIGKILL for all when the time is up. Without extensions all processes are killed at
//! once.

use std::time::Duration;

use super::super::environment::ShutdownReason;
use super::super::report::Status;
use super::super::{RUNTIME_SHUTDOWN_LIMIT, SHUTDOWN_LIMIT};
use super::invoke::Failure;
use super::runtime::Runtime;
use super::{Effect, Effects, Machine, Now, Phase, Who};

#[derive(Debug)]
pub(super) struct Ending {
    since: Duration,
    pub(super) reason: ShutdownReason,
    /// Deadline on the environment's wall clock.
    pub(super) deadline_ms: u64,
    stage: Stage,
    pub(super) after: After,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
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
            Stage::Runtime => Some(self.since + RUNTIME_SHUTDOWN_LIMIT),
            Stage::Extensions => Some(self.since + SHUTDOWN_LIMIT),
            Stage::Killed => None,
        }
    }

    /// Returns `true` if an extension's `next` must return SHUTDOWN.
    pub(super) fn tells_extensions(&self) -> bool {
        self.stage == Stage::Extensions
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
        } else if self.alive.contains(&Who::Runtime) {
            effects.push(Effect::Terminate(Who::Runtime));
        }
        self.go_on_ending(now, effects);
    }

    /// Kills all processes without SHUTDOWN.
    pub(super) fn kill_all(&mut self, now: Now, after: After, effects: &mut Effects) {
        self.begin_ending(now, ShutdownReason::Failure, after, effects);
        self.kill(effects);
        self.go_on_ending(now, effects);
    }

    pub(super) fn end_by_hand(
        &mut self,
        now: Now,
        reason: ShutdownReason,
        for_good: bool,
        effects: &mut Effects,
    ) {
        let after = if for_good { After::Gone } else { After::Empty };
        match &mut self.phase {
            Phase::Gone => return,
            Phase::Empty => {
                if for_good {
                    self.phase = Phase::Gone;
                }
                return;
            }
            Phase::Ending(ending) => {
                if for_good {
                    ending.after = After::Gone;
                }
                return;
            }
            Phase::Init(_) | Phase::Ready => {}
        }
        let failure = Failure {
            kind: "Sandbox.Failure".to_owned(),
            message: format!("the environment was ended: {reason}"),
            status: Status::Error("Sandbox.Failure".to_owned()),
        };
        match self.init_since() {
            Some(since) => self.fail_waiting(now, since, &failure, effects),
            None => self.fail(now, &failure, effects),
        }
        self.end(now, reason, after, effects);
    }

    pub(super) fn go_on_ending(&mut self, now: Now, effects: &mut Effects) {
        let Phase::Ending(ending) = &mut self.phase else {
            return;
        };
        let overdue = ending.due().is_some_and(|due| due <= now.active);
        if self.alive.is_empty() {
            self.ended(now, effects);
        } else if ending.stage == Stage::Runtime {
            let runs = self.alive.contains(&Who::Runtime);
            if runs && overdue {
                effects.push(Effect::Kill(Who::Runtime));
            }
            if !runs || overdue {
                ending.stage = Stage::Extensions;
                self.tell_extensions(effects);
            }
        } else if ending.stage == Stage::Extensions && overdue {
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
            stage: Stage::Runtime,
            after,
        });
    }

    fn tell_extensions(&mut self, effects: &mut Effects) {
        let Phase::Ending(ending) = &self.phase else {
            return;
        };
        for who in &self.alive {
            let Who::Extension(place) = who else { continue };
            match self.extensions.get_mut(*place) {
                Some(extension) if extension.wants_shutdown() => {
                    extension.hand_shutdown(ending, effects);
                }
                _ => effects.push(Effect::Kill(*who)),
            }
        }
    }

    fn kill(&mut self, effects: &mut Effects) {
        if let Phase::Ending(ending) = &mut self.phase {
            ending.stage = Stage::Killed;
        }
        effects.extend(self.alive.iter().map(|who| Effect::Kill(*who)));
    }

    fn ended(&mut self, now: Now, effects: &mut Effects) {
        let Phase::Ending(ending) = &self.phase else {
            return;
        };
        let after = ending.after;
        effects.push(Effect::HangUp);
        effects.extend(self.failed.drain(..).map(Effect::Over));
        self.runtime = Runtime::default();
        self.extensions.clear();
        self.registration = false;
        match after {
            After::Gone => {
                self.phase = Phase::Gone;
                let waiting = self.waiting.drain(..);
                effects.extend(waiting.map(|event| Effect::NotTaken(event.id)));
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
