//! Property tests of the machine: its invariants hold over any sequence of calls, exits and times.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    OnDemand,
    SnapStart,
    Managed,
}

fn setup(extensions: usize, kind: Kind) -> Setup {
    let managed = kind == Kind::Managed;
    Setup {
        extensions: (0..extensions).map(|number| format!("e{number}")).collect(),
        init_limit: (kind == Kind::OnDemand).then_some(Duration::from_secs(10)),
        timeout: Duration::from_secs(3),
        snap_start: kind == Kind::SnapStart,
        managed,
        freeze_when_idle: true,
        function_name: "lab".into(),
        handler: "bootstrap".into(),
        account: "012345678912".into(),
        arn: "arn".into(),
    }
}

/// A random action, with numbers taken modulo the number of candidates.
#[derive(Clone, Copy, Debug)]
enum Act {
    Invoke,
    Begin,
    Register(usize, bool),
    ExtensionNext(usize),
    ExtensionError(usize, bool),
    RuntimeNext,
    Respond(usize),
    InitError,
    RestoreNext,
    RestoreError,
    Restore,
    Die(usize),
    HangUp(usize),
    Reset,
    Shutdown,
    Wait(u64),
    /// Nothing happens until the next time limit.
    WaitUntilDue,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Invoke),
        1 => Just(Act::Begin),
        6 => (0..4_usize, any::<bool>()).prop_map(|(role, all)| Act::Register(role, all)),
        8 => (0..4_usize).prop_map(Act::ExtensionNext),
        1 => (0..4_usize, any::<bool>()).prop_map(|(role, init)| Act::ExtensionError(role, init)),
        8 => Just(Act::RuntimeNext),
        6 => (0..4_usize).prop_map(Act::Respond),
        1 => Just(Act::InitError),
        4 => Just(Act::RestoreNext),
        1 => Just(Act::RestoreError),
        1 => Just(Act::Restore),
        2 => (0..4_usize).prop_map(Act::Die),
        1 => (0..8_usize).prop_map(Act::HangUp),
        1 => Just(Act::Reset),
        1 => Just(Act::Shutdown),
        2 => (0..4_000_u64).prop_map(Act::Wait),
        1 => Just(Act::WaitUntilDue),
    ]
}

/// Simulated surroundings of a machine, which check every effect.
struct World {
    machine: Machine,
    now: Duration,
    managed: bool,
    generation: u32,
    alive: BTreeSet<ProcessRole>,
    /// Killed processes whose exit was not yet reported.
    killed: BTreeSet<ProcessRole>,
    frozen: bool,
    identifiers: BTreeMap<usize, Uuid>,
    calls: Vec<Uuid>,
    replied: BTreeSet<Uuid>,
    reserved: Vec<String>,
    answered: BTreeSet<String>,
    reported: BTreeSet<String>,
    over: BTreeSet<String>,
}

impl World {
    fn new(extensions: usize, kind: Kind) -> Self {
        Self {
            machine: Machine::new(setup(extensions, kind)),
            now: Duration::ZERO,
            managed: kind == Kind::Managed,
            generation: 0,
            alive: BTreeSet::new(),
            killed: BTreeSet::new(),
            frozen: false,
            identifiers: BTreeMap::new(),
            calls: Vec::new(),
            replied: BTreeSet::new(),
            reserved: Vec::new(),
            answered: BTreeSet::new(),
            reported: BTreeSet::new(),
            over: BTreeSet::new(),
        }
    }

    fn send(&mut self, input: Input) {
        let now = Now {
            active: self.now,
            epoch_ms: 1_000_000 + u64::try_from(self.now.as_millis()).unwrap(),
        };
        for effect in self.machine.step(now, input) {
            self.check(effect);
        }
        let due = self.machine.due();
        assert!(
            due.is_none_or(|due| due > self.now),
            "the timer at {due:?} was skipped"
        );
    }

    fn check(&mut self, effect: Effect) {
        match effect {
            Effect::Start(generation, role) => {
                assert!(generation >= self.generation);
                self.generation = generation;
                assert!(!self.frozen, "a process started while frozen");
                assert!(self.alive.insert(role), "{role:?} runs already");
            }
            Effect::Terminate(role) => {
                assert!(self.alive.contains(&role), "{role:?} does not run");
            }
            Effect::Kill(role) => {
                assert!(self.alive.contains(&role), "{role:?} does not run");
                self.killed.insert(role);
            }
            Effect::Thaw => self.frozen = false,
            Effect::Freeze => {
                assert!(!self.managed, "managed instances are never frozen");
                let state = self.machine.state();
                let in_snapshot = matches!(state, State::Snapshot | State::Restore | State::Invoke);
                let snapshot = in_snapshot && self.machine.setup.snap_start;
                assert!(state == State::Idle || snapshot, "frozen in {state:?}");
                self.frozen = true;
            }
            Effect::Renew => assert!(self.frozen, "a restore of running processes"),
            Effect::Reply(call, reply) => {
                assert!(self.replied.insert(call), "answered twice");
                if reply.status == StatusCode::OK {
                    assert!(!self.frozen, "an event while frozen");
                }
            }
            Effect::Answer { id, .. } => {
                assert!(self.reserved.contains(&id));
                assert!(!self.over.contains(&id), "a response after the end");
                assert!(self.answered.insert(id), "two answers");
            }
            Effect::Report(account) => {
                assert!(
                    self.answered.contains(&account.id),
                    "ended without a response"
                );
                assert!(account.duration <= Duration::from_secs(3));
                assert!(account.tail <= account.duration);
                assert!(self.reported.insert(account.id), "two reports");
            }
            Effect::Over(id) => {
                assert!(self.reported.contains(&id));
                assert!(self.over.insert(id), "over twice");
            }
            Effect::NotAccepted(id) => {
                assert!(!self.answered.contains(&id));
                self.answered.insert(id.clone());
                assert!(self.over.insert(id));
            }
            Effect::Log(line) => assert!(!line.contains('\n')),
            Effect::HangUp => assert!(self.alive.is_empty(), "a process still runs"),
        }
    }

    fn call(&mut self, request: ApiRequest) -> Uuid {
        let call = Uuid::from_u128(self.calls.len() as u128 + 1);
        self.calls.push(call);
        self.send(Input::Call(call, request));
        call
    }

    /// Frozen processes do nothing.
    fn can(&self, role: ProcessRole) -> bool {
        self.alive.contains(&role) && !self.frozen
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Invoke => {
                // An environment never gets more invocations than its capacity.
                let open = self
                    .reserved
                    .iter()
                    .filter(|id| !self.over.contains(*id))
                    .count();
                if open < if self.managed { 4 } else { 1 } {
                    let id = format!("i{}", self.reserved.len());
                    self.reserved.push(id.clone());
                    self.send(Input::Invoke(Event {
                        id,
                        payload: Bytes::new(),
                        trace: String::new(),
                        client_context: None,
                    }));
                }
            }
            Act::Begin => self.send(Input::Begin),
            Act::Register(role, all) if self.can(ProcessRole::Extension(role)) => {
                let body = match (all, self.managed) {
                    (true, false) => r#"{"events":["INVOKE","SHUTDOWN"]}"#,
                    (_, true) => r#"{"events":["SHUTDOWN"]}"#,
                    (false, false) => r#"{"events":[]}"#,
                };
                let call = self.call(ApiRequest::Register {
                    name: Some(format!("e{role}")),
                    account: false,
                    body: body.into(),
                });
                self.identifiers.insert(role, call);
            }
            Act::ExtensionNext(role) if self.can(ProcessRole::Extension(role)) => {
                let from = self.identifiers.get(&role).map(Uuid::to_string);
                self.call(ApiRequest::ExtensionNext { from });
            }
            Act::ExtensionError(role, init) if self.can(ProcessRole::Extension(role)) => {
                let from = self.identifiers.get(&role).map(Uuid::to_string);
                let kind = Some("Extension.Reason".to_owned());
                self.call(if init {
                    ApiRequest::ExtensionInitError { from, kind }
                } else {
                    ApiRequest::ExtensionExitError { from, kind }
                });
            }
            Act::RuntimeNext if self.can(ProcessRole::Runtime) => {
                self.call(ApiRequest::RuntimeNext);
            }
            Act::Respond(back) if self.can(ProcessRole::Runtime) && !self.reserved.is_empty() => {
                let place = self.reserved.len() - 1 - back % self.reserved.len();
                let id = self.reserved[place].clone();
                let body = Bytes::new();
                self.call(if back == 3 {
                    ApiRequest::Error { id, body }
                } else {
                    ApiRequest::Response {
                        id,
                        mode: None,
                        body,
                    }
                });
            }
            Act::InitError if self.can(ProcessRole::Runtime) => {
                let body = Bytes::new();
                self.call(ApiRequest::RuntimeInitError { body, kind: None });
            }
            Act::RestoreNext if self.can(ProcessRole::Runtime) => {
                self.call(ApiRequest::RestoreNext);
            }
            Act::RestoreError if self.can(ProcessRole::Runtime) => {
                self.call(ApiRequest::RestoreError { kind: None });
            }
            Act::Restore => self.send(Input::Restore),
            Act::Die(place) if !self.alive.is_empty() => {
                let role = *self.alive.iter().nth(place % self.alive.len()).unwrap();
                self.die(role);
            }
            Act::HangUp(back) if !self.calls.is_empty() => {
                let place = self.calls.len() - 1 - back % self.calls.len();
                self.send(Input::HungUp(self.calls[place]));
            }
            Act::Reset => self.send(Input::Reset(ShutdownReason::Failure)),
            Act::Shutdown => self.send(Input::Shutdown(ShutdownReason::Spindown)),
            Act::Wait(milliseconds) if !self.frozen => {
                let until = self.now + Duration::from_millis(milliseconds);
                while let Some(due) = self.machine.due().filter(|due| *due <= until) {
                    self.now = due;
                    self.send(Input::Tick);
                }
                self.now = until;
            }
            Act::WaitUntilDue => self.pass(),
            // No process is left that could act.
            _ => {}
        }
    }

    fn pass(&mut self) {
        if let Some(due) = self.machine.due() {
            self.now = due;
            self.send(Input::Tick);
        }
    }

    fn die(&mut self, role: ProcessRole) {
        self.alive.remove(&role);
        self.killed.remove(&role);
        self.send(Input::Exited(self.generation, role, Exit::Signal(9)));
    }

    /// Reports the exits of killed processes; no other process exits by itself.
    fn bury(&mut self) {
        while let Some(role) = self.killed.pop_first() {
            self.die(role);
        }
    }

    /// After any sequence, time limits and exits bring every invocation to its end, and a shutdown
    /// the environment.
    fn run_to_the_end(&mut self) {
        for _ in 0..100 {
            let open = self.reserved.iter().any(|id| !self.over.contains(id));
            let ending = self.machine.state() == State::Ending;
            if !open && !ending {
                break;
            }
            if self.machine.due().is_none() && !ending {
                // An Init without a limit ends when a process exits.
                self.act(Act::Die(0));
            }
            self.pass();
            self.bury();
        }
        let open: Vec<_> = self
            .reserved
            .iter()
            .filter(|id| !self.over.contains(*id))
            .collect();
        assert!(
            open.is_empty(),
            "{open:?} never end in {:?}",
            self.machine.state()
        );
        self.send(Input::Shutdown(ShutdownReason::Spindown));
        for _ in 0..3 {
            self.bury();
            self.pass();
        }
        assert_eq!(self.machine.state(), State::Gone);
        assert_eq!(self.machine.due(), None);
    }
}

#[test]
fn a_restore_that_takes_too_long_fails_its_invocation() {
    let mut world = World::new(0, Kind::SnapStart);
    world.send(Input::Begin);
    world.act(Act::RestoreNext);
    assert_eq!(world.machine.state(), State::Snapshot);
    assert!(world.frozen);
    assert_eq!(world.machine.due(), None, "a snapshot has no limit");
    world.act(Act::Invoke);
    assert_eq!(world.machine.state(), State::Restore);
    assert!(!world.frozen);
    let limit = Duration::from_secs(10);
    assert_eq!(world.machine.due(), Some(world.now + limit));
    world.pass();
    assert!(world.answered.contains("i0"));
    world.bury();
    assert_eq!(world.machine.state(), State::Gone);
}

#[test]
fn an_invocation_after_a_reset_reports_no_earlier_restore() {
    let mut world = World::new(0, Kind::SnapStart);
    world.send(Input::Begin);
    world.act(Act::RestoreNext);
    world.act(Act::Restore);
    world.act(Act::RuntimeNext);
    assert_eq!(world.machine.state(), State::Idle);
    world.act(Act::Reset);
    world.bury();
    assert_eq!(world.machine.state(), State::Empty);
    world.act(Act::Invoke);
    world.act(Act::RuntimeNext);
    assert_eq!(world.machine.state(), State::Invoke);
    assert_eq!(world.machine.in_flight[0].restore, None);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_invocation_gets_one_response_one_report_and_one_end(
        extensions in 0..4_usize,
        kind in prop_oneof![Just(Kind::OnDemand), Just(Kind::SnapStart), Just(Kind::Managed)],
        acts in prop::collection::vec(act(), 0..120),
    ) {
        let mut world = World::new(extensions, kind);
        for act in acts {
            world.act(act);
        }
        world.run_to_the_end();
    }
}
