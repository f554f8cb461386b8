//! Pure state machine of the lifecycle: takes events with their times, and decides which jobs to start.
//!
//! Rules:
//! - A job is not started while the same job is running.
//! - A due job is started at the next invocation or timer tick.
//! - `next` is held back only while a job is running, for at most the tail budget, and never past [`DEADLINE_MARGIN`].
//! - A freeze is detected by the wall clock, because Lambda does not announce it.
//! - A wall clock that is set back delays no job.
//!
//! The [`poll_schedule`] decides when a version check is due. A check that a command started counts as well.

mod poll_schedule;

use std::collections::BTreeMap;
use std::time::Duration;

use poll_schedule::{LastCheck, PollSchedule, backoff};

use crate::clock::{Deadline, Timestamp};
use crate::config::Config;
use crate::ids::ModelName;

/// Minimum time before the invocation's deadline at which a held-back `next` is called.
const DEADLINE_MARGIN: Duration = Duration::from_millis(200);
/// Minimum time between two attempts to load a missing model.
pub(super) const ATTEMPT_PAUSE: Duration = Duration::from_secs(1);
/// Time between `next` and its event that counts as a freeze. A shorter freeze breaks no connection, and a longer wait
/// without a freeze costs at most one new connection.
const FREEZE: Duration = Duration::from_secs(1);

/// Unit of work, which runs at most once at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// Version check of a model, with the reload of a new version.
    Check(ModelName),
    /// Delivery of the metrics.
    Flush,
}

/// Intervals of jobs, and the limit by which they extend an invocation.
#[derive(Clone, Copy, Debug)]
pub struct Intervals {
    /// Maximum time between two version checks of a model; jitter shortens each interval.
    pub refresh: Duration,
    /// Time between two deliveries of the metrics.
    pub flush: Duration,
    /// Maximum time by which `next` is held back.
    pub tail: Duration,
}

impl Intervals {
    /// Reads the intervals from the configuration.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        Self {
            refresh: config.refresh_interval,
            flush: config.metrics_interval,
            tail: config.tail_budget,
        }
    }
}

/// Decision at an invocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// `true` after a freeze, when connections from before may be dead.
    pub thawed: bool,
    /// Jobs to start.
    pub begin: Vec<Job>,
}

/// State of all jobs.
#[derive(Clone, Debug)]
pub struct Machine {
    intervals: Intervals,
    poll_schedule: PollSchedule,
    jobs: BTreeMap<Job, JobState>,
    next_called: Option<Timestamp>,
}

/// State of one job.
#[derive(Clone, Copy, Debug)]
struct JobState {
    last: LastCheck,
    is_running: bool,
}

impl Machine {
    /// Creates the machine at the start of Init, and returns the first jobs: a check of every model. `seed` must differ
    /// between environments.
    #[must_use]
    pub fn start(
        models: impl IntoIterator<Item = ModelName>,
        intervals: Intervals,
        seed: u64,
        now: Timestamp,
    ) -> (Self, Vec<Job>) {
        let begin: Vec<Job> = models.into_iter().map(Job::Check).collect();
        let state = |is_running| JobState {
            last: LastCheck {
                begun: now,
                is_first: true,
                failures: 0,
            },
            is_running,
        };
        let mut jobs = BTreeMap::new();
        jobs.extend(begin.iter().map(|job| (job.clone(), state(true))));
        jobs.insert(Job::Flush, state(false));
        let machine = Self {
            intervals,
            poll_schedule: PollSchedule {
                interval: intervals.refresh,
                seed,
            },
            jobs,
            next_called: None,
        };
        (machine, begin)
    }

    /// Notes a call of `next`, after which the process may be frozen.
    pub fn next_called(&mut self, now: Timestamp) {
        self.next_called = Some(now);
    }

    /// Notes an event. Returns `true` if there was a freeze before it.
    pub fn event_came(&mut self, now: Timestamp) -> bool {
        let asked = self.next_called.take();
        asked.is_some_and(|asked| is_past(now, asked, FREEZE))
    }

    /// Notes the restore of a snapshot, with the seed of this environment. A check that began before, or that is
    /// running, is due.
    pub fn restored(&mut self, at: Timestamp, seed: u64, is_running: impl Fn(&ModelName) -> bool) {
        self.poll_schedule.seed = seed;
        // The time from here on is no part of the freeze.
        self.next_called = Some(at);
        for (job, state) in &mut self.jobs {
            match job {
                Job::Flush => state.last.begun = at,
                Job::Check(model) if state.last.begun < at || is_running(model) => {
                    state.last = LastCheck {
                        begun: Timestamp(0),
                        is_first: true,
                        failures: 0,
                    };
                }
                Job::Check(_) => {}
            }
        }
    }

    /// Notes an invocation, and decides what to do. A model that is not loaded is due regardless of its schedule.
    pub fn invoked(&mut self, now: Timestamp, is_loaded: impl Fn(&ModelName) -> bool) -> Decision {
        let thawed = self.event_came(now);
        let begin = self.due(now, is_loaded);
        Decision { thawed, begin }
    }

    /// Returns the maximum time by which `next` is held back at `now`, in an invocation with this deadline.
    #[must_use]
    pub fn hold(&self, now: Timestamp, deadline: Deadline) -> Duration {
        if self.jobs.values().any(|state| state.is_running) {
            let left = deadline.less(DEADLINE_MARGIN).remaining(now);
            self.intervals.tail.min(left)
        } else {
            Duration::ZERO
        }
    }

    /// Returns the jobs that are due at `now`, and marks them as running.
    pub fn due(&mut self, now: Timestamp, is_loaded: impl Fn(&ModelName) -> bool) -> Vec<Job> {
        let Intervals { refresh, flush, .. } = self.intervals;
        let poll_schedule = self.poll_schedule;
        let mut begin = Vec::new();
        for (job, state) in &mut self.jobs {
            let wait = match job {
                Job::Flush => backoff(flush, state.last.failures),
                Job::Check(model) if is_loaded(model) => poll_schedule.wait(model, state.last),
                Job::Check(_) => refresh.min(ATTEMPT_PAUSE),
            };
            if !state.is_running && is_past(now, state.last.begun, wait) {
                state.last.begun = now;
                state.last.is_first = false;
                state.is_running = true;
                begin.push(job.clone());
            }
        }
        begin
    }

    /// Notes the end of a job. The result of a version check is noted by [`Self::checked`].
    pub fn ended(&mut self, job: &Job) {
        if let Some(state) = self.jobs.get_mut(job) {
            state.is_running = false;
        }
    }

    /// Notes the beginning of the last version check of a model, and the number of checks that failed in a row. Must be
    /// called before [`Self::due`].
    pub fn checked(&mut self, model: &ModelName, begun: Timestamp, failures: u32) {
        let job = Job::Check(model.clone());
        let Some(state) = self.jobs.get_mut(&job) else {
            return;
        };
        state.last.failures = failures;
        state.last.begun = state.last.begun.max(begun);
    }

    /// Notes the number of metrics deliveries that failed in a row. Must be called before [`Self::due`].
    pub fn flushed(&mut self, failures: u32) {
        if let Some(state) = self.jobs.get_mut(&Job::Flush) {
            state.last.failures = failures;
        }
    }

    /// Returns the time until the next job is due if all models are loaded; `None` while all jobs are running.
    #[must_use]
    pub fn next_in(&self, now: Timestamp) -> Option<Duration> {
        let waiting = self.jobs.iter().filter(|(_, state)| !state.is_running);
        let left = waiting.map(|(job, state)| {
            let wait = match job {
                Job::Flush => backoff(self.intervals.flush, state.last.failures),
                Job::Check(model) => self.poll_schedule.wait(model, state.last),
            };
            wait.saturating_sub(now.since(state.last.begun))
        });
        left.min()
    }
}

/// Returns `true` if `interval` has passed since `last`, or if the clock was set back, which would delay the job.
fn is_past(now: Timestamp, last: Timestamp, interval: Duration) -> bool {
    now < last || now.since(last) >= interval
}

#[cfg(test)]
mod tests;
