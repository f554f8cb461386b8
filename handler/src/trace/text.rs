//! Identifiers and texts of both formats.

/// Maximum length of a text, in characters: X-Ray's. A document has at most six texts, so at most 8 KB of X-Ray's 64.
const MAX_TEXT: usize = 250;

/// Returns 16 random hexadecimal digits, not all zero. The system draws them, since a generator's state would be in a
/// snapshot.
pub(super) fn new_id() -> String {
    format!("{:016x}", getrandom::u64().unwrap_or_default().max(1))
}

/// Returns the first characters of a text.
pub(super) fn shortened(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}
