//! Driver of the lifecycle: starts the jobs that the machine decides on, and reports their ends to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, Id, JoinError, JoinHandle, JoinSet};
use tracing::error;

use super::JobRunner;
use super::first_checks::{FirstCheckReport, FirstChecks};
use super::machine::{Intervals, Job, Machine};
use crate::clock::Deadline;
use crate::ids::ModelName;
use crate::reload::Outcome;
use crate::status::ModelCommand;

/// Minimum pause between two timer ticks, so that an interval of zero does not spin.
const MIN_PAUSE: Duration = Duration::from_millis(100);

/// State machine with its running tasks.
pub struct Driver {
    runner: Arc<JobRunner>,
    machine: Machine,
    /// Runtime of the jobs. Invocations may be handled on another thread.
    background: Handle,
    tasks: JoinSet<Option<Outcome>>,
    jobs: HashMap<Id, (Job, AbortHandle)>,
    /// Task that handles commands from requests.
    commands: JoinHandle<()>,
    /// `true` until the restore of a snapshot is noted.
    awaits_restore: bool,
}

impl Driver {
    /// Starts the first version check of every model, and the handling of commands, on the current runtime.
    #[must_use]
    pub fn start(
        runner: Arc<JobRunner>,
        commands: mpsc::Receiver<ModelCommand>,
        intervals: Intervals,
    ) -> (Self, FirstChecks) {
        let now = runner.clock.now();
        let seed = crate::sys::random_u64();
        let (machine, begin) = Machine::start(runner.models.names().cloned(), intervals, seed, now);
        let awaits_restore = runner.status.snapshot().is_before_restore();
        let commands = tokio::spawn(Arc::clone(&runner).handle_commands(commands));
        let mut driver = Self {
            runner,
            machine,
            background: Handle::current(),
            tasks: JoinSet::new(),
            jobs: HashMap::new(),
            commands,
            awaits_restore,
        };
        let (checks, report) = FirstChecks::new(driver.runner.models.names().cloned().collect());
        driver.begin_with(begin, Some(&report));
        (driver, checks)
    }

    /// Ends all version checks, including those of commands; no check begins afterwards. A flush continues.
    pub fn stop_checks(&mut self) {
        self.commands.abort();
        for (job, task) in self.jobs.values() {
            if matches!(job, Job::Check(_)) {
                task.abort();
            }
        }
    }

    /// Starts what is due at an event INVOKE; returns when `next` may be called.
    pub async fn invoked(&mut self, deadline_ms: u64) {
        self.begin_due(deadline_ms).await;
        self.hold_next(deadline_ms).await;
    }

    /// Starts what is due at an invocation with this deadline.
    pub async fn begin_due(&mut self, deadline_ms: u64) {
        self.settle();
        // Without a hook, the first invocation is the sign of a restore.
        self.note_restore().await;
        let runner = Arc::clone(&self.runner);
        runner.status.invocation_began(deadline_ms);
        let now = runner.clock.now();
        let is_loaded = |model: &ModelName| runner.models.current(model).is_some();
        let decision = self.machine.invoked(now, is_loaded);
        if decision.thawed {
            runner.thaws.note(now);
        }
        self.begin(decision.begin);
    }

    /// Does the work after the restore of a snapshot, and starts a check of every model.
    pub async fn restored(&mut self) {
        self.settle();
        self.note_restore().await;
        let runner = Arc::clone(&self.runner);
        let is_loaded = |model: &ModelName| runner.models.current(model).is_some();
        let begin = self.machine.due(runner.clock.now(), is_loaded);
        self.begin(begin);
    }

    /// Does the work after a restore, unless a hook had it done. Makes the checks due that have not ended since, so
    /// that `next` is held back for those that a hook has started.
    async fn note_restore(&mut self) {
        if !std::mem::take(&mut self.awaits_restore) {
            return;
        }
        let runner = Arc::clone(&self.runner);
        let work = async move { runner.restored().await };
        let restored = match self.background.spawn(work).await {
            Ok(restored) => restored,
            Err(problem) => {
                error!("the work after the restore failed: {problem}");
                self.runner.clock.now()
            }
        };
        let status = &self.runner.status;
        let is_running = |model: &ModelName| status.get(model).is_some_and(|status| status.is_busy);
        let seed = crate::sys::random_u64();
        self.machine.restored(restored, seed, is_running);
    }

    /// Waits while jobs are running and `next` may be held back.
    pub async fn hold_next(&mut self, deadline_ms: u64) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.note(ended);
        }
        let now = self.runner.clock.now();
        let hold = self.machine.hold(now, Deadline::at_unix_ms(deadline_ms));
        if !hold.is_zero() {
            // Jobs that do not end in time continue at the next invocation.
            let all = async { while self.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(hold, all).await;
        }
    }

    /// Notes that `next` is called.
    pub fn next_called(&mut self) {
        let now = self.runner.clock.now();
        self.machine.next_called(now);
    }

    /// Notes the event SHUTDOWN.
    pub fn shut_down(&mut self) {
        let now = self.runner.clock.now();
        if self.machine.event_came(now) {
            self.runner.thaws.note(now);
        }
    }

    /// Starts what is due by timers, until `end`: on managed instances and outside Lambda. Without invocations, a
    /// missing model is retried at the interval.
    pub async fn run_on_timers(&mut self, end: impl Future<Output = ()>) {
        tokio::pin!(end);
        loop {
            let pause = self.machine.next_in(self.runner.clock.now());
            let due = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause.max(MIN_PAUSE)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut end => return,
                () = due => {}
                // The next job may be due at once, but must wait for its pause.
                Some(_) = self.join_next() => {
                    self.report_results();
                    continue;
                }
            }
            self.report_results();
            let begin = self.machine.due(self.runner.clock.now(), |_| true);
            self.begin(begin);
        }
    }

    /// Delivers the metrics for the last time; data that are undelivered after `time` are written to the log.
    pub async fn flush_finally(&mut self, time: Duration) {
        if !self.runner.flush_finally(time).await {
            // A running flush holds the data that it delivers.
            self.tasks.shutdown().await;
            self.runner.reporter.write_rest_to_log().await;
        }
    }

    fn begin(&mut self, jobs: Vec<Job>) {
        self.begin_with(jobs, None);
    }

    fn begin_with(&mut self, jobs: Vec<Job>, report: Option<&FirstCheckReport>) {
        for job in jobs {
            let Some(run) = self.runner.run(&job) else {
                self.machine.ended(&job);
                continue;
            };
            let task = match (report.cloned(), &job) {
                (Some(report), Job::Check(model)) => {
                    let model = model.clone();
                    let run = async move {
                        let outcome = run.await;
                        report.ended(&model, outcome.as_ref().unwrap_or(&Outcome::Failed));
                        outcome
                    };
                    self.tasks.spawn_on(run, &self.background)
                }
                _ => self.tasks.spawn_on(run, &self.background),
            };
            self.jobs.insert(task.id(), (job, task));
        }
    }

    /// Handles the jobs that have ended.
    fn settle(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.note(ended);
        }
        self.report_results();
    }

    /// Reports the results of version checks, including those of commands, and of flushes to the machine.
    fn report_results(&mut self) {
        for (model, begun, failures) in self.runner.status.last_checks() {
            self.machine.checked(model, begun, failures);
        }
        self.machine.flushed(self.runner.reporter.failures());
    }

    async fn join_next(&mut self) -> Option<(Job, Option<Outcome>)> {
        loop {
            let ended = self.tasks.join_next_with_id().await?;
            if let Some(ended) = self.note(ended) {
                return Some(ended);
            }
        }
    }

    fn note(
        &mut self,
        ended: Result<(Id, Option<Outcome>), JoinError>,
    ) -> Option<(Job, Option<Outcome>)> {
        let (id, outcome) = match ended {
            Ok(ended) => ended,
            Err(problem) => {
                if problem.is_panic() {
                    error!("a background task panicked: {problem}");
                }
                (problem.id(), None)
            }
        };
        let (job, _) = self.jobs.remove(&id)?;
        self.machine.ended(&job);
        Some((job, outcome))
    }
}
