//! Classification of ONNX Runtime's load failures by cause.
//!
//! A load can fail although the model is good: a file is missing or cannot be read, or memory cannot be allocated. ONNX
//! Runtime has no distinct code for most of these failures, so its messages are matched. They were collected from ONNX
//! Runtime 1.28: with files removed, truncated and replaced by directories, and at limits of open files and of memory.

use ort::error::ErrorCode;

use super::{EngineError, OutOfMemory};

/// File system errors, as the C library words them.
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
/// Messages for a path that does not exist or is not a file.
const MISSING: &[&str] = &[
    "File doesn't exist",
    "does not exist",
    "No such file or directory",
    "Not a directory",
    "Is a directory",
];
/// Messages for failed reads whose cause ONNX Runtime does not report.
const READS: &[&str] = &[
    "filesystem error:",
    "Invalid fd was supplied",
    "bytes were able to be read",
    "can not be read in full",
];
/// Prefixes of a system error number.
const NUMBERED: &[&str] = &["system error number ", "SystemError : "];
const ENOENT: u32 = 2;
const ENOMEM: u32 = 12;

/// Returns the error of a load that failed with this code and message. `limit` is the memory limit of all models
/// together, in bytes.
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

/// Returns the system error number in a message.
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
    enum Cause {
        Model,
        Missing,
        File,
        Memory,
    }

    fn kind(code: ErrorCode, message: &str) -> Cause {
        match of_load(code, message.to_owned(), None) {
            EngineError::Load(_) => Cause::Model,
            EngineError::File {
                is_missing: true, ..
            } => Cause::Missing,
            EngineError::File { .. } => Cause::File,
            EngineError::Memory(_) => Cause::Memory,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_of_onnx_runtime_are_classified() {
        let fail = ErrorCode::GenericFailure;
        for (code, message, expected) in [
            (
                ErrorCode::NoSuchFile,
                "Load model from m failed:Load model m failed. File doesn't exist",
                Cause::Missing,
            ),
            (
                fail,
                "External data path validation failed for initializer: a. Error: tensorprotoutils.cc:453 \
                 ValidateExternalDataPathFromDir External data path does not exist: \"/tmp/one.bin\"",
                Cause::Missing,
            ),
            (
                fail,
                "Load model from m failed:system error number 2",
                Cause::Missing,
            ),
            (
                fail,
                "Load model from m failed:system error number 24",
                Cause::File,
            ),
            (
                fail,
                "graph.cc:1344 Graph status.IsOK() was false. SystemError : 24",
                Cause::File,
            ),
            (
                fail,
                "Load model from m failed:system error number 116",
                Cause::File,
            ),
            (
                fail,
                "mmap file \"one.bin\" failed: Input/output error",
                Cause::File,
            ),
            (
                ErrorCode::InvalidArgument,
                "Invalid fd was supplied: -1",
                Cause::File,
            ),
            (
                fail,
                "Load model from m failed. Only 0/4096 bytes were able to be read.",
                Cause::File,
            ),
            (
                fail,
                "External initializer: b offset: 4096 size to read: 16 given file_length: 4 are out of bounds or can \
                 not be read in full.",
                Cause::File,
            ),
            (
                fail,
                "Load model from m failed:std::bad_alloc",
                Cause::Memory,
            ),
            (
                fail,
                "Exception during initialization: std::bad_alloc",
                Cause::Memory,
            ),
            (
                fail,
                "bfc_arena.cc:358 Failed to allocate memory for requested buffer of size 409600000",
                Cause::Memory,
            ),
            (
                fail,
                "open file \"one.bin\" failed: Cannot allocate memory",
                Cause::Memory,
            ),
            (
                fail,
                "Load model from m failed:system error number 12",
                Cause::Memory,
            ),
            (
                ErrorCode::InvalidProtobuf,
                "Load model from m failed:Protobuf parsing failed.",
                Cause::Model,
            ),
            (
                fail,
                "Load model from m failed:Fatal error: com.example:Nothing(-1) is not a registered function/op",
                Cause::Model,
            ),
        ] {
            assert_eq!(kind(code, message), expected, "{message}");
        }
    }
}
