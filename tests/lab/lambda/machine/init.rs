//! Init: starts all processes, and is complete when all have called `next`. The first Init has a
//! limit of its own. After the limit or a failure it is repeated once as part of the invocation, as
//! is every Init after a reset.

use std::time::Duration;

use super::super::MAX_EXTENSIONS;
use super::super::report::milliseconds;
use super::super::state::ShutdownReason;
use super::ending::After;
use super::in_flight::{InFlight, InvocationFailure};
use super::runtime::Runtime;
use super::{Effect, Effects, Extension, Machine, Now, Phase, ProcessRole};

#[derive(Clone, Copy, Debug)]
pub(super) struct Init {
    pub(super) since: Duration,
    limit: Option<Duration>,
    within: Within,
}

/// Context of an Init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    /// Before any invocation: the environment's first Init.
    Itself,
    Invocation,
}

impl Init {
    pub(super) fn due(&self) -> Option<Duration> {
        Some(self.since + self.limit?)
    }

    fn report(&self, now: Now, status: &str) -> Effect {
        Effect::Log(format!(
            "INIT_REPORT Init Duration: {} ms\tPhase: {}\tStatus: {status}",
            milliseconds(now.active.saturating_sub(self.since)),
            match self.within {
                Within::Itself => "init",
                Within::Invocation => "invoke",
            }
        ))
    }
}

impl Machine {
    pub(super) fn begin_init(&mut self, now: Now, effects: &mut Effects) {
        let first = std::mem::replace(&mut self.fresh, false);
        let init = Init {
            since: now.active,
            within: if first {
                Within::Itself
            } else {
                Within::Invocation
            },
            limit: if first {
                self.setup.init_limit
            } else {
                Some(self.setup.timeout)
            },
        };
        self.phase = Phase::Init(init);
        self.generation += 1;
        self.runtime = Runtime::default();
        self.registration = true;
        self.fatal = None;
        self.broken = None;
        self.restored_in = None;
        self.extensions = self
            .setup
            .extensions
            .iter()
            .map(|name| Extension::external(name))
            .collect();
        effects.push(Effect::Log("INIT_START Runtime Version: lab".to_owned()));
        if self.extensions.len() > MAX_EXTENSIONS {
            self.fatal = Some("Extension.LaunchError");
            self.init_failed(now, "ErrTooManyExtensions", effects);
            return;
        }
        for place in 0..self.extensions.len() {
            self.alive.insert(ProcessRole::Extension(place));
            effects.push(Effect::Start(
                self.generation,
                ProcessRole::Extension(place),
            ));
        }
        if self.extensions.is_empty() {
            self.start_runtime(effects);
        }
    }

    pub(super) fn init_done(&mut self, now: Now, effects: &mut Effects) {
        let Phase::Init(init) = self.phase else {
            return;
        };
        self.log_extensions(effects);
        if self.setup.snap_start && init.within == Within::Itself {
            self.take_snapshot(now, effects);
            return;
        }
        self.phase = Phase::Ready;
        if init.within == Within::Itself && !self.waiting.is_empty() {
            self.init = Some(now.active.saturating_sub(init.since));
        }
        let began = match init.within {
            Within::Itself => now.active,
            Within::Invocation => init.since,
        };
        while let Some(event) = self.waiting.pop_front() {
            self.begin_invocation(now, began, event, effects);
        }
        self.rest(effects);
    }

    pub(super) fn init_failed(&mut self, now: Now, message: &str, effects: &mut Effects) {
        let Phase::Init(init) = self.phase else {
            return;
        };
        self.log_extensions(effects);
        let kind = self.fatal_type();
        effects.push(init.report(now, &format!("error\tError Type: {kind}")));
        if init.within == Within::Itself && !self.setup.managed {
            self.init_to_be_repeated(now, init);
            self.end(now, ShutdownReason::Spindown, After::Init, effects);
            return;
        }
        let failure = InvocationFailure::error(kind, message);
        self.fail_waiting(now, init.since, &failure, effects);
        let after = if self.setup.managed {
            After::Gone
        } else {
            After::Empty
        };
        self.end(now, ShutdownReason::Failure, after, effects);
    }

    pub(super) fn init_timed_out(&mut self, now: Now, effects: &mut Effects) {
        let Phase::Init(init) = self.phase else {
            return;
        };
        self.log_extensions(effects);
        effects.push(init.report(now, "timeout"));
        match init.within {
            Within::Itself => {
                self.init_to_be_repeated(now, init);
                self.kill_all(now, After::Init, effects);
            }
            Within::Invocation => {
                let failure = InvocationFailure::timeout(self.setup.timeout);
                self.fail_waiting(now, init.since, &failure, effects);
                self.end(now, ShutdownReason::Timeout, After::Empty, effects);
            }
        }
    }

    /// Records an abandoned Init, which is billed.
    fn init_to_be_repeated(&mut self, now: Now, init: Init) {
        if !self.waiting.is_empty() {
            self.init = Some(now.active.saturating_sub(init.since));
        }
    }

    /// Ends the invocations that wait for this Init.
    pub(super) fn fail_waiting(
        &mut self,
        now: Now,
        since: Duration,
        failure: &InvocationFailure,
        effects: &mut Effects,
    ) {
        while let Some(event) = self.waiting.pop_front() {
            effects.push(super::in_flight::start_line(&event));
            let mut one = InFlight::new(event, now, since, self.setup.timeout);
            one.init = self.init.take();
            self.in_flight.push(one);
        }
        self.fail(now, failure, effects);
    }

    /// Returns `true` during an Init before any invocation.
    pub(super) fn is_first_init(&self) -> bool {
        matches!(&self.phase, Phase::Init(init) if init.within == Within::Itself)
    }

    fn log_extensions(&self, effects: &mut Effects) {
        effects.extend(self.extensions.iter().map(|one| Effect::Log(one.line())));
    }
}
