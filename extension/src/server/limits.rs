//! Limits on requests, responses and connections.
//!
//! Timeouts of [`AwakeTimeout`](crate::clock::AwakeTimeout) count time awake: a freeze is not the peer's fault.

use std::time::Duration;

/// Maximum number of concurrent connections. A process on Lambda may have 1,024 file descriptors.
pub(super) const MAX_CONNECTIONS: usize = 256;
/// Maximum size of a request's head in bytes: hyper's buffer, beyond which hyper responds with 431.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Maximum size of a body in bytes, before and after decompression. Lambda's own limit is 6 MB; code in the function
/// may send more, and memory is finite.
pub(super) const MAX_BODY: usize = 64 * 1024 * 1024;
/// Maximum size of the body of a repository call in bytes. Parsing it as a tree takes many times its length.
pub(super) const MAX_REPOSITORY_BODY: usize = 64 * 1024;

/// Maximum time from the first byte of a request's head to its end.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum time in which no byte of a request body arrives.
pub(super) const BODY_STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum total time that the server waits for a request body. Time that the server spends on received parts does not
/// count.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum time in which the peer takes no byte of a response.
pub(super) const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum idle time of a connection where no freeze can be the reason.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum total time for which a closed connection discards the rest of a rejected body.
pub(super) const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// Maximum time for a request that has no deadline of its own, outside an invocation.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(60);
/// Time by which a response precedes the deadline, so that the caller can still forward it.
pub(super) const DEADLINE_MARGIN: Duration = Duration::from_millis(100);

/// Minimum size in bytes from which bodies are decoded, and outputs encoded, on a blocking thread: about a millisecond
/// of work.
pub(super) const MIN_OFF_THREAD: usize = 256 * 1024;
/// Minimum size in bytes from which a response is compressed. A smaller one gains nothing on the local socket, and is
/// far below Lambda's limit of 6 MB.
pub(super) const MIN_COMPRESSED: u64 = 64 * 1024;
