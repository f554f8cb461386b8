//! Release of memory that large requests have freed.
//!
//! The allocator keeps freed memory for the next request, which is right while large requests follow each other. One
//! second after the last one, the memory is released to the system if it is worth it. Small requests are not involved.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Minimum size of a large request, in bytes.
pub(super) const MIN_LARGE_REQUEST: usize = 1024 * 1024;
/// Time without the end of a large request, before memory is released.
const IDLE: Duration = Duration::from_secs(1);
/// Minimum memory that is released, in bytes.
const MIN_RELEASED: u64 = 4 * 1024 * 1024;

/// Number of ended large requests, and the thread that waits for the last of them.
#[derive(Debug, Default)]
pub(super) struct Trim {
    ended: AtomicUsize,
    is_waiting: AtomicBool,
}

/// Records the end of a large request. `released` is called after each release of memory.
pub(super) fn ended(trim: &Arc<Trim>, released: impl Fn() + Send + 'static) {
    trim.ended.fetch_add(1, Ordering::SeqCst);
    if trim.is_waiting.swap(true, Ordering::SeqCst) {
        return;
    }
    let thread = std::thread::Builder::new().name("trim-memory".to_owned());
    // If no thread can be created, the next large request tries again.
    let waiting = Arc::clone(trim);
    if let Err(error) = thread.spawn(move || wait_and_trim(&waiting, released)) {
        tracing::debug!("cannot start a thread to release memory: {error}");
        trim.is_waiting.store(false, Ordering::SeqCst);
    }
}

fn wait_and_trim(trim: &Trim, released: impl Fn()) {
    let mut seen = trim.ended.load(Ordering::SeqCst);
    loop {
        std::thread::sleep(IDLE);
        let now = trim.ended.load(Ordering::SeqCst);
        if std::mem::replace(&mut seen, now) != now {
            continue;
        }
        if crate::sys::free_heap_bytes() >= MIN_RELEASED {
            crate::sys::release_freed_memory();
            released();
        }
        trim.is_waiting.store(false, Ordering::SeqCst);
        // A request that ended in between has started no thread.
        if trim.ended.load(Ordering::SeqCst) == seen || trim.is_waiting.swap(true, Ordering::SeqCst)
        {
            return;
        }
    }
}
