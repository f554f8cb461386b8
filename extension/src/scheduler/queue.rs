//! Who waits for a model, who has a turn, and who is next.
//!
//! Pure, with the clock as an argument: what is given a turn here is run by [`executor`](super::executor). Work is taken in the
//! order in which it came. Where it may be joined, work of the same kind goes with the one that is next, in the same
//! order, up to the most rows of a run; the next one waits for that no longer than the delay. A run that nobody waits for
//! any more is cancelled, and gives its turn to others although it may take some time to end: there are no more such
//! strays than turns.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Config, DEFAULT_QUEUE};
use crate::engine::Cancel;

/// How many may run a model, and how many may wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Runs at the same time, at least 1.
    pub runs: usize,
    /// Requests that wait for a run.
    pub queue: usize,
    /// Whether requests that come together are joined, and to what.
    pub batch: Option<Batching>,
}

impl Default for Limits {
    /// One run at a time, the ordinary queue, and every request by itself.
    fn default() -> Self {
        Self {
            runs: 1,
            queue: DEFAULT_QUEUE,
            batch: None,
        }
    }
}

impl Limits {
    /// What is configured.
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

/// How requests are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// The most rows of one run, by which no single request is bound.
    pub rows: usize,
    /// How long a request waits for others, although it could have a turn; no longer than half of its time.
    pub delay: Duration,
}

/// What waits for a turn.
pub(super) trait Work {
    /// How many rows it has; `None` where it must have a run of its own.
    fn rows(&self) -> Option<usize>;

    /// Whether it and `other`, which both have rows, may have one run together.
    fn joins(&self, other: &Self) -> bool;

    /// Until when it may wait for others to join it, whatever the delay is.
    fn patient_until(&self) -> Instant;
}

/// One who waits, or has a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// Work with the ticket of whoever wants it.
pub(super) struct Waiting<W> {
    ticket: Ticket,
    /// Since when it waits.
    pub(super) since: Instant,
    /// A run with others failed.
    alone: bool,
    pub(super) work: W,
}

impl<W: Work> Waiting<W> {
    fn rows(&self) -> Option<usize> {
        self.work.rows().filter(|_| !self.alone)
    }

    fn joins(&self, other: &Self) -> bool {
        self.rows().is_some() && other.rows().is_some() && self.work.joins(&other.work)
    }
}

/// Work whose turn has come.
pub(super) struct Turn<W> {
    /// The first of them.
    lead: Ticket,
    /// In the order in which they came, at least one.
    pub(super) members: Vec<Waiting<W>>,
    /// Set when nobody waits for it any more.
    pub(super) cancel: Arc<Cancel>,
}

impl<W> Turn<W> {
    /// Who is known for the run.
    pub(super) fn lead(&self) -> Ticket {
        self.lead
    }
}

/// What is to be done next.
pub(super) enum Next<W> {
    /// This, now.
    Run(Turn<W>),
    /// Nothing before this time, unless more comes.
    At(Instant),
    /// Nothing until more comes, or a run ends.
    Nothing,
}

/// As many wait as may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The queue of one model.
pub(super) struct Queue<W> {
    limits: Limits,
    waiting: VecDeque<Waiting<W>>,
    running: Vec<Running>,
    last: u64,
}

struct Running {
    lead: Ticket,
    /// Who still waits for it.
    wanted_by: Vec<Ticket>,
    cancel: Arc<Cancel>,
    has_turn: bool,
}

impl<W: Work> Queue<W> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            waiting: VecDeque::new(),
            running: Vec::new(),
            last: 0,
        }
    }

    /// Takes a place in the queue.
    pub(super) fn enter(&mut self, work: W, now: Instant) -> Result<Ticket, Full> {
        let places = self.limits.runs.saturating_add(self.limits.queue);
        if self.waiting.len() + self.turns_taken() >= places {
            return Err(Full);
        }
        self.last += 1;
        let ticket = Ticket(self.last);
        self.waiting.push_back(Waiting {
            ticket,
            since: now,
            alone: false,
            work,
        });
        Ok(ticket)
    }

    /// A turn for work that needs no place in the queue, since nobody waits there and a turn is free. Its end is to be
    /// [told](Self::ended).
    pub(super) fn enter_at_once(&mut self) -> Option<(Ticket, Arc<Cancel>)> {
        if !self.waiting.is_empty() || self.turns_taken() >= self.limits.runs {
            return None;
        }
        self.last += 1;
        let lead = Ticket(self.last);
        Some((lead, self.take_turn(lead, Vec::new())))
    }

    /// Whoever had this ticket wants nothing any more.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        if let Some(place) = self.waiting.iter().position(|one| one.ticket == ticket) {
            self.waiting.remove(place);
            return;
        }
        let strays = self.running.len() - self.turns_taken();
        let mut running = self.running.iter_mut();
        if let Some(run) = running.find(|run| run.wanted_by.contains(&ticket)) {
            run.wanted_by.retain(|other| *other != ticket);
            if run.wanted_by.is_empty() {
                run.cancel.cancel();
                run.has_turn = strays >= self.limits.runs;
            }
        }
    }

    /// Whether work waits that could have a turn.
    pub(super) fn has_work(&self) -> bool {
        !self.waiting.is_empty() && self.turns_taken() < self.limits.runs
    }

    /// Gives a turn to whoever is next.
    pub(super) fn next(&mut self, now: Instant) -> Next<W> {
        if !self.has_work() {
            return Next::Nothing;
        }
        let mut earliest: Option<Instant> = None;
        // Those that wait in the group of one before them.
        let mut grouped = vec![false; self.waiting.len()];
        for lead in 0..self.waiting.len() {
            if grouped[lead] {
                continue;
            }
            let group = self.group(lead, &grouped);
            let Some(due) = group.due.filter(|due| *due > now) else {
                return Next::Run(self.begin(&group.places));
            };
            for place in group.places {
                grouped[place] = true;
            }
            earliest = Some(earliest.map_or(due, |earliest| earliest.min(due)));
        }
        earliest.map_or(Next::Nothing, Next::At)
    }

    /// The run that this one led has ended.
    pub(super) fn ended(&mut self, lead: Ticket) {
        self.running.retain(|run| run.lead != lead);
    }

    /// A run of several has failed: those who still want it come next, each alone.
    pub(super) fn retry(&mut self, turn: Turn<W>) {
        let Some(place) = self.running.iter().position(|run| run.lead == turn.lead) else {
            return;
        };
        let run = self.running.swap_remove(place);
        let wanted = turn.members.into_iter().rev();
        for mut member in wanted.filter(|member| run.wanted_by.contains(&member.ticket)) {
            member.alone = true;
            self.waiting.push_front(member);
        }
    }

    fn turns_taken(&self) -> usize {
        self.running.iter().filter(|run| run.has_turn).count()
    }

    /// Who would run together with the one at `lead`.
    fn group(&self, lead: usize, grouped: &[bool]) -> Group {
        let mut group = Group {
            places: vec![lead],
            due: None,
        };
        let first = &self.waiting[lead];
        let (Some(batching), Some(mut rows)) = (self.limits.batch, first.rows()) else {
            return group;
        };
        for (place, other) in self.waiting.iter().enumerate().skip(lead + 1) {
            if rows >= batching.rows {
                break;
            }
            if grouped[place] || !first.joins(other) {
                continue;
            }
            rows = rows.saturating_add(other.rows().unwrap_or(batching.rows));
            if rows <= batching.rows {
                group.places.push(place);
            }
        }
        if rows < batching.rows {
            let due = |place: &usize| {
                let one = &self.waiting[*place];
                let delayed = one.since.checked_add(batching.delay);
                let patient = one.work.patient_until();
                delayed.map_or(patient, |delayed| delayed.min(patient))
            };
            group.due = group.places.iter().map(due).min();
        }
        group
    }

    fn begin(&mut self, places: &[usize]) -> Turn<W> {
        let mut members: Vec<Waiting<W>> = places
            .iter()
            .rev()
            .filter_map(|&place| self.waiting.remove(place))
            .collect();
        members.reverse();
        let lead = members[0].ticket;
        let wanted_by = members.iter().map(|member| member.ticket).collect();
        Turn {
            lead,
            members,
            cancel: self.take_turn(lead, wanted_by),
        }
    }

    fn take_turn(&mut self, lead: Ticket, wanted_by: Vec<Ticket>) -> Arc<Cancel> {
        let cancel = Arc::<Cancel>::default();
        self.running.push(Running {
            lead,
            wanted_by,
            cancel: Arc::clone(&cancel),
            has_turn: true,
        });
        cancel
    }
}

struct Group {
    /// In rising order, at least one.
    places: Vec<usize>,
    /// Until when they may wait for more, where there is room for more.
    due: Option<Instant>,
}

#[cfg(test)]
mod tests;
