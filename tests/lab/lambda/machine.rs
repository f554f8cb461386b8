//! State machine of an execution environment: takes [`Input`]s and returns [`Effect`]s. The machine
//! knows no process, no socket and no clock: [`Now`] comes with every input, and processes and
//! callers are names. The driver ([`super::environment`]) performs the effects in order and calls
//! [`Machine::due`] for the next timer.
//!
//! [`Now::active`] does not advance while the environment is frozen, and neither do time limits.
//!
//! The states of extensions and runtime, and the calls allowed in each, are those of RIE's `core`.
//! The responses to forbidden calls are in [`response`].

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::report::Status;
use super::state::{ShutdownReason, State};

mod ending;
mod exit;
mod extensions;
mod in_flight;
mod init;
mod invoke;
mod response;
mod restore;
mod runtime;

pub(super) use exit::Exit;
pub(super) use response::ApiResponse;

use ending::Ending;
use extensions::Extension;
use in_flight::InFlight;
use init::Init;
use restore::Restore;
use runtime::Runtime;

/// Constant configuration of an environment.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// Names of the programs in `/opt/extensions`.
    pub(super) extensions: Vec<String>,
    /// Maximum duration of Init before an invocation; `None` without a limit.
    pub(super) init_limit: Option<Duration>,
    /// Timeout of an invocation.
    pub(super) timeout: Duration,
    /// `true` on managed instances: concurrent invocations, no INVOKE events.
    pub(super) managed: bool,
    /// `true` under `SnapStart`: the environment is frozen at the end of Init, and restored for an
    /// invocation.
    pub(super) snap_start: bool,
    /// `true` to freeze when all have called `next`.
    pub(super) freeze_when_idle: bool,
    pub(super) function_name: String,
    pub(super) handler: String,
    pub(super) account: String,
    pub(super) arn: String,
}

/// Current time on two clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Time since the environment was created, without the time in which it was frozen.
    pub(super) active: Duration,
    /// Wall clock of the environment, in milliseconds since 1970.
    pub(super) epoch_ms: u64,
}

/// A process of the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ProcessRole {
    /// Index into [`Setup::extensions`].
    Extension(usize),
    Runtime,
}

/// An event for the function.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) payload: Bytes,
    /// Value of `X-Amzn-Trace-Id`.
    pub(super) trace: String,
    /// Decoded client context; most callers send none.
    pub(super) client_context: Option<String>,
}

/// A call of the Runtime or Extensions API. `from` is the identifier that a caller gives.
#[derive(Clone, Debug)]
pub(super) enum ApiRequest {
    RuntimeNext,
    Response {
        id: String,
        /// Value of `Lambda-Runtime-Function-Response-Mode`.
        mode: Option<String>,
        body: Bytes,
    },
    Error {
        id: String,
        body: Bytes,
    },
    RuntimeInitError {
        body: Bytes,
        kind: Option<String>,
    },
    RestoreNext,
    RestoreError {
        kind: Option<String>,
    },
    Register {
        name: Option<String>,
        /// `true` if the response must contain the account id.
        account: bool,
        body: Bytes,
    },
    ExtensionNext {
        from: Option<String>,
    },
    ExtensionInitError {
        from: Option<String>,
        kind: Option<String>,
    },
    ExtensionExitError {
        from: Option<String>,
        kind: Option<String>,
    },
}

/// An input of the machine.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// Starts Init ahead of any invocation.
    Begin,
    /// An invocation arrived.
    Invoke(Event),
    /// A process inside calls the API. The id also becomes the identifier in the response, if there
    /// is one.
    Call(Uuid, ApiRequest),
    /// A caller inside has disconnected before its response.
    HungUp(Uuid),
    /// Restore the snapshot, ahead of an invocation or once more.
    Restore,
    /// A process of that generation has exited.
    Exited(u32, ProcessRole, Exit),
    /// A process could not be started, with the reason.
    NotLaunched(u32, ProcessRole, String),
    /// End all processes.
    Reset(ShutdownReason),
    /// End all processes and the environment.
    Shutdown(ShutdownReason),
    /// Time has passed.
    Tick,
}

/// An effect for the driver to perform.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    /// Start a process of the generation.
    Start(u32, ProcessRole),
    /// Send SIGTERM.
    Terminate(ProcessRole),
    /// Send SIGKILL.
    Kill(ProcessRole),
    /// Issue other credentials, and close the connections to the API: a restore begins.
    Renew,
    /// Thaw all processes.
    Thaw,
    /// Freeze all processes.
    Freeze,
    /// Send the response to an API call.
    Reply(Uuid, ApiResponse),
    /// Close the pending calls: no process is left to read a response.
    HangUp,
    /// Write a line to the function's log.
    Log(String),
    /// Send the response to the invocation's caller; `failed` if it does not come from the
    /// function.
    Answer {
        id: String,
        body: Bytes,
        failed: bool,
    },
    /// Write the END and REPORT lines.
    Report(Account),
    /// The invocation has ended, its reset included: its capacity is free.
    Over(String),
    /// The invocation was not accepted: the environment is shutting down.
    NotAccepted(String),
}

/// Data of a report; the driver adds the memory.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) id: String,
    pub(super) init: Option<Duration>,
    pub(super) restore: Option<Duration>,
    pub(super) duration: Duration,
    pub(super) tail: Duration,
    pub(super) status: Status,
}

/// State of an environment.
#[derive(Debug)]
pub(super) struct Machine {
    setup: Setup,
    phase: Phase,
    /// Generation of processes; each Init begins another.
    generation: u32,
    /// Processes that have started and not yet exited.
    alive: BTreeSet<ProcessRole>,
    runtime: Runtime,
    extensions: Vec<Extension>,
    /// `true` while internal extensions may register: until the runtime calls `next`.
    registration: bool,
    /// Type of the first fatal error.
    fatal: Option<&'static str>,
    /// A process exited between two invocations: message of the next invocation's failure.
    broken: Option<String>,
    /// `true` until the first Init.
    fresh: bool,
    /// Duration of the Init that the next invocation reports.
    init: Option<Duration>,
    /// Duration of the restore that the next invocation reports.
    restored_in: Option<Duration>,
    /// Invocations that wait for Init, for a restore, or for the end of a reset.
    waiting: VecDeque<Event>,
    /// Invocations in progress; on demand at most one.
    in_flight: Vec<InFlight>,
    /// Invocations that are answered and reported and wait for the end of the reset.
    failed: Vec<String>,
    /// On managed instances: invocations past their timeout, whose response may still arrive.
    late: BTreeSet<String>,
}

#[derive(Debug)]
enum Phase {
    Empty,
    Init(Init),
    Snapshot,
    Restore(Restore),
    Ready,
    Ending(Ending),
    Gone,
}

type Effects = Vec<Effect>;

impl Machine {
    pub(super) fn new(setup: Setup) -> Self {
        Self {
            setup,
            phase: Phase::Empty,
            generation: 0,
            alive: BTreeSet::new(),
            runtime: Runtime::default(),
            extensions: Vec::new(),
            registration: false,
            fatal: None,
            broken: None,
            fresh: true,
            init: None,
            restored_in: None,
            waiting: VecDeque::new(),
            in_flight: Vec::new(),
            failed: Vec::new(),
            late: BTreeSet::new(),
        }
    }

    pub(super) fn state(&self) -> State {
        match &self.phase {
            Phase::Empty => State::Empty,
            Phase::Init(_) => State::Init,
            Phase::Snapshot => State::Snapshot,
            Phase::Restore(_) => State::Restore,
            Phase::Ending(_) => State::Ending,
            Phase::Gone => State::Gone,
            Phase::Ready if self.in_flight.is_empty() => State::Idle,
            Phase::Ready if self.in_flight.iter().all(InFlight::is_answered) => State::Tail,
            Phase::Ready => State::Invoke,
        }
    }

    /// Time of the next [`Input::Tick`] at the latest, on the clock of [`Now::active`].
    pub(super) fn due(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Init(init) => init.due(),
            Phase::Ending(ending) => ending.due(),
            Phase::Ready => self.in_flight.iter().map(InFlight::due).min(),
            Phase::Restore(restore) => Some(restore.due()),
            Phase::Empty | Phase::Snapshot | Phase::Gone => None,
        }
    }

    /// Processes one input.
    pub(super) fn step(&mut self, now: Now, input: Input) -> Effects {
        let mut effects = Effects::new();
        match input {
            Input::Begin => {
                if matches!(self.phase, Phase::Empty) {
                    self.begin_init(now, &mut effects);
                }
            }
            Input::Invoke(event) => self.invoke(now, event, &mut effects),
            Input::Call(call, request) => self.call(now, call, request, &mut effects),
            Input::HungUp(call) => {
                self.runtime.forget(call);
                for extension in &mut self.extensions {
                    extension.forget(call);
                }
            }
            Input::Exited(generation, role, exit) if generation == self.generation => {
                self.exited(now, role, exit, &mut effects);
            }
            Input::NotLaunched(generation, role, why) if generation == self.generation => {
                self.not_launched(now, role, &why, &mut effects);
            }
            Input::Restore => self.restore(now, &mut effects),
            Input::Reset(reason) => self.end_on_request(now, reason, false, &mut effects),
            Input::Shutdown(reason) => self.end_on_request(now, reason, true, &mut effects),
            // Events of exited processes have no further effect.
            Input::Exited(..) | Input::NotLaunched(..) | Input::Tick => {}
        }
        self.look_at_the_time(now, &mut effects);
        effects
    }

    fn call(&mut self, now: Now, call: Uuid, request: ApiRequest, effects: &mut Effects) {
        let reply = match request {
            ApiRequest::RuntimeNext => self.runtime_next(now, call, effects),
            ApiRequest::Response { id, mode, body } => {
                Some(self.response(now, &id, mode.as_deref(), body, effects))
            }
            ApiRequest::Error { id, body } => Some(self.error(now, &id, body, effects)),
            ApiRequest::RuntimeInitError { body, kind } => {
                Some(self.runtime_init_error(now, body, kind, effects))
            }
            ApiRequest::RestoreNext => self.restore_next(call, effects),
            ApiRequest::RestoreError { kind } => Some(self.restore_error(now, kind, effects)),
            ApiRequest::Register {
                name,
                account,
                body,
            } => Some(self.register(call, name.as_deref(), account, &body, effects)),
            ApiRequest::ExtensionNext { from } => {
                self.extension_next(call, from.as_deref(), effects)
            }
            ApiRequest::ExtensionInitError { from, kind } => {
                Some(self.extension_error(extensions::ErrorReport::Init, from.as_deref(), kind))
            }
            ApiRequest::ExtensionExitError { from, kind } => {
                Some(self.extension_error(extensions::ErrorReport::Exit, from.as_deref(), kind))
            }
        };
        if let Some(reply) = reply {
            // Placed before the effects of the call: a response precedes the next event.
            effects.insert(0, Effect::Reply(call, reply));
        }
        self.look_at_progress(now, effects);
    }

    /// Ends Init or an invocation if it is complete.
    fn look_at_progress(&mut self, now: Now, effects: &mut Effects) {
        match &self.phase {
            Phase::Init(_) if self.all_ready() => self.init_done(now, effects),
            Phase::Restore(_) if self.runtime.is_ready() => self.restore_done(now, effects),
            Phase::Ready => self.finish_invocations(now, effects),
            _ => {}
        }
    }

    /// Returns `true` if runtime and extensions have all called `next`. Before a snapshot, the
    /// runtime can wait for the restore instead.
    fn all_ready(&self) -> bool {
        (self.runtime.is_ready() || self.runtime.waits_for_restore())
            && self.extensions.iter().all(Extension::is_ready)
    }

    fn look_at_the_time(&mut self, now: Now, effects: &mut Effects) {
        if self.due().is_none_or(|due| due > now.active) {
            return;
        }
        match &self.phase {
            Phase::Init(_) => self.init_timed_out(now, effects),
            Phase::Ready => self.invocation_timed_out(now, effects),
            Phase::Restore(_) => self.restore_timed_out(now, effects),
            Phase::Ending(_) => self.go_on_ending(now, effects),
            Phase::Empty | Phase::Snapshot | Phase::Gone => {}
        }
    }

    fn exited(&mut self, now: Now, role: ProcessRole, exit: Exit, effects: &mut Effects) {
        self.alive.remove(&role);
        if matches!(self.phase, Phase::Ending(_)) {
            self.go_on_ending(now, effects);
            return;
        }
        self.fatal.get_or_insert(match role {
            ProcessRole::Runtime => "Runtime.ExitError",
            ProcessRole::Extension(_) => "Extension.Crash",
        });
        self.broke(now, exit.message(role), effects);
    }

    fn not_launched(&mut self, now: Now, role: ProcessRole, why: &str, effects: &mut Effects) {
        self.alive.remove(&role);
        if matches!(self.phase, Phase::Ending(_)) {
            self.go_on_ending(now, effects);
            return;
        }
        self.fatal.get_or_insert(match role {
            ProcessRole::Runtime => "Runtime.InvalidEntrypoint",
            ProcessRole::Extension(_) => "Extension.LaunchError",
        });
        if let ProcessRole::Extension(place) = role
            && let Some(extension) = self.extensions.get_mut(place)
        {
            extension.not_launched(why);
        }
        self.broke(now, why.to_owned(), effects);
    }

    /// Handles an error after which the processes cannot continue.
    fn broke(&mut self, now: Now, message: String, effects: &mut Effects) {
        match &self.phase {
            Phase::Init(_) => self.init_failed(now, &message, effects),
            Phase::Snapshot => self.end(now, ShutdownReason::Failure, ending::After::Gone, effects),
            Phase::Restore(_) => {
                let kind = self.fatal_type();
                self.restore_failed(now, kind, &message, effects);
            }
            Phase::Ready if self.setup.managed => {
                self.fail_invocations(now, &message, effects);
                self.end(now, ShutdownReason::Failure, ending::After::Gone, effects);
            }
            Phase::Ready if self.in_flight.is_empty() => {
                self.broken.get_or_insert(message);
            }
            Phase::Ready => {
                self.fail_invocations(now, &message, effects);
                self.end(now, ShutdownReason::Failure, ending::After::Empty, effects);
            }
            Phase::Empty | Phase::Ending(_) | Phase::Gone => {}
        }
    }

    /// Type of the error.
    fn fatal_type(&self) -> &'static str {
        self.fatal.unwrap_or("Sandbox.Failure")
    }
}

#[cfg(test)]
mod tests;
