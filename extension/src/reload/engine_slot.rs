//! The engine, opened in parallel with the other work of Init.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OnceCell, oneshot};

use crate::engine::{Engine, EngineError};

/// Engine that is opened on a thread, once, on first use.
pub struct EngineSlot {
    open: Box<dyn Fn() -> Result<Arc<dyn Engine>, EngineError> + Send + Sync>,
    cell: OnceCell<(Arc<dyn Engine>, Duration)>,
}

impl EngineSlot {
    /// Returns a slot whose engine `open` opens.
    #[must_use]
    pub fn new(
        open: impl Fn() -> Result<Arc<dyn Engine>, EngineError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            open: Box::new(open),
            cell: OnceCell::new(),
        })
    }

    /// Returns the engine, and the duration of its opening. Concurrent callers wait for the same opening.
    pub async fn get(self: &Arc<Self>) -> Result<(Arc<dyn Engine>, Duration), EngineError> {
        let open = || async {
            let slot = Arc::clone(self);
            let started = Instant::now();
            let engine = on_thread("open-engine", move || (slot.open)()).await??;
            Ok((engine, started.elapsed()))
        };
        self.cell.get_or_try_init(open).await.cloned()
    }
}

/// Runs `work` on a dedicated thread.
pub(super) async fn on_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, EngineError> {
    let (done, result) = oneshot::channel();
    let failed = |reason: String| EngineError::Thread(reason);
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _ = done.send(work());
        })
        .map_err(|error| failed(error.to_string()))?;
    result
        .await
        .map_err(|_| failed("the thread ended without a result".to_owned()))
}
