//! Property tests of the machine: its invariants hold over any sequence of calls, exits and times.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use proptest::prelude::*;

use super::*;

fn setup(extensions: usize, managed: bool) -> Setup {
    Setup {
        extensions: (0..extensions).map(|number| format!("e{number}")).collect(),
        init_limit: (!managed).then_some(Duration::from_secs(10)),
        timeout: Duration::from_secs(3),
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
        6 => (0..4_usize, any::<bool>()).prop_map(|(who, all)| Act::Register(who, all)),
        8 => (0..4_usize).prop_map(Act::ExtensionNext),
        1 => (0..4_usize, any::<bool>()).prop_map(|(who, init)| Act::ExtensionError(who, init)),
        8 => Just(Act::RuntimeNext),
        6 => (0..4_usize).prop_map(Act::Respond),
        1 => Just(Act::InitError),
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
    alive: BTreeSet<Who>,
    /// Killed processes whose exit was not yet reported.
    killed: BTreeSet<Who>,
    frozen: bool,
    identifiers: BTreeMap<usize, Uuid>,
    calls: Vec<Uuid>,
    replied: BTreeSet<Uuid>,
    given: Vec<String>,
    answered: BTreeSet<String>,
    reported: BTreeSet<String>,
    over: BTreeSet<String>,
}

impl World {
    fn new(extensions: usize, managed: bool) -> Self {
        Self {
            machine: Machine::new(setup(extensions, managed)),
            now: Duration::ZERO,
            managed,
            generation: 0,
            alive: BTreeSet::new(),
            killed: BTreeSet::new(),
            frozen: false,
            identifiers: BTreeMap::new(),
            calls: Vec::new(),
            replied: BTreeSet::new(),
            given: Vec::new(),
            answered: BTreeSet::new(),
            reported: BTreeSet::new(),
            over: BTreeSet::new(),
        }
    }

    fn tell(&mut self, input: Input) {
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
            Effect::Start(generation, who) => {
                assert!(generation >= self.generation);
                self.generation = generation;
                assert!(!self.frozen, "a process started while frozen");
                assert!(self.alive.insert(who), "{who:?} runs already");
            }
            Effect::Terminate(who) => {
                assert!(self.alive.contains(&who), "{who:?} does not run");
            }
            Effect::Kill(who) => {
                assert!(self.alive.contains(&who), "{who:?} does not run");
                self.killed.insert(who);
            }
            Effect::Thaw => self.frozen = false,
            Effect::Freeze => {
                assert!(!self.managed, "managed instances are never frozen");
                assert_eq!(self.machine.state(), State::Idle);
                self.frozen = true;
            }
            Effect::Reply(call, reply) => {
                assert!(self.replied.insert(call), "answered twice");
                if reply.status == StatusCode::OK {
                    assert!(!self.frozen, "an event while frozen");
                }
            }
            Effect::Answer { id, .. } => {
                assert!(self.given.contains(&id));
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
            Effect::NotTaken(id) => {
                assert!(!self.answered.contains(&id));
                self.answered.insert(id.clone());
                assert!(self.over.insert(id));
            }
            Effect::Log(line) => assert!(!line.contains('\n')),
            Effect::HangUp => assert!(self.alive.is_empty(), "a process still runs"),
        }
    }

    fn call(&mut self, request: Request) -> Uuid {
        let call = Uuid::from_u128(self.calls.len() as u128 + 1);
        self.calls.push(call);
        self.tell(Input::Call(call, request));
        call
    }

    /// Frozen processes do nothing.
    fn can(&self, who: Who) -> bool {
        self.alive.contains(&who) && !self.frozen
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Invoke => {
                // An environment never gets more invocations than its capacity.
                let open = self
                    .given
                    .iter()
                    .filter(|id| !self.over.contains(*id))
                    .count();
                if open < if self.managed { 4 } else { 1 } {
                    let id = format!("i{}", self.given.len());
                    self.given.push(id.clone());
                    self.tell(Input::Invoke(Event {
                        id,
                        payload: Bytes::new(),
                        trace: String::new(),
                        client_context: None,
                    }));
                }
            }
            Act::Begin => self.tell(Input::Begin),
            Act::Register(who, all) if self.can(Who::Extension(who)) => {
                let body = match (all, self.managed) {
                    (true, false) => r#"{"events":["INVOKE","SHUTDOWN"]}"#,
                    (_, true) => r#"{"events":["SHUTDOWN"]}"#,
                    (false, false) => r#"{"events":[]}"#,
                };
                let call = self.call(Request::Register {
                    name: Some(format!("e{who}")),
                    account: false,
                    body: body.into(),
                });
                self.identifiers.insert(who, call);
            }
            Act::ExtensionNext(who) if self.can(Who::Extension(who)) => {
                let from = self.identifiers.get(&who).map(Uuid::to_string);
                self.call(Request::ExtensionNext { from });
            }
            Act::ExtensionError(who, init) if self.can(Who::Extension(who)) => {
                let from = self.identifiers.get(&who).map(Uuid::to_string);
                let kind = Some("Extension.Reason".to_owned());
                self.call(if init {
                    Request::ExtensionInitError { from, kind }
                } else {
                    Request::ExtensionExitError { from, kind }
                });
            }
            Act::RuntimeNext if self.can(Who::Runtime) => {
                self.call(Request::RuntimeNext);
            }
            Act::Respond(back) if self.can(Who::Runtime) && !self.given.is_empty() => {
                let place = self.given.len() - 1 - back % self.given.len();
                let id = self.given[place].clone();
                let body = Bytes::new();
                self.call(if back == 3 {
                    Request::Error { id, body }
                } else {
                    Request::Response {
                        id,
                        mode: None,
                        body,
                    }
                });
            }
            Act::InitError if self.can(Who::Runtime) => {
                self.call(Request::RuntimeInitError { body: Bytes::new() });
            }
            Act::Die(place) if !self.alive.is_empty() => {
                let who = *self.alive.iter().nth(place % self.alive.len()).unwrap();
                self.die(who);
            }
            Act::HangUp(back) if !self.calls.is_empty() => {
                let place = self.calls.len() - 1 - back % self.calls.len();
                self.tell(Input::HungUp(self.calls[place]));
            }
            Act::Reset => self.tell(Input::Reset(ShutdownReason::Failure)),
            Act::Shutdown => self.tell(Input::Shutdown(ShutdownReason::Spindown)),
            Act::Wait(milliseconds) if !self.frozen => {
                let until = self.now + Duration::from_millis(milliseconds);
                while let Some(due) = self.machine.due().filter(|due| *due <= until) {
                    self.now = due;
                    self.tell(Input::Tick);
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
            self.tell(Input::Tick);
        }
    }

    fn die(&mut self, who: Who) {
        self.alive.remove(&who);
        self.killed.remove(&who);
        self.tell(Input::Exited(self.generation, who, Exit::Signal(9)));
    }

    /// Reports the exits of killed processes; no other process exits by itself.
    fn bury(&mut self) {
        while let Some(who) = self.killed.pop_first() {
            self.die(who);
        }
    }

    /// After any sequence, time limits and exits bring every invocation to its end, and a shutdown
    /// the environment.
    fn come_to_an_end(&mut self) {
        for _ in 0..100 {
            let open = self.given.iter().any(|id| !self.over.contains(id));
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
            .given
            .iter()
            .filter(|id| !self.over.contains(*id))
            .collect();
        assert!(
            open.is_empty(),
            "{open:?} never end in {:?}",
            self.machine.state()
        );
        self.tell(Input::Shutdown(ShutdownReason::Spindown));
        for _ in 0..3 {
            self.bury();
            self.pass();
        }
        assert_eq!(self.machine.state(), State::Gone);
        assert_eq!(self.machine.due(), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_invocation_is_answered_reported_and_over_once(
        extensions in 0..4_usize,
        managed in any::<bool>(),
        acts in prop::collection::vec(act(), 0..120),
    ) {
        let mut world = World::new(extensions, managed);
        for act in acts {
            world.act(act);
        }
        world.come_to_an_end();
    }
}
