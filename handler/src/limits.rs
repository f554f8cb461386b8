//! Limits of Lambda that the handler keeps.

/// Maximum size of a function's response in bytes, serialized, as in Lambda's own error: 6 MiB and 100 bytes.
pub const MAX_RESPONSE: usize = 6_291_556;
