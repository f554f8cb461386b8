//! Arithmetic of the account: pure functions of measurements.

use std::fmt;

const MB: usize = 1024 * 1024;

/// Bytes that stay free for the function and for memory that is not counted: headers, connections, threads.
const MARGIN: u64 = 8 * 1024 * 1024;

/// Origin of the account's budget, as named in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetOrigin {
    /// The variable `MODEL_REQUEST_MEMORY_MB`.
    Variable,
    /// The function's memory size, in MB.
    Function(u64),
    /// The machine or its control group.
    Machine,
}

impl fmt::Display for BudgetOrigin {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BudgetOrigin::Variable => write!(to, "as set by MODEL_REQUEST_MEMORY_MB"),
            BudgetOrigin::Function(mb) => write!(
                to,
                "the rest of the function's memory size of {mb} MB; raise it, or set MODEL_REQUEST_MEMORY_MB"
            ),
            BudgetOrigin::Machine => write!(
                to,
                "the rest of the memory of the machine or container; add memory, or set MODEL_REQUEST_MEMORY_MB"
            ),
        }
    }
}

/// Minimum budget of requests, in bytes: ordinary requests take less than the error of a measurement.
const MIN_SHARE: usize = MB;

/// Returns the budget of requests, in bytes, if the environment without requests has `left` bytes. A sixteenth and
/// [`MARGIN`], or a quarter if that is less, stay free.
#[must_use]
pub fn requests_share(left: u64) -> usize {
    let share = left - left / 16 - MARGIN.min(left / 4);
    usize::try_from(share).unwrap_or(usize::MAX).max(MIN_SHARE)
}

/// Returns the expected memory of a request during decoding, in bytes. Its body has `declared` bytes, of which `binary`
/// are binary tensors after the JSON.
///
/// Binary tensors stay in place. JSON becomes at most two bytes of a tensor per byte, for the densest arrays of single
/// precision (`1,1,1`). A request that needs more charges more later. Compressed JSON is assumed to be a fifth of its
/// size.
#[must_use]
pub fn expected_bytes(declared: usize, binary: Option<usize>, is_compressed: bool) -> usize {
    let json = declared.saturating_sub(binary.unwrap_or(0));
    let decoded = json.saturating_mul(2).saturating_add(declared);
    if is_compressed {
        decoded.saturating_mul(5).saturating_add(declared)
    } else {
        decoded
    }
}

/// Returns the memory of this process without requests, in bytes. The process has `own` bytes, and open charges hold
/// `held` bytes. Charges may not be fully allocated, so the result is between `own - held` and `own`. The last value is
/// kept as long as it is in this range.
pub(super) fn baseline(last: Option<u64>, own: u64, held: u64) -> u64 {
    let last = last.unwrap_or(own);
    last.clamp(own.saturating_sub(held), own)
}

/// Formats bytes as megabytes.
pub(super) fn megabytes(bytes: usize) -> String {
    let tenths = bytes.saturating_mul(10).div_ceil(MB);
    format!("{}.{} MB", tenths / 10, tenths % 10)
}
