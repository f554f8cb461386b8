//! Sources of model files: S3 and local files.
//!
//! A [`ModelFolder`] contains the files of a model; a [`Source`] is one of these files. The traits keep the modules
//! that fetch and reload independent of S3.
//!
//! An [`Identity`] identifies the content of a file. [`Source::open`] returns the present content. [`Source::read`]
//! reads any range of content with a given identity, and of no other content. So a transfer can resume after an error,
//! or run over several connections, and never mixes two versions.

mod file;
mod s3;

use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;
use futures_core::future::BoxFuture;

pub use file::{FileSource, LocalFolder};
pub use s3::{S3Folder, S3Source};

use crate::ids::{Checksum, Digest, FilePath, Identity};

/// Folder of files: a prefix in a bucket, or a directory.
pub trait ModelFolder: Send + Sync {
    /// Returns the file at `path`. The file may not exist.
    fn file(&self, path: &FilePath, named: NamedBy) -> Box<dyn Source>;

    /// Lists the names of the folders directly in `folder`, or in this folder, in any order. A folder that does not
    /// exist is empty.
    fn folders<'a>(
        &'a self,
        folder: Option<&'a FilePath>,
    ) -> BoxFuture<'a, Result<Vec<String>, SourceError>>;

    /// Returns one version of the file at `path`, by its version id. Its content never changes.
    ///
    /// # Errors
    /// This kind of source has no versions.
    fn version(&self, path: &FilePath, id: &str) -> Result<Box<dyn Source>, SourceError>;

    /// Lists the versions before the present one, newest first, at most [`MAX_EARLIER_VERSIONS`], in one request. For a
    /// deleted file, the list begins with the last version. A source without versions returns none.
    fn earlier_versions<'a>(
        &'a self,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<Vec<EarlierVersion>, SourceError>>;
}

/// Maximum number of earlier versions to consider.
pub const MAX_EARLIER_VERSIONS: usize = 5;

/// Version of a file before the present one.
pub struct EarlierVersion {
    /// Identity of the content.
    pub identity: Identity,
    /// Source that reads this version.
    pub source: Box<dyn Source>,
}

/// Origin of a file's path. Determines whether a symbolic link may lead out of the model's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// The configuration.
    Configuration,
    /// The model or its manifest. A publisher of models must not gain access to other files, not even by a link.
    Model,
}

/// Source of one model file, which detects changes.
pub trait Source: Send + Sync {
    /// Returns the URI, such as `s3://bucket/key`. The cache uses it as the location of the file.
    fn uri(&self) -> String;

    /// Requests the file, in one request. With a known identity the request is conditional, and returns
    /// [`Opened::Unchanged`] if the source still has this content.
    fn open<'a>(
        &'a self,
        known: Option<&'a Identity>,
    ) -> BoxFuture<'a, Result<Opened, SourceError>>;

    /// Reads a range, which must not be empty, of the content with this identity.
    ///
    /// # Errors
    /// [Changed](SourceError::is_changed) if the source has other content now, or cannot return the range.
    fn read<'a>(
        &'a self,
        identity: &'a Identity,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Box<dyn ChunkStream>, SourceError>>;

    /// Returns the path and digest of a local file whose name is the SHA-256 of its bytes. Such a file is never
    /// changed, and can be used without a copy.
    fn in_place(&self) -> Option<(PathBuf, Digest)> {
        None
    }
}

/// Result of [`Source::open`].
pub enum Opened {
    /// The source has the known content.
    Unchanged,
    /// The source has other content.
    Object(Object),
}

/// Content of a file, ready to be read.
pub struct Object {
    /// Identity of the content.
    pub identity: Identity,
    /// Declared length of the file in bytes. The reader verifies it.
    pub size: u64,
    /// Checksum of the whole file, if the source declares one. The reader verifies it.
    pub checksum: Option<Checksum>,
    /// Range of the file that `body` contains: all of it, unless a partial download is resumed.
    pub range: Range<u64>,
    /// Bytes of `range`.
    pub body: Box<dyn ChunkStream>,
}

/// Stream of bytes.
pub trait ChunkStream: Send {
    /// Returns the next bytes; `None` at the end. Dropping the future loses no bytes.
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>>;
}

/// A request to a source failed. The message is for the log: it contains the URI and a hint.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    message: String,
    public: String,
    kind: SourceErrorKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SourceErrorKind {
    Permanent,
    Transient,
    Changed,
}

impl SourceError {
    fn new(message: String, kind: SourceErrorKind) -> Self {
        let public = match kind {
            SourceErrorKind::Changed => "the model's source changed during the read",
            SourceErrorKind::Permanent | SourceErrorKind::Transient => {
                "cannot read the model's source"
            }
        };
        Self {
            message,
            public: public.to_owned(),
            kind,
        }
    }

    /// An error that lasts until a permission, a name or the content is corrected.
    #[must_use]
    pub fn permanent(message: String) -> Self {
        Self::new(message, SourceErrorKind::Permanent)
    }

    /// An error that a retry may resolve.
    #[must_use]
    pub fn transient(message: String) -> Self {
        Self::new(message, SourceErrorKind::Transient)
    }

    /// An error because the source has other content now.
    #[must_use]
    pub fn changed(message: String) -> Self {
        Self::new(message, SourceErrorKind::Changed)
    }

    /// Sets the message for callers outside the environment. `reason` must not contain a bucket, key, account or path,
    /// nor quote the source.
    #[must_use]
    pub fn with_public_reason(self, reason: impl Into<String>) -> Self {
        let public = reason.into();
        Self { public, ..self }
    }

    /// Returns the message for callers outside the environment. It contains no bucket, key, account or path.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// Returns `true` if an immediate retry may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.kind == SourceErrorKind::Transient
    }

    /// Returns `true` if the source has other content now and must be opened again.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.kind == SourceErrorKind::Changed
    }
}
