//! Memory that large requests have freed, given back to the system.
//!
//! The allocator keeps what was freed for the next request, which is right while large requests follow each other. A second
//! after the last one it goes back to the system, if it is worth it. A small request has no part in this.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::Account;

/// Bytes of a request that is large.
pub(super) const LARGE: usize = 1024 * 1024;
/// How long no large request may have ended.
const IDLE: Duration = Duration::from_secs(1);
/// Bytes that are worth giving back.
const WORTH_IT: u64 = 4 * 1024 * 1024;

/// The end of large requests, and the thread that waits for the last of them.
#[derive(Debug, Default)]
pub(super) struct Trim {
    ended: AtomicUsize,
    is_waiting: AtomicBool,
}

/// Notes that a large request has ended.
pub(super) fn ended(account: &Arc<Account>) {
    let trim = &account.trim;
    trim.ended.fetch_add(1, Ordering::SeqCst);
    if trim.is_waiting.swap(true, Ordering::SeqCst) {
        return;
    }
    let thread = std::thread::Builder::new().name("trim-memory".to_owned());
    // Where there is no thread to be had, the next large request tries again.
    let waiting = Arc::clone(account);
    if let Err(error) = thread.spawn(move || wait_and_trim(&waiting.trim)) {
        tracing::debug!("no thread to give memory back: {error}");
        trim.is_waiting.store(false, Ordering::SeqCst);
    }
}

fn wait_and_trim(trim: &Trim) {
    let mut seen = trim.ended.load(Ordering::SeqCst);
    loop {
        std::thread::sleep(IDLE);
        let now = trim.ended.load(Ordering::SeqCst);
        if std::mem::replace(&mut seen, now) != now {
            continue;
        }
        if crate::sys::free_heap_bytes() >= WORTH_IT {
            crate::sys::release_freed_memory();
        }
        trim.is_waiting.store(false, Ordering::SeqCst);
        // One that ended in between has started no thread.
        if trim.ended.load(Ordering::SeqCst) == seen || trim.is_waiting.swap(true, Ordering::SeqCst)
        {
            return;
        }
    }
}
