//! Queue of a model: order, concurrency, batching, and rejection of requests (HTTP 429).
//!
//! The queue is pure and takes the clock as an argument; [`executor`](super::executor) runs its batches. Requests run
//! in the order of their arrival. With batching, compatible requests join the next request, in the same order, up to
//! the maximum number of rows of a run. The next request waits for them at most for the delay. A run without any
//! waiting request is cancelled and releases its run slot, although it may take time to end. The number of such
//! abandoned runs is at most the number of run slots.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Config, DEFAULT_QUEUE};
use crate::engine::Cancel;

/// Limits of an executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutorLimits {
    /// Maximum number of concurrent runs, at least 1.
    pub runs: usize,
    /// Maximum number of queued requests.
    pub queue: usize,
    /// Batching of concurrent requests, if enabled.
    pub batch: Option<Batching>,
}

impl Default for ExecutorLimits {
    /// One concurrent run, the default queue, and no batching.
    fn default() -> Self {
        Self {
            runs: 1,
            queue: DEFAULT_QUEUE,
            batch: None,
        }
    }
}

impl ExecutorLimits {
    /// Returns the configured limits.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            runs: config.runs,
            queue: config.queue,
            batch: config.batch_rows.map(|rows| Batching {
                rows,
                delay: config.batch_delay,
            }),
        }
    }
}

/// Settings for batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Maximum rows of a batch; a single request may have more.
    pub rows: usize,
    /// Time that a request waits for further requests although a run slot is free, at most half of its remaining time.
    pub delay: Duration,
}

/// Work that can be queued.
pub(super) trait QueuedWork {
    /// Returns the number of rows; `None` if the work must have a run of its own.
    fn rows(&self) -> Option<usize>;

    /// Returns `true` if this and `other`, which both have rows, can share a run.
    fn can_join(&self, other: &Self) -> bool;

    /// Returns the time until which the work may wait for others, independent of the delay.
    fn batch_until(&self) -> Instant;
}

/// Identifies queued or running work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// Queued work with its ticket.
pub(super) struct QueuedRequest<W> {
    ticket: Ticket,
    /// Time of arrival.
    pub(super) since: Instant,
    /// `true` after a failed batch: the work gets a run of its own.
    is_single: bool,
    pub(super) work: W,
}

impl<W: QueuedWork> QueuedRequest<W> {
    fn rows(&self) -> Option<usize> {
        self.work.rows().filter(|_| !self.is_single)
    }

    fn can_join(&self, other: &Self) -> bool {
        self.rows().is_some() && other.rows().is_some() && self.work.can_join(&other.work)
    }
}

/// Work that runs now, as one run.
pub(super) struct Batch<W> {
    /// Ticket of the first member.
    leader: Ticket,
    /// Members in the order of arrival, at least one.
    pub(super) members: Vec<QueuedRequest<W>>,
    /// Set when no member waits for the run any more.
    pub(super) cancel: Arc<Cancel>,
}

impl<W> Batch<W> {
    /// Returns the ticket that identifies the run.
    pub(super) fn leader(&self) -> Ticket {
        self.leader
    }
}

/// Next step of a worker.
pub(super) enum NextStep<W> {
    /// Run this batch now.
    Run(Batch<W>),
    /// Wait until this time, or until more work arrives.
    WaitUntil(Instant),
    /// Wait until more work arrives or a run ends.
    Idle,
}

/// The queue is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct QueueFull;

/// The queue of one model.
pub(super) struct Queue<W> {
    limits: ExecutorLimits,
    waiting: VecDeque<QueuedRequest<W>>,
    running: Vec<ActiveRun>,
    last: u64,
    /// Maximum number of waiting requests since the last [`Self::take_peak`]; `None` until a request waits.
    peak: Option<usize>,
}

struct ActiveRun {
    leader: Ticket,
    /// Members that still wait for the run.
    wanted_by: Vec<Ticket>,
    cancel: Arc<Cancel>,
    holds_slot: bool,
}

impl<W: QueuedWork> Queue<W> {
    pub(super) fn new(limits: ExecutorLimits) -> Self {
        Self {
            limits,
            waiting: VecDeque::new(),
            running: Vec::new(),
            last: 0,
            peak: None,
        }
    }

    /// Adds work to the queue.
    pub(super) fn enqueue(&mut self, work: W, now: Instant) -> Result<Ticket, QueueFull> {
        let capacity = self.limits.runs.saturating_add(self.limits.queue);
        if self.waiting.len() + self.slots_taken() >= capacity {
            return Err(QueueFull);
        }
        self.last += 1;
        let ticket = Ticket(self.last);
        self.waiting.push_back(QueuedRequest {
            ticket,
            since: now,
            is_single: false,
            work,
        });
        let depth = self.depth();
        if depth > 0 {
            self.peak = self.peak.max(Some(depth));
        }
        Ok(ticket)
    }

    /// Returns the maximum number of requests that waited for a run slot together since the last call. `None` if none
    /// has ever waited.
    pub(super) fn take_peak(&mut self) -> Option<usize> {
        let depth = self.depth();
        let peak = self.peak.as_mut()?;
        Some(std::mem::replace(peak, depth))
    }

    /// Returns the number of requests for which no run slot is free.
    fn depth(&self) -> usize {
        (self.waiting.len() + self.slots_taken()).saturating_sub(self.limits.runs)
    }

    /// Takes a run slot for work on the calling thread; `None` if work is queued or no slot is free. The end of the run
    /// must be reported to [`Self::finish`].
    pub(super) fn start_inline(&mut self) -> Option<(Ticket, Arc<Cancel>)> {
        if !self.waiting.is_empty() || self.slots_taken() >= self.limits.runs {
            return None;
        }
        self.last += 1;
        let leader = Ticket(self.last);
        Some((leader, self.take_slot(leader, Vec::new())))
    }

    /// Takes work out of the queue or of its run. A run without members is cancelled.
    pub(super) fn cancel(&mut self, ticket: Ticket) {
        if let Some(index) = self.waiting.iter().position(|one| one.ticket == ticket) {
            self.waiting.remove(index);
            return;
        }
        let abandoned = self.running.len() - self.slots_taken();
        let mut running = self.running.iter_mut();
        if let Some(run) = running.find(|run| run.wanted_by.contains(&ticket)) {
            run.wanted_by.retain(|other| *other != ticket);
            if run.wanted_by.is_empty() {
                run.cancel.cancel();
                run.holds_slot = abandoned >= self.limits.runs;
            }
        }
    }

    /// Returns `true` if queued work and a run slot are available.
    pub(super) fn has_runnable(&self) -> bool {
        !self.waiting.is_empty() && self.slots_taken() < self.limits.runs
    }

    /// Returns the next batch, or the time to wait for it.
    pub(super) fn next(&mut self, now: Instant) -> NextStep<W> {
        if !self.has_runnable() {
            return NextStep::Idle;
        }
        let mut earliest: Option<Instant> = None;
        // Marks work that is in the group of earlier work.
        let mut grouped = vec![false; self.waiting.len()];
        for leader in 0..self.waiting.len() {
            if grouped[leader] {
                continue;
            }
            let group = self.group(leader, &grouped);
            let Some(due) = group.due.filter(|due| *due > now) else {
                return NextStep::Run(self.start(&group.indices));
            };
            for index in group.indices {
                grouped[index] = true;
            }
            earliest = Some(earliest.map_or(due, |earliest| earliest.min(due)));
        }
        earliest.map_or(NextStep::Idle, NextStep::WaitUntil)
    }

    /// Ends the run of `leader`.
    pub(super) fn finish(&mut self, leader: Ticket) {
        self.running.retain(|run| run.leader != leader);
    }

    /// Puts the members of a failed batch that still wait back to the front of the queue, each for a run of its own.
    pub(super) fn retry_individually(&mut self, batch: Batch<W>) {
        let Some(index) = self
            .running
            .iter()
            .position(|run| run.leader == batch.leader)
        else {
            return;
        };
        let run = self.running.swap_remove(index);
        let wanted = batch.members.into_iter().rev();
        for mut member in wanted.filter(|member| run.wanted_by.contains(&member.ticket)) {
            member.is_single = true;
            self.waiting.push_front(member);
        }
    }

    fn slots_taken(&self) -> usize {
        self.running.iter().filter(|run| run.holds_slot).count()
    }

    /// Returns the work that would share a run with the work at `leader`.
    fn group(&self, leader: usize, grouped: &[bool]) -> BatchCandidates {
        let mut group = BatchCandidates {
            indices: vec![leader],
            due: None,
        };
        let first = &self.waiting[leader];
        let (Some(batching), Some(mut rows)) = (self.limits.batch, first.rows()) else {
            return group;
        };
        for (index, other) in self.waiting.iter().enumerate().skip(leader + 1) {
            if rows >= batching.rows {
                break;
            }
            if grouped[index] || !first.can_join(other) {
                continue;
            }
            rows = rows.saturating_add(other.rows().unwrap_or(batching.rows));
            if rows <= batching.rows {
                group.indices.push(index);
            }
        }
        if rows < batching.rows {
            let due = |index: &usize| {
                let one = &self.waiting[*index];
                let delayed = one.since.checked_add(batching.delay);
                let patient = one.work.batch_until();
                delayed.map_or(patient, |delayed| delayed.min(patient))
            };
            group.due = group.indices.iter().map(due).min();
        }
        group
    }

    fn start(&mut self, indices: &[usize]) -> Batch<W> {
        let mut members: Vec<QueuedRequest<W>> = indices
            .iter()
            .rev()
            .filter_map(|&index| self.waiting.remove(index))
            .collect();
        members.reverse();
        let leader = members[0].ticket;
        let wanted_by = members.iter().map(|member| member.ticket).collect();
        Batch {
            leader,
            members,
            cancel: self.take_slot(leader, wanted_by),
        }
    }

    fn take_slot(&mut self, leader: Ticket, wanted_by: Vec<Ticket>) -> Arc<Cancel> {
        let cancel = Arc::<Cancel>::default();
        self.running.push(ActiveRun {
            leader,
            wanted_by,
            cancel: Arc::clone(&cancel),
            holds_slot: true,
        });
        cancel
    }
}

struct BatchCandidates {
    /// Indices in ascending order, at least one.
    indices: Vec<usize>,
    /// Time until which the group waits for more work, if more rows fit.
    due: Option<Instant>,
}

#[cfg(test)]
mod tests;
