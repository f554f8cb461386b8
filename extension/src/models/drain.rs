//! A version on its way out of memory, before another takes its place there.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::{Loaded, LoadedSession, LoadedVersion};

const SECOND: Duration = Duration::from_secs(1);

/// A version that no request begins on any more. Those that did finish on it, and then it goes.
pub struct Drain {
    of: LoadedVersion,
    /// The session and not its [`Loaded`]: requests that began before a rename have another one of the same session.
    session: Weak<LoadedSession>,
    gone: watch::Receiver<()>,
}

impl Drain {
    pub(super) fn new(loaded: &Arc<Loaded>) -> Self {
        Self {
            of: loaded.of.clone(),
            session: Arc::downgrade(&loaded.session),
            gone: loaded.session.gone.subscribe(),
        }
    }

    /// Waits until the last request on it is done, its session is taken apart, and the memory is the system's again.
    ///
    /// # Errors
    /// The version itself, whole, when a request still runs on it after `longest`. That is counted in seconds, each
    /// with a timer of its own, so that of a freeze one second counts at most: it is the requests' time, too.
    pub async fn gone(mut self, longest: Duration) -> Result<(), Arc<Loaded>> {
        // There is never a change; what ends the wait is that the sender is no more.
        let gone = async { while self.gone.changed().await.is_ok() {} };
        tokio::pin!(gone);
        for _ in 0..longest.as_secs() {
            if tokio::time::timeout(SECOND, &mut gone).await.is_ok() {
                return Ok(());
            }
        }
        if let Some(session) = self.session.upgrade() {
            return Err(Arc::new(Loaded::sharing(self.of, session)));
        }
        // The last request is done, and the session is being taken apart, which has an end.
        gone.await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
