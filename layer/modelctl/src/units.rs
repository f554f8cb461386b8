//! Formatting of sizes and times.

use std::time::Duration;

/// `89.5 MB`; a megabyte is a million bytes, as in the sidecar's log.
pub(crate) fn bytes(bytes: u64) -> String {
    // Three digits are shown.
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let number = bytes as f64;
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..1_000_000 => format!("{:.1} kB", number / 1e3),
        _ => format!("{:.1} MB", number / 1e6),
    }
}

/// `15.2 ms`.
pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
