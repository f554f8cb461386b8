//! What is due when: a pure machine that is told what happens and the time, and says what to do.
//!
//! It promises that nothing is begun while the same is still under way; that whatever is due is begun at the next
//! invocation, or tick, after it; that `next` is held back only while something is under way, for no longer than
//! the tail budget, and never past the deadline's margin; and that a freeze is noticed by the wall clock, since
//! nothing else tells of it. A wall clock that is set back stops nothing. When a check is due is a matter of its
//! [`poll_schedule`]; one that somebody else made, because a request wanted it, counts as one of its own.

mod poll_schedule;

use std::collections::BTreeMap;
use std::time::Duration;

use poll_schedule::{LastCheck, PollSchedule, backoff};

use crate::clock::{Deadline, Timestamp};
use crate::ids::ModelName;

/// Time that an invocation is left with, at the least, when work holds back `next`.
const DEADLINE_MARGIN: Duration = Duration::from_millis(200);
/// Between two attempts to get a model that cannot be had, however often it is wanted.
pub(super) const ATTEMPT_PAUSE: Duration = Duration::from_secs(1);
/// Waiting this long for an event counts as a freeze. A shorter one breaks no connection, and a longer wait without
/// a freeze (the function works on, or nobody calls it) costs at most one new connection.
const FREEZE: Duration = Duration::from_secs(1);

/// One thing to be done, of which there is at most one under way at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// Asking a model's source, and bringing in what is new.
    Check(ModelName),
    /// Sending the metrics.
    Flush,
}

/// How often what is done, and how long an invocation may be held for it.
#[derive(Clone, Copy, Debug)]
pub struct Intervals {
    /// Between two checks of a model, at the most; each wait is a little shorter by chance.
    pub refresh: Duration,
    /// Between two flushes of the metrics.
    pub flush: Duration,
    /// How long `next` may be held back.
    pub tail: Duration,
}

/// What to do at an invocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether there was a freeze: connections from before are not to be trusted.
    pub thawed: bool,
    /// What is to be begun.
    pub begin: Vec<Job>,
    /// How long to wait, at most, for all that is under way to end, before `next`.
    pub hold: Duration,
}

/// When what was begun, and what is under way.
#[derive(Clone, Debug)]
pub struct Machine {
    intervals: Intervals,
    poll_schedule: PollSchedule,
    jobs: BTreeMap<Job, State>,
    next_called: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    last: LastCheck,
    under_way: bool,
}

impl Machine {
    /// A machine for these models, at the start of Init: a check of every model is to be begun now. `seed` is to
    /// differ from that of other environments.
    #[must_use]
    pub fn start(
        models: impl IntoIterator<Item = ModelName>,
        intervals: Intervals,
        seed: u64,
        now: Timestamp,
    ) -> (Self, Vec<Job>) {
        let begin: Vec<Job> = models.into_iter().map(Job::Check).collect();
        let state = |under_way| State {
            last: LastCheck {
                begun: now,
                is_first: true,
                failures: 0,
            },
            under_way,
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

    /// `next` is called: from here on the process may be frozen.
    pub fn next_called(&mut self, now: Timestamp) {
        self.next_called = Some(now);
    }

    /// An event came. Whether there was a freeze before it.
    pub fn event_came(&mut self, now: Timestamp) -> bool {
        let asked = self.next_called.take();
        asked.is_some_and(|asked| is_past(now, asked, FREEZE))
    }

    /// An invocation began. A model for which `is_loaded` is false is due, whenever it was last asked for.
    pub fn invoked(
        &mut self,
        now: Timestamp,
        deadline: Deadline,
        is_loaded: impl Fn(&ModelName) -> bool,
    ) -> Decision {
        let thawed = self.event_came(now);
        let begin = self.due(now, is_loaded);
        let busy = self.jobs.values().any(|state| state.under_way);
        let hold = if busy {
            let left = deadline.less(DEADLINE_MARGIN).remaining(now);
            self.intervals.tail.min(left)
        } else {
            Duration::ZERO
        };
        Decision {
            thawed,
            begin,
            hold,
        }
    }

    /// What is due at `now`, and counts as begun.
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
            if !state.under_way && is_past(now, state.last.begun, wait) {
                state.last.begun = now;
                state.last.is_first = false;
                state.under_way = true;
                begin.push(job.clone());
            }
        }
        begin
    }

    /// What was begun has ended, well or not; of a check, [`Self::checked`] tells how.
    pub fn ended(&mut self, job: &Job) {
        if let Some(state) = self.jobs.get_mut(job) {
            state.under_way = false;
        }
    }

    /// When the last check of a model began, whoever made it, and how many of those that have ended failed in a row.
    /// To be told before the machine is asked what is due.
    pub fn checked(&mut self, model: &ModelName, begun: Timestamp, failures: u32) {
        let job = Job::Check(model.clone());
        let Some(state) = self.jobs.get_mut(&job) else {
            return;
        };
        state.last.failures = failures;
        state.last.begun = state.last.begun.max(begun);
    }

    /// Notes how many flushes of the metrics have failed in a row. To be told before the machine is asked what is due.
    pub fn flushed(&mut self, failures: u32) {
        if let Some(state) = self.jobs.get_mut(&Job::Flush) {
            state.last.failures = failures;
        }
    }

    /// How long from `now` until something is due that is not under way, when all models are loaded; `None` while
    /// everything is under way.
    #[must_use]
    pub fn next_in(&self, now: Timestamp) -> Option<Duration> {
        let waiting = self.jobs.iter().filter(|(_, state)| !state.under_way);
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

/// Whether `interval` has passed since `last`. A clock that was set back makes it so, too: the alternative is
/// to wait for as long as it was set back.
fn is_past(now: Timestamp, last: Timestamp, interval: Duration) -> bool {
    now < last || now.since(last) >= interval
}

#[cfg(test)]
mod tests;
