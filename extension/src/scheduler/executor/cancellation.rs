//! Cancellation of a request whose deadline has passed, or whose caller has disconnected.
//!
//! In both cases the future of the request is dropped: by [`Scheduler::run`](crate::scheduler::Scheduler::run) at the
//! deadline, and by the server for a closed connection. The guard then takes the request out of the queue. A run
//! without any waiting request is stopped inside ONNX Runtime, at the next node of the graph.

use std::sync::Arc;
use std::time::Instant;

use super::state::{ExecutorState, InferenceJob};
use super::worker;
use crate::engine::EngineError;
use crate::scheduler::RunError;
use crate::scheduler::queue::{QueueFull, Ticket};

/// Guard of a request in the queue or in a run. Cancels the request if it is dropped before [`Self::disarm`].
pub(super) struct QueueGuard {
    state: Arc<ExecutorState>,
    ticket: Ticket,
    is_done: bool,
}

impl QueueGuard {
    /// Queues a request, and wakes a worker for it.
    pub(super) fn enqueue(
        state: &Arc<ExecutorState>,
        job: InferenceJob,
        now: Instant,
    ) -> Result<Self, RunError> {
        let limit = state.limits.queue;
        let mut inner = state.lock();
        let ticket = inner.queue.enqueue(job, now);
        let ticket = ticket.map_err(|QueueFull| RunError::QueueFull { limit })?;
        if let Err(error) = worker::wake(state, inner) {
            state.lock().queue.cancel(ticket);
            return Err(EngineError::Thread(error.to_string()).into());
        }
        Ok(Self {
            state: Arc::clone(state),
            ticket,
            is_done: false,
        })
    }

    /// Ends the guard of a request that has its result.
    pub(super) fn disarm(mut self) {
        self.is_done = true;
    }
}

impl Drop for QueueGuard {
    fn drop(&mut self) {
        if !self.is_done {
            let mut inner = self.state.lock();
            inner.queue.cancel(self.ticket);
            // A cancelled run releases its slot to the next request.
            let _ = worker::wake(&self.state, inner);
        }
    }
}
