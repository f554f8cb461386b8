//! Work in proportion to a large body, on a blocking thread and within the deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::context::ServerContext;
use super::error::ApiError;
use crate::clock::Deadline;
use crate::engine::EngineError;
use crate::request_memory::Charge;
use crate::scheduler::RunError;

/// Runs `work` on a blocking thread as soon as a CPU is free for it. At the deadline, and when the future is dropped,
/// the charge tells the work to stop. The charge is returned once the work has stopped.
pub(super) async fn off_thread<T: Send + 'static>(
    charge: &mut Charge,
    deadline: Deadline,
    context: &ServerContext,
    work: impl FnOnce(&mut Charge) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let own = std::mem::replace(charge, Charge::new(&context.account));
    let mut own = own.cancelled_by(Arc::clone(&cancelled));
    let _cancel = CancelOnDrop(cancelled);
    let done = async {
        let permit = context.large_bodies.acquire().await;
        let work = move || {
            let done = work(&mut own);
            (done, own)
        };
        let done = tokio::task::spawn_blocking(work).await;
        drop(permit);
        done
    };
    let done = context.thaws.within(&*context.clock, deadline, done).await;
    let done = done.ok_or(ApiError::Run(RunError::Deadline))?;
    let (done, own) = done.map_err(|_| {
        let problem = "decoding or encoding of a large body panicked or was cancelled".to_owned();
        ApiError::Run(RunError::Engine(EngineError::Thread(problem)))
    })?;
    *charge = own.uncancelled();
    Ok(done)
}

/// Tells the work to stop when dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
