//! Time limit of a run on a thread that blocks.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock::within_awake;
use crate::engine::Cancel;

/// Calls `run` on this thread, and cancels the run after `limit`, in whole seconds of time awake.
pub(super) fn run_within<T>(
    limit: Duration,
    runtime: &Handle,
    run: impl FnOnce(&Cancel) -> T,
) -> T {
    let cancel = Arc::new(Cancel::default());
    let timeout = runtime.spawn({
        let cancel = Arc::clone(&cancel);
        async move {
            within_awake(limit, std::future::pending::<()>()).await;
            cancel.cancel();
        }
    });
    let result = run(&cancel);
    timeout.abort();
    result
}
