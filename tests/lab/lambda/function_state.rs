//! State of a function that its environments share.

use tokio::sync::watch;

use super::Report;
use super::history::History;
use super::metrics::LambdaMetrics;
use crate::log_capture::LogCapture;
use crate::records::Records;

/// Log and reports shared by the environments of a function.
#[derive(Debug)]
pub(super) struct FunctionState {
    pub(super) log: LogCapture,
    pub(super) reports: Records<Report>,
    pub(super) metrics: LambdaMetrics,
    pub(super) history: History,
    pub(super) memory_mb: u32,
    /// Changes whenever an invocation ends or an environment is removed.
    changes: watch::Sender<u64>,
}

impl FunctionState {
    pub(super) fn new(function_name: &str, echo: bool, memory_mb: u32) -> Self {
        Self {
            log: LogCapture::new("lambda", echo),
            reports: Records::default(),
            metrics: LambdaMetrics::new(function_name),
            history: History::default(),
            memory_mb,
            changes: watch::Sender::new(0),
        }
    }

    /// Wakes invocations that wait for an environment.
    pub(super) fn wake_waiters(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Receiver that is woken by [`Self::wake_waiters`].
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
