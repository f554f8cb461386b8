//! Handling of errors, panics and log lines of the `ort` bindings.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ort::logging::LogLevel;

/// Returns the trimmed message of an error of the bindings.
pub(super) fn message<R>(error: &ort::Error<R>) -> String {
    error.message().trim().to_owned()
}

/// Runs `work`; a panic is logged and becomes an `Err` with the panic's message.
pub(super) fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text
            .or(panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a message");
        tracing::error!("ONNX Runtime's bindings panicked: {text}");
        text.to_owned()
    })
}

/// Writes a log line of ONNX Runtime to the sidecar's log.
pub(super) fn log(level: LogLevel, category: &str, _session: &str, location: &str, message: &str) {
    match level {
        LogLevel::Verbose => {
            tracing::trace!(target: "onnxruntime", category, location, "{message}");
        }
        LogLevel::Info => tracing::debug!(target: "onnxruntime", category, location, "{message}"),
        LogLevel::Warning => tracing::warn!(target: "onnxruntime", category, location, "{message}"),
        LogLevel::Error | LogLevel::Fatal => {
            tracing::error!(target: "onnxruntime", category, location, "{message}");
        }
    }
}
