//! The engine, opened beside all else that Init does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OnceCell, oneshot};

use crate::engine::{Engine, EngineError};

/// Opens the engine on a thread, once, when it is first asked for.
pub struct EngineSlot {
    open: Box<dyn Fn() -> Result<Arc<dyn Engine>, EngineError> + Send + Sync>,
    cell: OnceCell<(Arc<dyn Engine>, Duration)>,
}

impl EngineSlot {
    /// A slot whose engine `open` opens.
    #[must_use]
    pub fn new(
        open: impl Fn() -> Result<Arc<dyn Engine>, EngineError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            open: Box::new(open),
            cell: OnceCell::new(),
        })
    }

    /// The engine, and how long it took to open. Whoever asks while it opens waits for the same.
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

/// Runs `work` on a thread of its own.
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
