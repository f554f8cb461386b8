//! What an execution environment does, and when: a machine that is told what happened and says
//! what is to be done. It knows no process, no socket and no clock: [`Now`] comes with every
//! [`Input`], and processes and callers are names. Whoever drives it ([`super::environment`])
//! carries out the [`Effect`]s in their order and asks [`Machine::due`] when to come back although
//! nothing has happened.
//!
//! [`Now::active`] does not run while the environment is frozen, so no limit of time does either.
//!
//! The states of extensions and runtime, and which call is allowed in which, are those of RIE's
//! `core`; what a call that is not allowed is told is in [`reply`].

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::environment::{ShutdownReason, State};
use super::report::Status;

mod ending;
mod exit;
mod extensions;
mod init;
mod invoke;
mod reply;
mod runtime;

pub(super) use exit::Exit;
pub(super) use reply::Reply;

use ending::Ending;
use extensions::Extension;
use init::Init;
use invoke::InFlight;
use runtime::Runtime;

/// What does not change in an environment's life.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// The names of the programs in `/opt/extensions`.
    pub(super) extensions: Vec<String>,
    /// How long Init may take before an invocation; `None` without a limit.
    pub(super) init_limit: Option<Duration>,
    /// How long an invocation may take.
    pub(super) timeout: Duration,
    /// Whether it runs on managed instances: invocations side by side, no INVOKE events.
    pub(super) managed: bool,
    /// Whether to freeze when all have called `next`.
    pub(super) freeze_when_idle: bool,
    pub(super) function_name: String,
    pub(super) handler: String,
    pub(super) account: String,
    pub(super) arn: String,
}

/// The time, by two clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// Since the environment was made, without the time in which it was frozen.
    pub(super) active: Duration,
    /// The environment's wall clock, in milliseconds since 1970.
    pub(super) epoch_ms: u64,
}

/// A process of the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    /// By its place in [`Setup::extensions`].
    Extension(usize),
    Runtime,
}

/// An event for the function.
#[derive(Clone, Debug)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) payload: Bytes,
    /// The value of `X-Amzn-Trace-Id`.
    pub(super) trace: String,
    /// The client context, decoded; most callers send none.
    pub(super) client_context: Option<String>,
}

/// A call of the Runtime or Extensions API. `from` is the identifier that a caller gives.
#[derive(Clone, Debug)]
pub(super) enum Request {
    RuntimeNext,
    Response {
        id: String,
        /// The value of `Lambda-Runtime-Function-Response-Mode`.
        mode: Option<String>,
        body: Bytes,
    },
    Error {
        id: String,
        body: Bytes,
    },
    RuntimeInitError {
        body: Bytes,
    },
    Register {
        name: Option<String>,
        /// Whether the account's id is asked for.
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

/// What happened.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// Init is wanted ahead of any invocation.
    Begin,
    /// An invocation came.
    Invoke(Event),
    /// Someone inside calls. The id also becomes the identifier that the answer carries, if any.
    Call(Uuid, Request),
    /// A caller inside has gone before it was answered.
    HungUp(Uuid),
    /// A process of that generation has ended.
    Exited(u32, Who, Exit),
    /// It could not be started, with the reason.
    NotLaunched(u32, Who, String),
    /// All processes are to end.
    Reset(ShutdownReason),
    /// All processes are to end, and the environment too.
    Shutdown(ShutdownReason),
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    /// Start a process of the generation.
    Start(u32, Who),
    /// Ask it to end, with SIGTERM.
    Terminate(Who),
    /// Kill it.
    Kill(Who),
    /// Let everything go on.
    Thaw,
    /// Stop everything.
    Freeze,
    /// Answer a call.
    Reply(Uuid, Reply),
    /// Nobody is left to answer the calls that wait.
    HangUp,
    /// Write a line of the function's log.
    Log(String),
    /// Answer the invocation's caller; `failed` when it is no answer of the function.
    Answer {
        id: String,
        body: Bytes,
        failed: bool,
    },
    /// Write the END and REPORT lines.
    Report(Account),
    /// The invocation is over, its reset included: the environment has room for another.
    Over(String),
    /// The invocation came too late: the environment is going.
    NotTaken(String),
}

/// What a report is made of; the memory is added by who can see it.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) id: String,
    pub(super) init: Option<Duration>,
    pub(super) duration: Duration,
    pub(super) tail: Duration,
    pub(super) status: Status,
}

/// An environment.
#[derive(Debug)]
pub(super) struct Machine {
    setup: Setup,
    phase: Phase,
    /// Which set of processes this is; each Init begins another.
    generation: u32,
    /// Processes that have been started and have not ended.
    alive: BTreeSet<Who>,
    runtime: Runtime,
    extensions: Vec<Extension>,
    /// Whether an extension that nobody started may register: until the runtime calls `next`.
    registration: bool,
    /// The type of the first error from which there is no way back.
    fatal: Option<&'static str>,
    /// A process has died between two invocations: what the next one will fail with.
    broken: Option<String>,
    /// No Init has been tried so far.
    fresh: bool,
    /// How long the Init took that the next invocation is to report.
    init: Option<Duration>,
    /// Invocations that wait for Init, or for the end of a reset.
    waiting: VecDeque<Event>,
    /// Invocations that have begun; on demand one at most.
    in_flight: Vec<InFlight>,
    /// Invocations that are answered and reported and wait for the end of the reset.
    failed: Vec<String>,
    /// On managed instances: invocations whose time ran out, and whose answer may still come.
    late: BTreeSet<String>,
}

#[derive(Debug)]
enum Phase {
    Empty,
    Init(Init),
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
            Phase::Ending(_) => State::Ending,
            Phase::Gone => State::Gone,
            Phase::Ready if self.in_flight.is_empty() => State::Idle,
            Phase::Ready if self.in_flight.iter().all(InFlight::is_answered) => State::Tail,
            Phase::Ready => State::Invoke,
        }
    }

    /// When to be told of the time at the latest, on the clock of [`Now::active`].
    pub(super) fn due(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Init(init) => init.due(),
            Phase::Ending(ending) => ending.due(),
            Phase::Ready => self.in_flight.iter().map(InFlight::due).min(),
            Phase::Empty | Phase::Gone => None,
        }
    }

    /// Takes what happened.
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
            Input::Exited(generation, who, exit) if generation == self.generation => {
                self.exited(now, who, exit, &mut effects);
            }
            Input::NotLaunched(generation, who, why) if generation == self.generation => {
                self.not_launched(now, who, &why, &mut effects);
            }
            Input::Reset(reason) => self.end_by_hand(now, reason, false, &mut effects),
            Input::Shutdown(reason) => self.end_by_hand(now, reason, true, &mut effects),
            // Of processes that were, nothing more is to be learned.
            Input::Exited(..) | Input::NotLaunched(..) | Input::Tick => {}
        }
        self.look_at_the_time(now, &mut effects);
        effects
    }

    fn call(&mut self, now: Now, call: Uuid, request: Request, effects: &mut Effects) {
        let reply = match request {
            Request::RuntimeNext => self.runtime_next(now, call, effects),
            Request::Response { id, mode, body } => {
                Some(self.response(now, &id, mode.as_deref(), body, effects))
            }
            Request::Error { id, body } => Some(self.error(now, &id, body, effects)),
            Request::RuntimeInitError { body } => Some(self.runtime_init_error(body)),
            Request::Register {
                name,
                account,
                body,
            } => Some(self.register(call, name.as_deref(), account, &body, effects)),
            Request::ExtensionNext { from } => self.extension_next(call, from.as_deref(), effects),
            Request::ExtensionInitError { from, kind } => {
                Some(self.extension_error(extensions::Fault::Init, from.as_deref(), kind))
            }
            Request::ExtensionExitError { from, kind } => {
                Some(self.extension_error(extensions::Fault::Exit, from.as_deref(), kind))
            }
        };
        if let Some(reply) = reply {
            // Before what follows from the call: an answer precedes the next event.
            effects.insert(0, Effect::Reply(call, reply));
        }
        self.look_at_progress(now, effects);
    }

    /// Init or an invocation may have come to its end.
    fn look_at_progress(&mut self, now: Now, effects: &mut Effects) {
        match &self.phase {
            Phase::Init(_) if self.all_ready() => self.init_done(now, effects),
            Phase::Ready => self.finish_invocations(now, effects),
            _ => {}
        }
    }

    /// Runtime and extensions have all called `next`.
    fn all_ready(&self) -> bool {
        self.runtime.is_ready() && self.extensions.iter().all(Extension::is_ready)
    }

    fn look_at_the_time(&mut self, now: Now, effects: &mut Effects) {
        if self.due().is_none_or(|due| due > now.active) {
            return;
        }
        match &self.phase {
            Phase::Init(_) => self.init_timed_out(now, effects),
            Phase::Ready => self.invocation_timed_out(now, effects),
            Phase::Ending(_) => self.go_on_ending(now, effects),
            Phase::Empty | Phase::Gone => {}
        }
    }

    fn exited(&mut self, now: Now, who: Who, exit: Exit, effects: &mut Effects) {
        self.alive.remove(&who);
        if matches!(self.phase, Phase::Ending(_)) {
            self.go_on_ending(now, effects);
            return;
        }
        self.fatal.get_or_insert(match who {
            Who::Runtime => "Runtime.ExitError",
            Who::Extension(_) => "Extension.Crash",
        });
        self.broke(now, exit.message(who), effects);
    }

    fn not_launched(&mut self, now: Now, who: Who, why: &str, effects: &mut Effects) {
        self.alive.remove(&who);
        if matches!(self.phase, Phase::Ending(_)) {
            self.go_on_ending(now, effects);
            return;
        }
        self.fatal.get_or_insert(match who {
            Who::Runtime => "Runtime.InvalidEntrypoint",
            Who::Extension(_) => "Extension.LaunchError",
        });
        if let Who::Extension(place) = who
            && let Some(extension) = self.extensions.get_mut(place)
        {
            extension.not_launched(why);
        }
        self.broke(now, why.to_owned(), effects);
    }

    /// Something has happened after which the processes cannot go on.
    fn broke(&mut self, now: Now, message: String, effects: &mut Effects) {
        match &self.phase {
            Phase::Init(_) => self.init_failed(now, &message, effects),
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

    /// The type of what went wrong.
    fn fatal_type(&self) -> &'static str {
        self.fatal.unwrap_or("Sandbox.Failure")
    }
}

#[cfg(test)]
mod tests;
