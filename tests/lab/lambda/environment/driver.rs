//! Driver that performs the machine's decisions: one task per environment, which handles one
//! command with all its effects before the next.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::super::LambdaError;
use super::super::function::Ledger;
use super::super::machine::{
    Account, Effect, Event, Exit, Input, Machine, Now, Reply, Request, Setup, Who,
};
use super::super::report::{Report, billed};
use super::super::sandbox::NotFrozen;
use super::Parts;
use super::state::{Seen, ShutdownReason, State};

const MB: u64 = 1024 * 1024;

/// A command to an environment.
#[derive(Debug)]
pub(in super::super) enum Order {
    /// A process inside calls the API.
    Call {
        at: Instant,
        id: Uuid,
        request: Request,
        reply: oneshot::Sender<Reply>,
    },
    /// A caller has disconnected before its response.
    HungUp(Uuid),
    Begin,
    Invoke {
        event: Event,
        answer: oneshot::Sender<Outcome>,
    },
    Exited(u32, Who, Exit),
    NotLaunched(u32, Who, String),
    Freeze(oneshot::Sender<Result<(), NotFrozen>>),
    Thaw(oneshot::Sender<()>),
    LetPass(Duration, oneshot::Sender<Result<(), LambdaError>>),
    /// Answered when the reset is complete.
    Reset(ShutdownReason, oneshot::Sender<()>),
    Shutdown(ShutdownReason, oneshot::Sender<()>),
}

/// Outcome of an invocation.
#[derive(Debug)]
pub(in super::super) enum Outcome {
    Answered {
        body: Bytes,
        failed: bool,
    },
    /// The environment was shutting down.
    NotTaken,
}

pub(super) struct Driver {
    machine: Machine,
    extensions: Vec<String>,
    parts: Arc<Parts>,
    ledger: Arc<Ledger>,
    given: Arc<AtomicUsize>,
    active: ActiveClock,
    orders: mpsc::UnboundedSender<Order>,
    inbox: mpsc::UnboundedReceiver<Order>,
    /// One task per process, which waits for its exit.
    watchers: JoinSet<()>,
    replies: HashMap<Uuid, oneshot::Sender<Reply>>,
    callers: HashMap<String, oneshot::Sender<Outcome>>,
    /// Callers that wait for the end of a reset or a shutdown.
    until_ended: Vec<oneshot::Sender<()>>,
    idle: Idle,
    peak_bytes: u64,
}

impl Driver {
    pub(super) fn new(
        setup: Setup,
        parts: Arc<Parts>,
        ledger: Arc<Ledger>,
        given: Arc<AtomicUsize>,
        idle_limit: Option<Duration>,
        (orders, inbox): (mpsc::UnboundedSender<Order>, mpsc::UnboundedReceiver<Order>),
    ) -> Self {
        Self {
            extensions: setup.extensions.clone(),
            machine: Machine::new(setup),
            active: ActiveClock::new(parts.made),
            parts,
            ledger,
            given,
            orders,
            inbox,
            watchers: JoinSet::new(),
            replies: HashMap::new(),
            callers: HashMap::new(),
            until_ended: Vec::new(),
            idle: Idle::new(idle_limit),
            peak_bytes: 0,
        }
    }

    pub(super) async fn run(mut self) {
        while self.machine.state() != State::Gone {
            let due = self.machine.due().and_then(|due| self.active.when(due));
            let idle = self.idle.due();
            tokio::select! {
                biased;
                Some(order) = self.inbox.recv() => self.take(order).await,
                () = until(due) => self.step(Instant::now(), Input::Tick).await,
                () = until(idle) => {
                    let going = Input::Shutdown(ShutdownReason::Spindown);
                    self.step(Instant::now(), going).await;
                }
            }
            while self.watchers.try_join_next().is_some() {}
        }
        // Closing first makes later senders fail; commands already queued get a response below.
        self.inbox.close();
        while let Ok(order) = self.inbox.try_recv() {
            if let Order::Invoke { answer, .. } = order {
                let _ = answer.send(Outcome::NotTaken);
            }
        }
        self.ledger.stir();
    }

    async fn take(&mut self, order: Order) {
        let now = Instant::now();
        match order {
            Order::Call {
                at,
                id,
                request,
                reply,
            } => {
                self.replies.insert(id, reply);
                self.step(at, Input::Call(id, request)).await;
            }
            Order::HungUp(id) => {
                self.replies.remove(&id);
                self.step(now, Input::HungUp(id)).await;
            }
            Order::Begin => self.step(now, Input::Begin).await,
            Order::Invoke { event, answer } => {
                self.callers.insert(event.id.clone(), answer);
                self.step(now, Input::Invoke(event)).await;
            }
            Order::Exited(generation, who, exit) => {
                self.parts.processes.forget(who);
                self.step(now, Input::Exited(generation, who, exit)).await;
            }
            Order::NotLaunched(generation, who, why) => {
                self.step(now, Input::NotLaunched(generation, who, why))
                    .await;
            }
            Order::Freeze(done) => {
                let frozen = self.freeze().await;
                let _ = done.send(frozen);
            }
            Order::Thaw(done) => {
                self.thaw();
                let _ = done.send(());
            }
            Order::LetPass(time, done) => {
                let passed = self.let_pass(time);
                let _ = done.send(passed);
            }
            Order::Reset(reason, done) => {
                self.until_ended.push(done);
                self.step(now, Input::Reset(reason)).await;
            }
            Order::Shutdown(reason, done) => {
                self.until_ended.push(done);
                self.step(now, Input::Shutdown(reason)).await;
            }
        }
    }

    async fn step(&mut self, at: Instant, input: Input) {
        let now = Now {
            active: self.active.at(at),
            epoch_ms: self.epoch_ms(),
        };
        let effects = self.machine.step(now, input);
        // Capacity is freed before the state is published, so that a reader of the state finds it.
        let over = |effect: &&Effect| matches!(effect, Effect::Over(_) | Effect::NotTaken(_));
        let places = effects.iter().filter(over).count();
        self.given.fetch_sub(places, Ordering::AcqRel);
        // Published before any response, so that a caller finds the state that matches its
        // response.
        self.show();
        for effect in effects {
            self.carry_out(effect).await;
        }
        if self.machine.state() != State::Ending {
            for done in self.until_ended.drain(..) {
                let _ = done.send(());
            }
        }
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Start(generation, who) => self.start(generation, who),
            Effect::Terminate(who) => self.parts.processes.terminate(who),
            Effect::Kill(who) => {
                if let Some(running) = self.parts.processes.of(who) {
                    tokio::task::spawn_blocking(move || running.kill());
                }
            }
            Effect::Thaw => self.thaw(),
            Effect::Freeze => {
                if let Err(error) = self.freeze().await {
                    self.ledger.log.push(&format!("lab: {error}"));
                }
            }
            Effect::Reply(id, reply) => {
                if let Some(call) = self.replies.remove(&id) {
                    let _ = call.send(reply);
                }
            }
            Effect::HangUp => self.replies.clear(),
            Effect::Log(line) => self.ledger.log.push(&line),
            Effect::Answer { id, body, failed } => {
                if let Some(caller) = self.callers.remove(&id) {
                    let _ = caller.send(Outcome::Answered { body, failed });
                }
            }
            Effect::Report(account) => self.report(account).await,
            Effect::Over(id) => self.over(&id, false),
            Effect::NotTaken(id) => self.over(&id, true),
        }
    }

    fn start(&mut self, generation: u32, who: Who) {
        let name = match who {
            Who::Runtime => "runtime",
            Who::Extension(place) => self.extensions.get(place).map_or("", String::as_str),
        };
        let parts = &self.parts;
        let started = parts.processes.start(
            who,
            name,
            parts.limits.as_ref(),
            parts.clock.as_ref(),
            &self.ledger.log,
        );
        let orders = self.orders.clone();
        match started {
            Ok(running) => {
                self.watchers.spawn(async move {
                    let status = running.wait().await;
                    let _ = orders.send(Order::Exited(generation, who, status.into()));
                });
            }
            Err(why) => {
                let _ = orders.send(Order::NotLaunched(generation, who, why));
            }
        }
    }

    async fn freeze(&mut self) -> Result<(), NotFrozen> {
        if self.active.stands() {
            return Ok(());
        }
        let parts = Arc::clone(&self.parts);
        let frozen = tokio::task::spawn_blocking(move || parts.processes.freeze()).await;
        frozen.unwrap_or(Ok(()))?;
        self.active.stop();
        if let Some(clock) = &self.parts.clock {
            clock.froze();
        }
        self.show();
        Ok(())
    }

    fn thaw(&mut self) {
        if !self.active.stands() {
            return;
        }
        if let Some(clock) = &self.parts.clock
            && let Err(error) = clock.thawed()
        {
            self.ledger
                .log
                .push(&format!("lab: cannot set the clock: {error}"));
        }
        self.active.go_on();
        self.show();
        self.parts.processes.thaw();
    }

    fn let_pass(&mut self, time: Duration) -> Result<(), LambdaError> {
        if !self.active.stands() {
            return Err(LambdaError::NoTimePasses("the environment is not frozen"));
        }
        let Some(clock) = &self.parts.clock else {
            return Err(LambdaError::NoTimePasses("its clock is the machine's"));
        };
        self.idle.passed += time;
        clock.let_pass(time).map_err(|source| LambdaError::Io {
            what: "set the environment's clock",
            source,
        })
    }

    /// Writes the END and REPORT lines.
    async fn report(&mut self, account: Account) {
        let parts = Arc::clone(&self.parts);
        let peak = tokio::task::spawn_blocking(move || {
            // A group is charged for file pages only if it was the first to read them. That is
            // always so on Lambda and seldom here, so the resident memory of the processes is taken
            // if it is larger.
            let counted = parts.limits.as_ref().and_then(super::Limits::peak_bytes);
            let resident = parts.processes.peak_resident_bytes();
            counted.unwrap_or_default().max(resident)
        });
        self.peak_bytes = self.peak_bytes.max(peak.await.unwrap_or_default());
        let report = Report {
            billed: billed(account.init.unwrap_or_default() + account.duration),
            request_id: account.id,
            init: account.init,
            duration: account.duration,
            post_runtime_extensions: account.tail,
            max_memory_mb: self.peak_bytes.div_ceil(MB),
            memory_mb: self.ledger.memory_mb,
            status: account.status,
        };
        let log = &self.ledger.log;
        log.push(&format!("END RequestId: {}", report.request_id));
        log.push(report.line().trim_end());
        self.ledger.reports.push(report);
    }

    /// Frees the invocation's capacity and wakes waiting invocations.
    fn over(&mut self, id: &str, not_taken: bool) {
        if let Some(caller) = self.callers.remove(id)
            && not_taken
        {
            let _ = caller.send(Outcome::NotTaken);
        }
        self.ledger.stir();
    }

    /// Publishes the current state.
    fn show(&mut self) {
        let now = Seen {
            state: self.machine.state(),
            frozen: self.active.stands(),
        };
        self.idle.look(now.state);
        self.parts.seen.send_if_modified(|seen| {
            let changed = std::mem::replace(seen, now) != now;
            if changed {
                let since = self.parts.since.lock();
                *since.unwrap_or_else(PoisonError::into_inner) = Instant::now();
            }
            changed
        });
    }

    fn epoch_ms(&self) -> u64 {
        let clock = self.parts.clock.as_ref();
        let now = clock.map_or_else(SystemTime::now, super::SharedClock::now);
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or_default()
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

/// Clock that excludes the time in which the environment was frozen.
#[derive(Debug)]
struct ActiveClock {
    made: Instant,
    stood: Duration,
    stands_since: Option<Instant>,
}

impl ActiveClock {
    fn new(made: Instant) -> Self {
        Self {
            made,
            stood: Duration::ZERO,
            stands_since: None,
        }
    }

    fn stands(&self) -> bool {
        self.stands_since.is_some()
    }

    fn stop(&mut self) {
        self.stands_since.get_or_insert_with(Instant::now);
    }

    fn go_on(&mut self) {
        if let Some(since) = self.stands_since.take() {
            self.stood += since.elapsed();
        }
    }

    fn at(&self, moment: Instant) -> Duration {
        let moment = self.stands_since.map_or(moment, |since| since.min(moment));
        let since = moment.saturating_duration_since(self.made);
        since.saturating_sub(self.stood)
    }

    /// Real time at which this clock will reach `time`, if it keeps running.
    fn when(&self, time: Duration) -> Option<Instant> {
        (!self.stands()).then(|| self.made + self.stood + time)
    }
}

/// Duration of idleness.
#[derive(Debug)]
struct Idle {
    limit: Option<Duration>,
    since: Option<Instant>,
    /// Simulated time that passed while idle.
    passed: Duration,
}

impl Idle {
    fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            since: None,
            passed: Duration::ZERO,
        }
    }

    fn look(&mut self, state: State) {
        if matches!(state, State::Idle | State::Empty) {
            self.since.get_or_insert_with(Instant::now);
        } else {
            self.since = None;
            self.passed = Duration::ZERO;
        }
    }

    fn due(&self) -> Option<Instant> {
        Some(self.since? + self.limit?.saturating_sub(self.passed))
    }
}
