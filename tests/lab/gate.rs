//! A gate that a test holds shut while something waits before it: the way to stop a server in the
//! middle of an answer and to let it go on at a chosen moment.

use tokio::sync::watch;

use crate::WAIT_LIMIT;
use crate::records::NotSeen;

/// Shut when made. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate {
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    open: bool,
    arrived: usize,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A shut gate.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: watch::Sender::new(State::default()),
        }
    }

    /// Lets through all that wait and all that come.
    pub fn open(&self) {
        self.state.send_modify(|state| state.open = true);
    }

    /// Waits until `count` have come to the gate, since it was made, open or not.
    ///
    /// # Errors
    /// [`NotSeen`] when fewer have come within [`WAIT_LIMIT`].
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

    /// Comes to the gate and waits until it is open.
    pub(crate) async fn pass(&self) {
        self.state.send_modify(|state| state.arrived += 1);
        // The sender is in `self`, so the only end of this wait is the gate's opening.
        let _ = self.state.subscribe().wait_for(|state| state.open).await;
    }
}
