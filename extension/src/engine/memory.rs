//! Out-of-memory failures, recognized by ONNX Runtime's messages.

/// A failed memory allocation of ONNX Runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not enough memory for the model: {}{}",
    tensor(*.requested),
    all(*.limit)
)]
pub struct OutOfMemory {
    /// Size of the tensor in bytes, if ONNX Runtime reports it.
    pub requested: Option<u64>,
    /// Memory limit of all models and runs together, in bytes, if there is one.
    pub limit: Option<u64>,
}

fn tensor(bytes: Option<u64>) -> String {
    bytes.map_or_else(
        || "an allocation failed".to_owned(),
        |bytes| format!("a tensor takes {bytes} bytes"),
    )
}

fn all(bytes: Option<u64>) -> String {
    bytes.map_or_else(String::new, |bytes| {
        format!(", and all models and runs may take {bytes} bytes together")
    })
}

/// Prefixes of the requested number of bytes in ONNX Runtime's messages.
const REQUESTED: [&str; 2] = [
    "is smaller than requested bytes of ",
    "Failed to allocate memory for requested buffer of size ",
];
/// Messages of a failed allocation without a size.
const FAILED: [&str; 2] = ["std::bad_alloc", "bad allocation"];

impl OutOfMemory {
    /// Parses ONNX Runtime's message; `None` if it does not report a failed allocation.
    pub(super) fn of(message: &str, limit: Option<u64>) -> Option<Self> {
        let number = |before: &str| {
            let (_, after) = message.split_once(before)?;
            let end = after.find(|c: char| !c.is_ascii_digit());
            after[..end.unwrap_or(after.len())].parse::<u64>().ok()
        };
        let requested = REQUESTED.into_iter().find_map(number);
        let is_memory = requested.is_some() || FAILED.iter().any(|failed| message.contains(failed));
        is_memory.then_some(Self { requested, limit })
    }

    /// Returns `true` if the tensor alone exceeds the limit, so that a retry cannot succeed.
    #[must_use]
    pub fn exceeds_limit(&self) -> bool {
        matches!((self.requested, self.limit), (Some(requested), Some(limit)) if requested > limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_allocations_are_recognized_with_their_sizes() {
        let limit = Some(1500);
        for (message, requested, exceeds_limit) in [
            (
                "Non-zero status code returned while running ConstantOfShape node. Name:'' Status Message: bfc_arena.cc:359 \
                 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Available memory of \
                 425 is smaller than requested bytes of 4000",
                Some(4000),
                true,
            ),
            (
                "bfc_arena.cc:359 Failed to allocate memory for requested buffer of size 1400\n",
                Some(1400),
                false,
            ),
            ("Non-zero status code: std::bad_alloc", None, false),
        ] {
            let memory = OutOfMemory::of(message, limit).unwrap();
            assert_eq!(memory, OutOfMemory { requested, limit }, "{message}");
            assert_eq!(memory.exceeds_limit(), exceeds_limit, "{message}");
        }
        for other in [
            "indices element out of data bounds, idx=7 must be",
            "",
            "the data has 4 bytes",
        ] {
            assert_eq!(OutOfMemory::of(other, limit), None, "{other}");
        }
    }
}
