//! What is left to do once a version answers, and what nobody is to wait for.
//!
//! The journal is written, the cache swept, and memory that the load has freed given back to the system; all on a
//! thread, beside the first requests. The journal is in that thread's hands meanwhile: whoever asks for it waits.

use tokio::task::JoinHandle;

use crate::cache::{Cache, Journal};

/// What is known of a model's versions.
#[derive(Default)]
pub(super) struct Known {
    journal: Option<Journal>,
    /// The thread that has it in hand.
    tidying: Option<JoinHandle<Journal>>,
}

impl Known {
    /// The journal; by `read` when it is first needed. Given up while it waits, this loses nothing.
    pub(super) async fn journal(&mut self, read: impl FnOnce() -> Journal) -> &mut Journal {
        if let Some(thread) = &mut self.tidying {
            self.journal = thread.await.ok();
            self.tidying = None;
        }
        self.journal.get_or_insert_with(read)
    }

    /// Begins to tidy up.
    pub(super) fn tidy_up(&mut self, cache: &Cache) {
        let Some(mut journal) = self.journal.take() else {
            return;
        };
        let cache = cache.clone();
        self.tidying = Some(tokio::task::spawn_blocking(move || {
            journal.save();
            cache.sweep();
            // Last: it holds up whoever needs memory, such as the call that ends Init.
            crate::sys::release_freed_memory();
            journal
        }));
    }
}
