//! Work in proportion to a large body, off the threads that serve and within the deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Context;
use super::error::ApiError;
use crate::clock::Deadline;
use crate::engine::EngineError;
use crate::request_memory::Charge;
use crate::scheduler::RunError;

/// Does `work` on a thread that may block, as soon as one of the CPUs is free for it. At the deadline, and when this is
/// dropped, the charge tells the work to stop; what the charge holds is given back when the work has stopped.
pub(super) async fn off_thread<T: Send + 'static>(
    charge: &mut Charge,
    deadline: Deadline,
    context: &Context,
    work: impl FnOnce(&mut Charge) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let own = std::mem::replace(charge, Charge::new(&context.account));
    let mut own = own.cancelled_by(Arc::clone(&cancelled));
    let _cancel = CancelOnDrop(cancelled);
    let done = async {
        let place = context.large_bodies.acquire().await;
        let work = move || {
            let done = work(&mut own);
            (done, own)
        };
        let done = tokio::task::spawn_blocking(work).await;
        drop(place);
        done
    };
    let done = context.thaws.within(&*context.clock, deadline, done).await;
    let done = done.ok_or(ApiError::Run(RunError::Deadline))?;
    let (done, own) = done.map_err(|_| {
        let problem = "the work on the body ended in its middle".to_owned();
        ApiError::Run(RunError::Engine(EngineError::Thread(problem)))
    })?;
    *charge = own.uncancelled();
    Ok(done)
}

/// Cancels when it is dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
