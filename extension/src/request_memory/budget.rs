//! The arithmetic of the account: pure functions of what was measured.

use std::fmt;

const MB: usize = 1024 * 1024;

/// Bytes that stay free for the function's next step and for what is not counted: headers, connections, threads.
const MARGIN: u64 = 8 * 1024 * 1024;

/// The setting from which the account's size follows, as an error names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// The variable.
    Variable,
    /// The function's memory size, in MB.
    Function(u64),
    /// The machine or its control group.
    Machine,
}

impl fmt::Display for Size {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Size::Variable => write!(to, "MODEL_REQUEST_MEMORY_MB sets it"),
            Size::Function(mb) => write!(
                to,
                "it is what the function's memory size of {mb} MB leaves: raise that, or set MODEL_REQUEST_MEMORY_MB"
            ),
            Size::Machine => write!(
                to,
                "it is what the machine or container leaves: give it more memory, or set MODEL_REQUEST_MEMORY_MB"
            ),
        }
    }
}

/// Bytes that requests always have: what ordinary ones take is less than a measurement may be wrong by.
const MIN_SHARE: usize = MB;

/// Bytes for requests, of `left` bytes that the environment has left with no request under way. A sixteenth and
/// [`MARGIN`], or a quarter where that is less, stay free.
#[must_use]
pub fn requests_share(left: u64) -> usize {
    let share = left - left / 16 - MARGIN.min(left / 4);
    usize::try_from(share).unwrap_or(usize::MAX).max(MIN_SHARE)
}

/// Bytes that a request is expected to take in all while it is decoded, whose body of `declared` bytes has `binary` bytes of
/// tensors behind its JSON, if any.
///
/// Tensors in binary stay where they are. JSON becomes at most two bytes of a tensor for each of its own, for the densest
/// arrays of single precision (`1,1,1`); more is possible, and is then asked for. Compressed JSON is a fifth of what it was.
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

/// The memory of this process that is not a request's, in bytes, when it has taken `own` in all and charges of `held`
/// bytes are open. A charge may not be filled yet, so it lies between `own - held` and `own`: the last value holds as
/// long as it is in there.
pub(super) fn baseline(last: Option<u64>, own: u64, held: u64) -> u64 {
    let last = last.unwrap_or(own);
    last.clamp(own.saturating_sub(held), own)
}

/// `bytes` in words.
pub(super) fn megabytes(bytes: usize) -> String {
    let tenths = bytes.saturating_mul(10).div_ceil(MB);
    format!("{}.{} MB", tenths / 10, tenths % 10)
}
