//! Errors of a check: the message for the log, and the public text without names of buckets, keys or paths.

use std::time::Duration;

use super::validation::ValidationError;
use crate::cache::{CacheError, InsufficientSpace, ShuttingDown};
use crate::engine::EngineError;
use crate::fetch::FetchError;
use crate::ids::{FilePath, VersionName};
use crate::onnx::OnnxError;
use crate::source::SourceError;

/// Reason for which a check, or one of its steps, failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    #[error("{0}")]
    Source(#[from] SourceError),
    #[error("{0}")]
    Fetch(#[from] FetchError),
    #[error("{0}")]
    Cache(#[from] CacheError),
    #[error("{0}")]
    Engine(#[from] EngineError),
    #[error("{0}")]
    Onnx(#[from] OnnxError),
    #[error("{location}: {reason}")]
    Manifest { location: String, reason: String },
    #[error("{0}")]
    Repository(String),
    /// Requests on the active version did not end in time for its replacement.
    #[error(
        "cannot replace version {version}: requests still run on it after {} s, and there is not enough memory to load \
         the new version alongside it",
        waited.as_secs()
    )]
    InUse {
        version: VersionName,
        waited: Duration,
    },
    #[error(
        "cannot load the new version: memory holds one version, and without the active version's file there is nothing \
         to return to; MODEL_RELOAD=replace loads it anyway"
    )]
    NoReturn,
    #[error(
        "{0}; keeping the active version's file, since memory does not hold two versions and there would be nothing to \
         return to; MODEL_RELOAD=replace evicts it"
    )]
    InsufficientSpace(InsufficientSpace),
    #[error(
        "cannot use {uri}: it refers to {file}, and the matching version of that file is unknown; publish with a \
         manifest, which names it"
    )]
    HasDataFiles { uri: String, file: FilePath },
    #[error("cannot fetch the model: its files change faster than they can be fetched")]
    Unsteady,
    #[error("{0}")]
    Validation(#[from] ValidationError),
    /// A version that an earlier check has rejected.
    #[error("the version in the source is rejected: {0}")]
    RejectedVersion(String),
    /// Content of a file that an earlier check has rejected, with its public reason.
    #[error("the version in the source is rejected: {0}")]
    RejectedContent(String),
    /// A load that has to wait.
    #[error("{0}")]
    Deferred(String),
    #[error("{0}; the model's files in the cache are damaged or gone, and will be fetched again")]
    FilesLost(Box<CheckError>),
    #[error(transparent)]
    ShuttingDown(#[from] ShuttingDown),
}

impl CheckError {
    /// Returns whether another check may succeed without a change from outside.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            CheckError::Source(error) => error.is_transient(),
            CheckError::Fetch(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Returns whether a file of the version could not be read.
    pub(super) fn is_of_file(&self) -> bool {
        matches!(self, CheckError::Engine(EngineError::File { .. }))
    }

    /// Returns the problem without names of buckets, keys, accounts or paths, for callers from outside.
    pub(super) fn public(&self) -> String {
        const MORE: &str = "; the log has the details";
        match self {
            CheckError::Source(error) => format!("{}{MORE}", error.public()),
            CheckError::Fetch(error) => format!("{}{MORE}", error.public()),
            CheckError::Cache(error) => format!("{}{MORE}", error.public()),
            CheckError::Engine(EngineError::Library { .. }) => {
                format!("cannot open ONNX Runtime{MORE}")
            }
            CheckError::Engine(EngineError::CustomOps { .. }) => {
                format!("cannot load the custom operators{MORE}")
            }
            CheckError::Engine(EngineError::File { .. }) => {
                format!("cannot read a file of the model{MORE}")
            }
            CheckError::FilesLost(_) => {
                format!(
                    "the model's files in the cache are damaged or gone, and will be fetched again{MORE}"
                )
            }
            CheckError::Onnx(OnnxError::Location { .. }) => {
                format!(
                    "cannot use the model: the location of its external data is not allowed{MORE}"
                )
            }
            CheckError::Manifest { .. } => format!("cannot apply the manifest{MORE}"),
            CheckError::Repository(_) => {
                format!("the repository has no version to serve{MORE}")
            }
            CheckError::HasDataFiles { .. } => {
                format!(
                    "the model refers to other files, and their matching versions are unknown; publish with a manifest{MORE}"
                )
            }
            CheckError::Engine(_)
            | CheckError::Onnx(_)
            | CheckError::InUse { .. }
            | CheckError::NoReturn
            | CheckError::InsufficientSpace(_)
            | CheckError::Unsteady
            | CheckError::Validation(_)
            | CheckError::RejectedVersion(_)
            | CheckError::RejectedContent(_)
            | CheckError::Deferred(_)
            | CheckError::ShuttingDown(_) => self.to_string(),
        }
    }
}
