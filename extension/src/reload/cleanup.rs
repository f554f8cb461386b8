//! Work that remains once a version is active and that no caller waits for.
//!
//! A background thread writes the journal, sweeps the cache and returns freed memory to the system, in parallel with
//! the first requests. That thread owns the journal until it ends; the next check waits for it.

use tokio::task::JoinHandle;

use crate::cache::{Cache, Journal};

/// Journal of a model, or the thread that owns it.
#[derive(Default)]
pub(super) struct JournalSlot {
    journal: Option<Journal>,
    /// Cleanup thread, which returns the journal.
    cleanup: Option<JoinHandle<Journal>>,
}

impl JournalSlot {
    /// Returns the journal, which `read` reads on first use. Cancellation-safe.
    pub(super) async fn get(&mut self, read: impl FnOnce() -> Journal) -> &mut Journal {
        if let Some(thread) = &mut self.cleanup {
            self.journal = thread.await.ok();
            self.cleanup = None;
        }
        self.journal.get_or_insert_with(read)
    }

    /// Begins the cleanup.
    pub(super) fn begin_cleanup(&mut self, cache: &Cache) {
        let Some(mut journal) = self.journal.take() else {
            return;
        };
        let cache = cache.clone();
        self.cleanup = Some(tokio::task::spawn_blocking(move || {
            journal.save();
            cache.sweep();
            // Last, since it blocks other threads that allocate, such as the call that ends Init.
            crate::sys::release_freed_memory();
            journal
        }));
    }
}
