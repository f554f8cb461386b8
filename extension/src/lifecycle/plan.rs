//! What is due when: a pure machine that is told the time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::ids::ModelName;

/// What is due at a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Models whose source is to be asked.
    pub checks: Vec<ModelName>,
    /// Whether metrics are to be sent.
    pub flush: bool,
}

impl Due {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.checks.is_empty() && !self.flush
    }
}

/// When what was last begun.
#[derive(Clone, Debug)]
pub struct Plan {
    refresh: Duration,
    flush: Duration,
    checked: BTreeMap<ModelName, Timestamp>,
    flushed: Timestamp,
}

impl Plan {
    /// A plan that begins at `now`, when every model has just been asked for.
    #[must_use]
    pub fn new(
        models: impl IntoIterator<Item = ModelName>,
        refresh: Duration,
        flush: Duration,
        now: Timestamp,
    ) -> Self {
        let checked = models.into_iter().map(|name| (name, now)).collect();
        Self {
            refresh,
            flush,
            checked,
            flushed: now,
        }
    }

    /// What is due at `now`, which counts as begun. A model of which nothing is loaded is always due.
    pub fn due(&mut self, now: Timestamp, is_loaded: impl Fn(&ModelName) -> bool) -> Due {
        let mut due = Due::default();
        for (name, checked) in &mut self.checked {
            if !is_loaded(name) || is_past(now, *checked, self.refresh) {
                *checked = now;
                due.checks.push(name.clone());
            }
        }
        if is_past(now, self.flushed, self.flush) {
            self.flushed = now;
            due.flush = true;
        }
        due
    }

    /// How long from `now` until something is due, when all models are loaded.
    #[must_use]
    pub fn next_in(&self, now: Timestamp) -> Duration {
        let left = |since: Timestamp, interval: Duration| interval.saturating_sub(now.since(since));
        self.checked
            .values()
            .map(|&checked| left(checked, self.refresh))
            .chain([left(self.flushed, self.flush)])
            .min()
            .unwrap_or_default()
    }
}

/// Whether `interval` has passed since `last`. A clock that was set back makes it so, too: the alternative is
/// to wait for as long as it was set back.
fn is_past(now: Timestamp, last: Timestamp, interval: Duration) -> bool {
    now < last || now.since(last) >= interval
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> (Plan, ModelName) {
        let name = ModelName::parse("wine").unwrap();
        (
            Plan::new(
                [name.clone()],
                Duration::from_secs(60),
                Duration::from_secs(30),
                Timestamp(1_000_000),
            ),
            name,
        )
    }

    #[test]
    fn nothing_is_due_within_the_intervals_and_each_thing_once_after() {
        let (mut plan, name) = plan();
        assert!(plan.due(Timestamp(1_029_999), |_| true).is_nothing());
        assert_eq!(
            plan.due(Timestamp(1_030_000), |_| true),
            Due {
                checks: vec![],
                flush: true
            }
        );
        assert_eq!(plan.due(Timestamp(1_059_999), |_| true), Due::default());
        let both = Due {
            checks: vec![name],
            flush: true,
        };
        assert_eq!(plan.due(Timestamp(1_060_000), |_| true), both);
        assert!(plan.due(Timestamp(1_060_001), |_| true).is_nothing());
    }

    #[test]
    fn hours_of_freeze_make_each_thing_due_once() {
        let (mut plan, name) = plan();
        assert_eq!(
            plan.due(Timestamp(100_000_000), |_| true),
            Due {
                checks: vec![name],
                flush: true
            }
        );
        assert!(plan.due(Timestamp(100_000_001), |_| true).is_nothing());
    }

    #[test]
    fn a_model_that_is_not_loaded_is_due_at_every_invocation() {
        let (mut plan, name) = plan();
        for ms in 1..4 {
            assert_eq!(
                plan.due(Timestamp(1_000_000 + ms), |_| false).checks,
                std::slice::from_ref(&name)
            );
        }
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nothing() {
        let (mut plan, name) = plan();
        assert_eq!(
            plan.due(Timestamp(500), |_| true),
            Due {
                checks: vec![name],
                flush: true
            }
        );
        assert!(plan.due(Timestamp(501), |_| true).is_nothing());
        assert_eq!(plan.next_in(Timestamp(501)), Duration::from_millis(29_999));
    }
}
