//! Drain of a version that leaves memory before another version is loaded.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::{LoadedModel, LoadedSession, LoadedVersion};
use crate::clock::within_awake;

/// Version that accepts no new requests. It is dropped when its running requests are done.
pub struct Drain {
    of: LoadedVersion,
    /// The session instead of its [`LoadedModel`]. Requests that began before a rename hold another one of the
    /// session.
    session: Weak<LoadedSession>,
    gone: watch::Receiver<()>,
}

impl Drain {
    pub(super) fn new(loaded: &Arc<LoadedModel>) -> Self {
        Self {
            of: loaded.of.clone(),
            session: Arc::downgrade(&loaded.session),
            gone: loaded.session.gone.subscribe(),
        }
    }

    /// Waits until the last request is done, the session is dropped, and its memory has returned to the system.
    ///
    /// # Errors
    /// The version itself if a request still runs on it after `limit`. The limit counts whole seconds of time awake: a
    /// freeze costs running requests at most one second.
    pub async fn finish(mut self, limit: Duration) -> Result<(), Arc<LoadedModel>> {
        // The value never changes; the wait ends when the sender is dropped.
        let dropped = async { while self.gone.changed().await.is_ok() {} };
        tokio::pin!(dropped);
        if within_awake(limit, dropped.as_mut()).await.is_some() {
            return Ok(());
        }
        if let Some(session) = self.session.upgrade() {
            return Err(Arc::new(LoadedModel::sharing(self.of, session)));
        }
        // The last request is done, and the session is being dropped, which ends by itself.
        dropped.await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
