//! `SnapStart`: the snapshot after Init, and its restore for an invocation.
//!
//! The runtime ends Init with `restore/next`, or with `next` if it has no hooks. Extensions call
//! `next`. A restore answers `restore/next`, and ends when the runtime calls `next`. Extensions
//! get no event. States, calls and errors are those of RIE's `handleRestore` and `core/states.go`.
//! After a failure the environment is removed, and the invocation fails.

use std::time::Duration;

use super::super::RESTORE_LIMIT;
use super::super::report::milliseconds;
use super::super::state::ShutdownReason;
use super::ending::After;
use super::in_flight::InvocationFailure;
use super::{Effect, Effects, Machine, Now, Phase};

/// A restore that the runtime has not completed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restore {
    pub(super) since: Duration,
}

impl Restore {
    pub(super) fn due(&self) -> Duration {
        self.since + RESTORE_LIMIT
    }
}

impl Machine {
    /// Ends Init with the snapshot.
    pub(super) fn take_snapshot(&mut self, now: Now, effects: &mut Effects) {
        self.phase = Phase::Snapshot;
        effects.push(Effect::Freeze);
        if !self.waiting.is_empty() {
            self.begin_restore(now, effects);
        }
    }

    /// Restores on request. An environment that was restored before stands for another one.
    pub(super) fn restore(&mut self, now: Now, effects: &mut Effects) {
        match &self.phase {
            Phase::Snapshot => self.begin_restore(now, effects),
            Phase::Ready if self.in_flight.is_empty() && self.setup.snap_start => {
                effects.extend([Effect::Freeze, Effect::Renew, Effect::Thaw]);
                self.rest(effects);
            }
            _ => {}
        }
    }

    pub(super) fn begin_restore(&mut self, now: Now, effects: &mut Effects) {
        self.phase = Phase::Restore(Restore { since: now.active });
        let line = "RESTORE_START Runtime Version: lab".to_owned();
        effects.extend([Effect::Log(line), Effect::Renew, Effect::Thaw]);
        if !self.tell_of_restore(effects) {
            self.restore_done(now, effects);
        }
    }

    pub(super) fn restore_done(&mut self, now: Now, effects: &mut Effects) {
        let Phase::Restore(restore) = self.phase else {
            return;
        };
        let took = now.active.saturating_sub(restore.since);
        effects.push(report(took, ""));
        self.restored_in = Some(took);
        self.phase = Phase::Ready;
        while let Some(event) = self.waiting.pop_front() {
            self.begin_invocation(now, now.active, event, effects);
        }
        self.rest(effects);
    }

    pub(super) fn restore_timed_out(&mut self, now: Now, effects: &mut Effects) {
        let message = format!("the restore took longer than {} s", RESTORE_LIMIT.as_secs());
        self.restore_failed(now, "Runtime.RestoreHookUserTimeout", &message, effects);
    }

    pub(super) fn restore_failed(
        &mut self,
        now: Now,
        kind: &str,
        message: &str,
        effects: &mut Effects,
    ) {
        let Phase::Restore(restore) = self.phase else {
            return;
        };
        let took = now.active.saturating_sub(restore.since);
        effects.push(report(
            took,
            &format!("\tStatus: error\tError Type: {kind}"),
        ));
        let failure = InvocationFailure::error(kind, message);
        self.fail_waiting(now, now.active, &failure, effects);
        self.end(now, ShutdownReason::Failure, After::Gone, effects);
    }
}

fn report(took: Duration, status: &str) -> Effect {
    Effect::Log(format!(
        "RESTORE_REPORT Restore Duration: {} ms{status}",
        milliseconds(took)
    ))
}
