//! Driver that performs the machine's decisions: one task per environment, which handles one
//! command with all its effects before the next.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::super::LambdaError;
use super::super::command::{EnvironmentCommand, InvocationOutcome};
use super::super::function_state::FunctionState;
use super::super::history::{self, EnvironmentChange};
use super::super::machine::{
    Account, ApiResponse, Effect, Input, Machine, Now, ProcessRole, Setup,
};
use super::super::report::{Report, billed};
use super::super::sandbox::NotFrozen;
use super::super::state::{EnvironmentView, ShutdownReason, State};
use super::SharedState;

const MB: u64 = 1024 * 1024;

pub(super) struct Driver {
    machine: Machine,
    extensions: Vec<String>,
    shared: Arc<SharedState>,
    function: Arc<FunctionState>,
    reserved: Arc<AtomicUsize>,
    active: ActiveClock,
    commands: mpsc::UnboundedSender<EnvironmentCommand>,
    inbox: mpsc::UnboundedReceiver<EnvironmentCommand>,
    /// One task per process, which waits for its exit.
    watchers: JoinSet<()>,
    replies: HashMap<Uuid, oneshot::Sender<ApiResponse>>,
    callers: HashMap<String, oneshot::Sender<InvocationOutcome>>,
    /// Callers that wait for the end of a reset or a shutdown.
    until_ended: Vec<oneshot::Sender<()>>,
    idle: Idle,
    peak_bytes: u64,
    /// Ids of invocations whose response is an error, until their report.
    failed: HashSet<String>,
    /// Version of the model in the last response.
    version: Option<String>,
}

impl Driver {
    pub(super) fn new(
        setup: Setup,
        shared: Arc<SharedState>,
        function: Arc<FunctionState>,
        reserved: Arc<AtomicUsize>,
        idle_limit: Option<Duration>,
        (commands, inbox): (
            mpsc::UnboundedSender<EnvironmentCommand>,
            mpsc::UnboundedReceiver<EnvironmentCommand>,
        ),
    ) -> Self {
        Self {
            extensions: setup.extensions.clone(),
            machine: Machine::new(setup),
            active: ActiveClock::new(shared.made),
            shared,
            function,
            reserved,
            commands,
            inbox,
            watchers: JoinSet::new(),
            replies: HashMap::new(),
            callers: HashMap::new(),
            until_ended: Vec::new(),
            idle: Idle::new(idle_limit),
            peak_bytes: 0,
            failed: HashSet::new(),
            version: None,
        }
    }

    pub(super) async fn run(mut self) {
        while self.machine.state() != State::Gone {
            let due = self
                .machine
                .due()
                .and_then(|due| self.active.instant_of(due));
            let idle = self.idle.due();
            tokio::select! {
                biased;
                Some(command) = self.inbox.recv() => self.handle(command).await,
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
        while let Ok(command) = self.inbox.try_recv() {
            if let EnvironmentCommand::Invoke { answer, .. } = command {
                let _ = answer.send(InvocationOutcome::NotAccepted);
            }
        }
        self.function.wake_waiters();
    }

    async fn handle(&mut self, command: EnvironmentCommand) {
        let now = Instant::now();
        match command {
            EnvironmentCommand::Call {
                at,
                id,
                request,
                reply,
            } => {
                self.replies.insert(id, reply);
                self.step(at, Input::Call(id, request)).await;
            }
            EnvironmentCommand::HungUp(id) => {
                self.replies.remove(&id);
                self.step(now, Input::HungUp(id)).await;
            }
            EnvironmentCommand::Begin => self.step(now, Input::Begin).await,
            EnvironmentCommand::Invoke { event, answer } => {
                self.callers.insert(event.id.clone(), answer);
                self.step(now, Input::Invoke(event)).await;
            }
            EnvironmentCommand::Exited(generation, role, exit) => {
                self.shared.processes.forget(role);
                self.step(now, Input::Exited(generation, role, exit)).await;
            }
            EnvironmentCommand::NotLaunched(generation, role, why) => {
                self.step(now, Input::NotLaunched(generation, role, why))
                    .await;
            }
            EnvironmentCommand::Freeze(done) => {
                let frozen = self.freeze().await;
                let _ = done.send(frozen);
            }
            EnvironmentCommand::Thaw(done) => {
                // A restore alone ends a snapshot.
                if self.machine.state() != State::Snapshot {
                    self.thaw();
                }
                let _ = done.send(());
            }
            EnvironmentCommand::Restore(done) => {
                self.step(now, Input::Restore).await;
                let _ = done.send(());
            }
            EnvironmentCommand::LetPass(time, done) => {
                let passed = self.let_pass(time);
                let _ = done.send(passed);
            }
            EnvironmentCommand::Reset(reason, done) => {
                self.until_ended.push(done);
                self.step(now, Input::Reset(reason)).await;
            }
            EnvironmentCommand::Shutdown(reason, done) => {
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
        let over = |effect: &&Effect| matches!(effect, Effect::Over(_) | Effect::NotAccepted(_));
        let freed = effects.iter().filter(over).count();
        self.reserved.fetch_sub(freed, Ordering::AcqRel);
        // Published before any response, so that a caller finds the state that matches its
        // response.
        self.publish();
        for effect in effects {
            self.perform(effect).await;
        }
        if self.machine.state() != State::Ending {
            for done in self.until_ended.drain(..) {
                let _ = done.send(());
            }
        }
    }

    async fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Start(generation, role) => self.start(generation, role),
            Effect::Terminate(role) => self.shared.processes.terminate(role),
            Effect::Kill(role) => {
                if let Some(running) = self.shared.processes.of(role) {
                    tokio::task::spawn_blocking(move || running.kill());
                }
            }
            Effect::Renew => {
                let at = UNIX_EPOCH + Duration::from_millis(self.epoch_ms());
                if let Some(credentials) = &self.shared.credentials {
                    credentials.renew(at);
                }
                self.shared.api_connections.close();
            }
            Effect::Thaw => self.thaw(),
            Effect::Freeze => {
                if let Err(error) = self.freeze().await {
                    self.function.log.push(&format!("lab: {error}"));
                }
            }
            Effect::Reply(id, reply) => {
                if let Some(call) = self.replies.remove(&id) {
                    let _ = call.send(reply);
                }
            }
            Effect::HangUp => self.replies.clear(),
            Effect::Log(line) => self.function.log.push(&line),
            Effect::Answer { id, body, failed } => {
                if failed {
                    self.failed.insert(id.clone());
                }
                if let Some(caller) = self.callers.remove(&id) {
                    let body = body.clone();
                    let _ = caller.send(InvocationOutcome::Answered { body, failed });
                }
                // After the response, which the search does not delay.
                self.note_version(&body);
            }
            Effect::Report(account) => self.report(account).await,
            Effect::Over(id) => self.over(&id, false),
            Effect::NotAccepted(id) => self.over(&id, true),
        }
    }

    fn start(&mut self, generation: u32, role: ProcessRole) {
        let name = match role {
            ProcessRole::Runtime => "runtime",
            ProcessRole::Extension(place) => self.extensions.get(place).map_or("", String::as_str),
        };
        let shared = &self.shared;
        let started = shared.processes.start(
            role,
            name,
            shared.limits.as_ref(),
            shared.clock.as_ref(),
            &self.function.log,
        );
        let commands = self.commands.clone();
        match started {
            Ok(running) => {
                self.watchers.spawn(async move {
                    let status = running.wait().await;
                    let _ =
                        commands.send(EnvironmentCommand::Exited(generation, role, status.into()));
                });
            }
            Err(why) => {
                let _ = commands.send(EnvironmentCommand::NotLaunched(generation, role, why));
            }
        }
    }

    async fn freeze(&mut self) -> Result<(), NotFrozen> {
        if self.active.is_stopped() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let frozen = tokio::task::spawn_blocking(move || shared.processes.freeze()).await;
        frozen.unwrap_or(Ok(()))?;
        self.active.stop();
        if let Some(clock) = &self.shared.clock {
            clock.froze();
        }
        self.publish();
        Ok(())
    }

    fn thaw(&mut self) {
        if !self.active.is_stopped() {
            return;
        }
        if let Some(clock) = &self.shared.clock
            && let Err(error) = clock.thawed()
        {
            self.function
                .log
                .push(&format!("lab: cannot set the clock: {error}"));
        }
        self.active.resume();
        self.publish();
        self.shared.processes.thaw();
    }

    fn let_pass(&mut self, time: Duration) -> Result<(), LambdaError> {
        if !self.active.is_stopped() {
            return Err(LambdaError::NoTimePasses("the environment is not frozen"));
        }
        let Some(clock) = &self.shared.clock else {
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
        let shared = Arc::clone(&self.shared);
        let peak = tokio::task::spawn_blocking(move || {
            // A group is charged for file pages only if it was the first to read them. That is
            // always so on Lambda and seldom here, so the resident memory of the processes is taken
            // if it is larger.
            let counted = shared.limits.as_ref().and_then(super::Limits::peak_bytes);
            let resident = shared.processes.peak_resident_bytes();
            counted.unwrap_or_default().max(resident)
        });
        self.peak_bytes = self.peak_bytes.max(peak.await.unwrap_or_default());
        let report = Report {
            billed: billed(account.init.unwrap_or_default() + account.duration),
            request_id: account.id,
            init: account.init,
            restore: account.restore,
            duration: account.duration,
            post_runtime_extensions: account.tail,
            max_memory_mb: self.peak_bytes.div_ceil(MB),
            memory_mb: self.function.memory_mb,
            status: account.status,
        };
        let log = &self.function.log;
        log.push(&format!("END RequestId: {}", report.request_id));
        log.push(report.line().trim_end());
        let failed = self.failed.remove(&report.request_id);
        let at = UNIX_EPOCH + Duration::from_millis(self.epoch_ms());
        self.function.metrics.ended(&report, failed, at);
        self.function.reports.push(report);
    }

    /// Frees the invocation's capacity and wakes waiting invocations.
    fn over(&mut self, id: &str, not_accepted: bool) {
        if let Some(caller) = self.callers.remove(id)
            && not_accepted
        {
            let _ = caller.send(InvocationOutcome::NotAccepted);
        }
        self.function.wake_waiters();
    }

    /// Publishes the current state.
    fn publish(&mut self) {
        let now = EnvironmentView {
            state: self.machine.state(),
            frozen: self.active.is_stopped(),
        };
        self.idle.update(now.state);
        let change = self.change(now);
        self.shared.seen.send_if_modified(|seen| {
            let changed = std::mem::replace(seen, now) != now;
            if changed {
                self.function.history.push(change);
                let since = self.shared.since.lock();
                *since.unwrap_or_else(PoisonError::into_inner) = Instant::now();
            }
            changed
        });
    }

    fn change(&self, now: EnvironmentView) -> EnvironmentChange {
        EnvironmentChange {
            environment: self.shared.number,
            at: SystemTime::now(),
            state: now.state,
            is_frozen: now.frozen,
            version: self.version.clone(),
        }
    }

    /// Records the version of the model in a response, if it differs from the last one.
    fn note_version(&mut self, response: &[u8]) {
        let version = history::model_version(response);
        if version.is_some() && version != self.version {
            self.version = version;
            let now = *self.shared.seen.borrow();
            self.function.history.push(self.change(now));
        }
    }

    fn epoch_ms(&self) -> u64 {
        let clock = self.shared.clock.as_ref();
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
    stopped_for: Duration,
    stopped_since: Option<Instant>,
}

impl ActiveClock {
    fn new(made: Instant) -> Self {
        Self {
            made,
            stopped_for: Duration::ZERO,
            stopped_since: None,
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped_since.is_some()
    }

    fn stop(&mut self) {
        self.stopped_since.get_or_insert_with(Instant::now);
    }

    fn resume(&mut self) {
        if let Some(since) = self.stopped_since.take() {
            self.stopped_for += since.elapsed();
        }
    }

    fn at(&self, moment: Instant) -> Duration {
        let moment = self.stopped_since.map_or(moment, |since| since.min(moment));
        let since = moment.saturating_duration_since(self.made);
        since.saturating_sub(self.stopped_for)
    }

    /// Real time at which this clock will reach `time`, if it keeps running.
    fn instant_of(&self, time: Duration) -> Option<Instant> {
        (!self.is_stopped()).then(|| self.made + self.stopped_for + time)
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

    fn update(&mut self, state: State) {
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
