//! First version check of every model, which the startup waits for.
//!
//! The driver performs the checks. Their results arrive here even if the startup does not wait: after `next` is
//! called, the driver is not polled until the next event.

use tokio::sync::mpsc;

use crate::ids::ModelName;
use crate::reload::Outcome;

/// First checks, running or ended.
#[derive(Debug)]
pub struct FirstChecks {
    names: Vec<ModelName>,
    ended: mpsc::UnboundedReceiver<(ModelName, Outcome)>,
    outcomes: Vec<(ModelName, Outcome)>,
}

/// Sender of the results of first checks.
#[derive(Clone, Debug)]
pub(super) struct FirstCheckReport(mpsc::UnboundedSender<(ModelName, Outcome)>);

impl FirstChecks {
    /// Creates the first checks of `names`, with the sender of their results.
    pub(super) fn new(names: Vec<ModelName>) -> (Self, FirstCheckReport) {
        let (report, ended) = mpsc::unbounded_channel();
        let checks = Self {
            names,
            ended,
            outcomes: Vec::new(),
        };
        (checks, FirstCheckReport(report))
    }

    /// Waits until all checks have ended. Cancel-safe. A check that ended without a result, for example by a panic,
    /// counts as failed.
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

impl FirstCheckReport {
    /// Reports the result of the first check of `model`.
    pub(super) fn ended(&self, model: &ModelName, outcome: &Outcome) {
        // The receiver is gone if the startup has failed.
        let _ = self.0.send((model.clone(), outcome.clone()));
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn the_wait_is_cancel_safe_and_a_check_without_a_result_has_failed() {
        let name = |name| ModelName::parse(name).unwrap();
        let (mut checks, report) = FirstChecks::new(vec![name("a"), name("b")]);
        report.ended(&name("b"), &Outcome::Current);
        tokio::select! {
            biased;
            _ = checks.ended() => panic!("one check is running"),
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
