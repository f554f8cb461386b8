//! The first check of every model, which a startup waits for.
//!
//! The driver performs the checks. They go on and are reported here whether the startup waits for them or not: after
//! `next` was called nobody polls the driver until the next event.

use tokio::sync::mpsc;

use crate::ids::ModelName;
use crate::reload::Outcome;

/// The first checks, under way or ended.
#[derive(Debug)]
pub struct FirstChecks {
    names: Vec<ModelName>,
    ended: mpsc::UnboundedReceiver<(ModelName, Outcome)>,
    outcomes: Vec<(ModelName, Outcome)>,
}

/// Reports the end of a first check.
#[derive(Clone, Debug)]
pub(super) struct Report(mpsc::UnboundedSender<(ModelName, Outcome)>);

impl FirstChecks {
    /// The first checks of these models, and what each of them reports its end to.
    pub(super) fn new(names: Vec<ModelName>) -> (Self, Report) {
        let (report, ended) = mpsc::unbounded_channel();
        let checks = Self {
            names,
            ended,
            outcomes: Vec::new(),
        };
        (checks, Report(report))
    }

    /// Waits until all have ended. Nothing is lost when the wait is given up. A check that ended without a report, as by
    /// a panic, has failed.
    pub async fn ended(&mut self) -> &[(ModelName, Outcome)] {
        while let Some(outcome) = self.ended.recv().await {
            self.outcomes.push(outcome);
        }
        for name in std::mem::take(&mut self.names) {
            if self.outcomes.iter().all(|(reported, _)| *reported != name) {
                self.outcomes.push((name, Outcome::Failed));
            }
        }
        &self.outcomes
    }
}

impl Report {
    /// The first check of this model has ended.
    pub(super) fn ended(&self, model: &ModelName, outcome: &Outcome) {
        // Nobody waits where the startup has failed.
        let _ = self.0.send((model.clone(), outcome.clone()));
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn the_end_of_all_is_waited_for_in_several_goes_and_one_without_a_report_has_failed() {
        let name = |name| ModelName::parse(name).unwrap();
        let (mut checks, report) = FirstChecks::new(vec![name("a"), name("b")]);
        report.ended(&name("b"), &Outcome::Current);
        tokio::select! {
            biased;
            _ = checks.ended() => panic!("one is under way"),
            () = ready(()) => {}
        }
        drop(report);
        for _ in 0..2 {
            let outcomes = checks.ended().await;
            let expected = [(name("b"), Outcome::Current), (name("a"), Outcome::Failed)];
            assert_eq!(outcomes, expected);
        }
    }
}
