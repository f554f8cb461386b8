//! Errors that end the startup, with their exit codes and their types for the platform.

use std::time::Duration;

use crate::cache::CacheError;
use crate::config::ConfigError;
use crate::server::BindError;

/// Exit code of a failure.
pub(super) const EXIT_FAILURE: i32 = 1;
/// Exit code of an invalid configuration: `EX_USAGE` of sysexits.h.
const EXIT_USAGE: i32 = 64;

/// Reason why the sidecar cannot start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot start the server's thread: {0}")]
    Server(std::io::Error),
    #[error("cannot install the metrics recorder: the process has one already")]
    Recorder,
    #[error(
        "cannot start with MODEL_HANDLER=attach: no bootstrap of the model handler has attached within {} ms; deploy \
         the handler's bootstrap of this release as the function's code, or remove MODEL_HANDLER",
        .0.as_millis()
    )]
    NotAttached(Duration),
    #[error("cannot start with MODEL_REQUIRED=true: {0}")]
    Required(String),
}

impl StartError {
    /// Type of the error, as Lambda shows it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            StartError::Config(_) => "Extension.Configuration",
            StartError::Cache(_) => "Extension.Cache",
            StartError::Bind(_) => "Extension.Socket",
            StartError::Server(_) | StartError::Recorder => "Extension.Internal",
            StartError::NotAttached(_) => "Extension.Handler",
            StartError::Required(_) => "Extension.ModelRequired",
        }
    }

    /// Exit code of the process.
    pub(super) fn exit_code(&self) -> i32 {
        if matches!(self, StartError::Config(_)) {
            EXIT_USAGE
        } else {
            EXIT_FAILURE
        }
    }
}
