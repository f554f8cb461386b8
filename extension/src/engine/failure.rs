//! Classification of ONNX Runtime's failures by cause.
//!
//! A load can fail although the model is good: a file is gone or cannot be read, or memory cannot be allocated. ONNX
//! Runtime has no code of its own for most of these, so its messages are read. They were collected from ONNX Runtime
//! 1.28 with files removed, shortened and replaced by folders, at a limit of open files, and at a limit of memory.

use ort::error::ErrorCode;

use super::{EngineError, OutOfMemory};

/// Errors of the file system as the C library words them.
const SYSTEM_ERRORS: &[&str] = &[
    "Input/output error",
    "Stale file handle",
    "Too many open files",
    "No space left on device",
    "Disk quota exceeded",
    "Permission denied",
    "Operation not permitted",
    "Transport endpoint is not connected",
    "Connection timed out",
    "Resource temporarily unavailable",
    "Device or resource busy",
    "Interrupted system call",
];
/// A file that is not there, or is not a file.
const MISSING: &[&str] = &[
    "File doesn't exist",
    "does not exist",
    "No such file or directory",
    "Not a directory",
    "Is a directory",
];
/// Reads that failed for a reason that ONNX Runtime does not pass on.
const READS: &[&str] = &[
    "filesystem error:",
    "Invalid fd was supplied",
    "bytes were able to be read",
    "can not be read in full",
];
/// Text before the number of a system error.
const NUMBERED: &[&str] = &["system error number ", "SystemError : "];
const ENOENT: u32 = 2;
const ENOMEM: u32 = 12;

/// The error of a load that failed with this code and message, where all models may take `limit` bytes together.
pub(super) fn of_load(code: ErrorCode, message: String, limit: Option<u64>) -> EngineError {
    let number = system_error(&message);
    if let Some(memory) = OutOfMemory::of(&message, limit) {
        return EngineError::Memory(memory);
    }
    if number == Some(ENOMEM) || message.contains("Cannot allocate memory") {
        let requested = None;
        return EngineError::Memory(OutOfMemory { requested, limit });
    }
    let is_missing = code == ErrorCode::NoSuchFile
        || number == Some(ENOENT)
        || number.is_none() && contains(&message, MISSING);
    if is_missing
        || number.is_some()
        || contains(&message, SYSTEM_ERRORS)
        || contains(&message, READS)
    {
        return EngineError::File {
            reason: message,
            is_missing,
        };
    }
    EngineError::Load(message)
}

fn contains(message: &str, words: &[&str]) -> bool {
    words.iter().any(|word| message.contains(word))
}

/// The number of the system error that a message names.
fn system_error(message: &str) -> Option<u32> {
    NUMBERED.iter().find_map(|before| {
        let (_, rest) = message.split_once(before)?;
        let end = rest.find(|letter: char| !letter.is_ascii_digit());
        rest[..end.unwrap_or(rest.len())].parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    enum Kind {
        Model,
        Missing,
        File,
        Memory,
    }

    fn kind(code: ErrorCode, message: &str) -> Kind {
        match of_load(code, message.to_owned(), None) {
            EngineError::Load(_) => Kind::Model,
            EngineError::File {
                is_missing: true, ..
            } => Kind::Missing,
            EngineError::File { .. } => Kind::File,
            EngineError::Memory(_) => Kind::Memory,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_onnx_runtime_says_is_told_apart() {
        let fail = ErrorCode::GenericFailure;
        for (code, message, expected) in [
            (
                ErrorCode::NoSuchFile,
                "Load model from m failed:Load model m failed. File doesn't exist",
                Kind::Missing,
            ),
            (
                fail,
                "External data path validation failed for initializer: a. Error: tensorprotoutils.cc:453 \
                 ValidateExternalDataPathFromDir External data path does not exist: \"/tmp/one.bin\"",
                Kind::Missing,
            ),
            (
                fail,
                "Load model from m failed:system error number 2",
                Kind::Missing,
            ),
            (
                fail,
                "Load model from m failed:system error number 24",
                Kind::File,
            ),
            (
                fail,
                "graph.cc:1344 Graph status.IsOK() was false. SystemError : 24",
                Kind::File,
            ),
            (
                fail,
                "Load model from m failed:system error number 116",
                Kind::File,
            ),
            (
                fail,
                "mmap file \"one.bin\" failed: Input/output error",
                Kind::File,
            ),
            (
                ErrorCode::InvalidArgument,
                "Invalid fd was supplied: -1",
                Kind::File,
            ),
            (
                fail,
                "Load model from m failed. Only 0/4096 bytes were able to be read.",
                Kind::File,
            ),
            (
                fail,
                "External initializer: b offset: 4096 size to read: 16 given file_length: 4 are out of bounds or can \
                 not be read in full.",
                Kind::File,
            ),
            (
                fail,
                "Load model from m failed:std::bad_alloc",
                Kind::Memory,
            ),
            (
                fail,
                "Exception during initialization: std::bad_alloc",
                Kind::Memory,
            ),
            (
                fail,
                "bfc_arena.cc:358 Failed to allocate memory for requested buffer of size 409600000",
                Kind::Memory,
            ),
            (
                fail,
                "open file \"one.bin\" failed: Cannot allocate memory",
                Kind::Memory,
            ),
            (
                fail,
                "Load model from m failed:system error number 12",
                Kind::Memory,
            ),
            (
                ErrorCode::InvalidProtobuf,
                "Load model from m failed:Protobuf parsing failed.",
                Kind::Model,
            ),
            (
                fail,
                "Load model from m failed:Fatal error: com.example:Nothing(-1) is not a registered function/op",
                Kind::Model,
            ),
        ] {
            assert_eq!(kind(code, message), expected, "{message}");
        }
    }
}
