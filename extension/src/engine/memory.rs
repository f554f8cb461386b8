//! Failures for lack of memory, told from others by what ONNX Runtime says.

/// Memory that ONNX Runtime asked for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not enough memory for the model: {}{}",
    tensor(*.requested),
    all(*.limit)
)]
pub struct OutOfMemory {
    /// Bytes of the tensor for which there was no memory, where ONNX Runtime says it.
    pub requested: Option<u64>,
    /// Bytes that all models may take together, where there is a limit.
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

/// The beginnings of ONNX Runtime's words for a tensor without memory, before the number of its bytes.
const REQUESTED: [&str; 2] = [
    "is smaller than requested bytes of ",
    "Failed to allocate memory for requested buffer of size ",
];
/// Its words for a failed allocation of which it does not say the size.
const FAILED: [&str; 2] = ["std::bad_alloc", "bad allocation"];

impl OutOfMemory {
    /// The failure that ONNX Runtime describes in these words, if it is one for lack of memory.
    pub(super) fn of(words: &str, limit: Option<u64>) -> Option<Self> {
        let number = |before: &str| {
            let (_, after) = words.split_once(before)?;
            let end = after.find(|c: char| !c.is_ascii_digit());
            after[..end.unwrap_or(after.len())].parse::<u64>().ok()
        };
        let requested = REQUESTED.into_iter().find_map(number);
        let is_memory = requested.is_some() || FAILED.iter().any(|failed| words.contains(failed));
        is_memory.then_some(Self { requested, limit })
    }

    /// Returns true if there is no memory for it even with nothing else in it.
    #[must_use]
    pub fn is_for_good(&self) -> bool {
        matches!((self.requested, self.limit), (Some(requested), Some(limit)) if requested > limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lack_of_memory_is_told_from_other_failures_with_its_numbers() {
        let limit = Some(1500);
        for (words, requested, is_for_good) in [
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
            let memory = OutOfMemory::of(words, limit).unwrap();
            assert_eq!(memory, OutOfMemory { requested, limit }, "{words}");
            assert_eq!(memory.is_for_good(), is_for_good, "{words}");
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
