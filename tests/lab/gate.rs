//! A gate that pauses a server in the middle of a response until a test opens it.

use tokio::sync::watch;

use crate::WAIT_LIMIT;
use crate::records::NotSeen;

/// A gate, closed at first. Clones share their state.
#[derive(Clone, Debug)]
pub struct Gate {
    state: watch::Sender<GateState>,
}

#[derive(Clone, Copy, Debug, Default)]
struct GateState {
    open: bool,
    arrived: usize,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// Returns a closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: watch::Sender::new(GateState::default()),
        }
    }

    /// Opens the gate for all current and future waiters.
    pub fn open(&self) {
        self.state.send_modify(|state| state.open = true);
    }

    /// Waits until `count` callers have reached the gate since it was made, open or not.
    ///
    /// # Errors
    /// [`NotSeen`] if fewer have reached it within [`WAIT_LIMIT`].
    pub async fn reached(&self, count: usize) -> Result<(), NotSeen> {
        let mut state = self.state.subscribe();
        let arrived = state.wait_for(|state| state.arrived >= count);
        match tokio::time::timeout(WAIT_LIMIT, arrived).await {
            Ok(_) => Ok(()),
            Err(_) => Err(NotSeen::new(
                &format!("{count} waiting at the gate"),
                &format!("{:?}", *self.state.borrow()),
            )),
        }
    }

    /// Waits until the gate is open.
    pub(crate) async fn pass(&self) {
        self.state.send_modify(|state| state.arrived += 1);
        // The sender is owned by `self`, so this wait ends only when the gate opens.
        let _ = self.state.subscribe().wait_for(|state| state.open).await;
    }
}
