//! Does what the machine says, and tells it what has ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, Id, JoinError, JoinHandle, JoinSet};
use tracing::error;

use super::Work;
use super::first_checks::{FirstChecks, Report};
use super::machine::{Intervals, Job, Machine};
use crate::clock::Deadline;
use crate::ids::ModelName;
use crate::reload::Outcome;
use crate::status::ModelCommand;

/// The shortest pause between two looks at the machine, so that an interval of zero does not spin.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// The machine, and the tasks that it began.
pub struct Driver {
    work: Arc<Work>,
    machine: Machine,
    tasks: JoinSet<Option<Outcome>>,
    jobs: HashMap<Id, (Job, AbortHandle)>,
    /// Does what requests ask for.
    commands: JoinHandle<()>,
    /// The process may run in a clone of a snapshot: observations from before it belong to no clone.
    is_snapshot: bool,
}

impl Driver {
    /// Begins the first check of every model, and to do what requests ask for.
    #[must_use]
    pub fn start(
        work: Arc<Work>,
        wanted: mpsc::Receiver<ModelCommand>,
        intervals: Intervals,
    ) -> (Self, FirstChecks) {
        let now = work.clock.now();
        let seed = crate::sys::random_u64();
        let (machine, begin) = Machine::start(work.models.names().cloned(), intervals, seed, now);
        let commands = tokio::spawn(Arc::clone(&work).handle_commands(wanted));
        let mut driver = Self {
            work,
            machine,
            tasks: JoinSet::new(),
            jobs: HashMap::new(),
            commands,
            is_snapshot: false,
        };
        let (checks, report) = FirstChecks::new(driver.work.models.names().cloned().collect());
        driver.begin_with(begin, Some(&report));
        (driver, checks)
    }

    /// Drops the metrics from before the first invocation if `is_snapshot`: every clone would send them, with the time of
    /// the snapshot.
    pub fn discard_metrics_of_snapshot(&mut self, is_snapshot: bool) {
        self.is_snapshot = is_snapshot;
    }

    /// Ends all checks, also those that requests asked for; none begins from here on. A flush goes on.
    pub fn stop_checks(&mut self) {
        self.commands.abort();
        for (job, task) in self.jobs.values() {
            if matches!(job, Job::Check(_)) {
                task.abort();
            }
        }
    }

    /// Does what an invocation asks for, and returns when `next` may be called.
    pub async fn invoked(&mut self, deadline_ms: u64) {
        if std::mem::take(&mut self.is_snapshot) {
            self.work.reporter.discard().await;
        }
        self.settle();
        let work = Arc::clone(&self.work);
        work.status.invocation_began(deadline_ms);
        let now = work.clock.now();
        let deadline = Deadline::at_unix_ms(deadline_ms);
        let is_loaded = |model: &ModelName| work.models.current(model).is_some();
        let decision = self.machine.invoked(now, deadline, is_loaded);
        if decision.thawed {
            work.thaws.note(now);
        }
        self.begin(decision.begin);
        if !decision.hold.is_zero() {
            // What does not end in time goes on by itself, at the next invocation.
            let all = async { while self.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(decision.hold, all).await;
        }
    }

    /// `next` is about to be called.
    pub fn next_called(&mut self) {
        let now = self.work.clock.now();
        self.machine.next_called(now);
    }

    /// The platform asked for the end.
    pub fn shut_down(&mut self) {
        let now = self.work.clock.now();
        if self.machine.event_came(now) {
            self.work.thaws.note(now);
        }
    }

    /// Does what is due by time alone, until `end`: on any machine that is not Lambda, and on managed instances.
    /// Without invocations there is nobody to ask again for a model that is missing: the interval does.
    pub async fn run_on_timers(&mut self, end: impl Future<Output = ()>) {
        tokio::pin!(end);
        loop {
            let pause = self.machine.next_in(self.work.clock.now());
            let due = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause.max(SHORTEST_PAUSE)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut end => return,
                () = due => {}
                // With an interval of zero the next is due at once, and has its pause all the same.
                Some(_) = self.join_next() => {
                    self.hear_of_checks();
                    continue;
                }
            }
            self.hear_of_checks();
            let begin = self.machine.due(self.work.clock.now(), |_| true);
            self.begin(begin);
        }
    }

    /// Sends the metrics for the last time; what is not taken within `time` goes to the log.
    pub async fn flush_finally(&mut self, time: Duration) {
        if !self.work.flush_finally(time).await {
            // A flush that is still under way has what it sends in its hands.
            self.tasks.shutdown().await;
            self.work.reporter.write_rest_to_log().await;
        }
    }

    fn begin(&mut self, jobs: Vec<Job>) {
        self.begin_with(jobs, None);
    }

    fn begin_with(&mut self, jobs: Vec<Job>, report: Option<&Report>) {
        for job in jobs {
            let Some(run) = self.work.run(&job) else {
                self.machine.ended(&job);
                continue;
            };
            let task = match (report.cloned(), &job) {
                (Some(report), Job::Check(model)) => {
                    let model = model.clone();
                    self.tasks.spawn(async move {
                        let outcome = run.await;
                        report.ended(&model, outcome.as_ref().unwrap_or(&Outcome::Failed));
                        outcome
                    })
                }
                _ => self.tasks.spawn(run),
            };
            self.jobs.insert(task.id(), (job, task));
        }
    }

    /// Takes note of what has ended meanwhile.
    fn settle(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.note(ended);
        }
        self.hear_of_checks();
    }

    /// Tells the machine how checks ended, and of those that a request wanted.
    fn hear_of_checks(&mut self) {
        for (model, begun, failures) in self.work.status.last_checks() {
            self.machine.checked(model, begun, failures);
        }
        self.machine.flushed(self.work.reporter.failures());
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
                    error!("a task of the sidecar panicked: {problem}");
                }
                (problem.id(), None)
            }
        };
        let (job, _) = self.jobs.remove(&id)?;
        self.machine.ended(&job);
        Some((job, outcome))
    }
}
