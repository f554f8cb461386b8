//! Phase of a connection, shared by the router and the wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Phase of a connection: of the requests that it reads, and of the responses that it writes.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnectionPhase(Arc<AtomicPhases>);

#[derive(Debug, Default)]
struct AtomicPhases {
    reading: AtomicU8,
    writing: AtomicU8,
}

/// No byte of a request has arrived.
const IDLE: u8 = 0;
/// The head of a request is arriving.
const HEAD: u8 = 1;
/// A request is being handled.
const HANDLING: u8 = 2;
/// No more requests are read.
const CLOSING: u8 = 3;

/// The head of a response may begin.
const BETWEEN: u8 = 0;
/// A response is on its way to hyper.
const RESPONDING: u8 = 1;
/// hyper's buffer holds the rest of a response.
const BUFFERED: u8 = 2;

impl ConnectionPhase {
    /// Records that a request is being handled.
    pub(super) fn handling(&self) {
        self.0.reading.store(HANDLING, Ordering::Relaxed);
        self.0.writing.store(RESPONDING, Ordering::Relaxed);
    }

    /// Records that the response is complete, and that another request may follow.
    pub(super) fn idle(&self) {
        self.0.reading.store(IDLE, Ordering::Relaxed);
    }

    /// Records that the response is complete, and that no other request follows.
    pub(super) fn closing(&self) {
        self.0.reading.store(CLOSING, Ordering::Relaxed);
    }

    /// Records that hyper has taken all of the response.
    pub(super) fn buffered(&self) {
        self.0.writing.store(BUFFERED, Ordering::Relaxed);
    }

    /// Records that hyper's buffer is empty.
    pub(super) fn flushed(&self) {
        let writing = &self.0.writing;
        let _ = writing.compare_exchange(BUFFERED, BETWEEN, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Records that bytes of a request have arrived. Returns `true` if a head begins with them.
    pub(super) fn head_begins(&self) -> bool {
        let reading = &self.0.reading;
        reading
            .compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Returns `true` while no byte of a request has arrived.
    pub(super) fn is_idle(&self) -> bool {
        self.0.reading.load(Ordering::Relaxed) == IDLE
    }

    /// Returns `true` while the head of a request is arriving.
    pub(super) fn is_in_head(&self) -> bool {
        self.0.reading.load(Ordering::Relaxed) == HEAD
    }

    /// Returns `true` once no more requests are read.
    pub(super) fn is_closing(&self) -> bool {
        self.0.reading.load(Ordering::Relaxed) == CLOSING
    }

    /// Returns `true` while the head of a response may begin.
    pub(super) fn is_between_responses(&self) -> bool {
        self.0.writing.load(Ordering::Relaxed) == BETWEEN
    }
}
