//! Where model bytes come from. A seam: what fetches and reloads knows no S3.

mod s3;

use bytes::Bytes;
use futures_core::future::BoxFuture;

pub use s3::S3Source;

use crate::ids::Identity;

/// A place that holds one model file and knows whether it changed.
pub trait Source: Send + Sync {
    /// Asks for the file in one request. With the identity that is known already the question is conditional:
    /// [`Opened::Unchanged`] when the source still holds the same.
    fn open<'a>(
        &'a self,
        known: Option<&'a Identity>,
    ) -> BoxFuture<'a, Result<Opened, SourceError>>;
}

/// What a source answers.
pub enum Opened {
    /// The file is the one that is known.
    Unchanged,
    /// The file, ready to be read.
    Object(Object),
}

/// A file of one identity, being read.
pub struct Object {
    /// What the source says of this content.
    pub identity: Identity,
    /// Its length in bytes, as declared; whoever reads holds the bytes against it.
    pub size: u64,
    /// Its bytes. The source checks them against its own checksum, where it has one, before the end.
    pub body: Box<dyn Chunks>,
}

/// Bytes that arrive piece by piece.
pub trait Chunks: Send {
    /// The next piece; `None` at the end.
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>>;
}

/// Why a source did not give what was asked. The message names the place and what may help.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    message: String,
    transient: bool,
}

impl SourceError {
    /// An error that stays until somebody changes something: permissions, a name.
    #[must_use]
    pub fn lasting(message: String) -> Self {
        Self {
            message,
            transient: false,
        }
    }

    /// An error that may be gone at the next attempt.
    #[must_use]
    pub fn transient(message: String) -> Self {
        Self {
            message,
            transient: true,
        }
    }

    /// Whether another attempt may succeed at once.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.transient
    }
}
