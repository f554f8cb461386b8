//! Where model bytes come from. A seam: what fetches and reloads knows no S3.
//!
//! A [`ModelFolder`] is the folder in which all files of a model lie; a [`Source`] is one of them.
//!
//! A file is named by its identity. [`Source::open`] asks what is there now; [`Source::read`] reads any range of what
//! was found then, and of nothing else, so that a transfer can go on where it broke, or run in several parts, without
//! ever mixing two versions.

mod file;
mod s3;

use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;
use futures_core::future::BoxFuture;

pub use file::{FileSource, LocalFolder};
pub use s3::{S3Folder, S3Source};

use crate::ids::{Checksum, Digest, FilePath, Identity};

/// A folder of files: a prefix in a bucket, or a directory.
pub trait ModelFolder: Send + Sync {
    /// The file at `path` in it, whether there is one or not.
    fn file(&self, path: &FilePath, named: NamedBy) -> Box<dyn Source>;

    /// The names of the folders that lie directly in `folder`, or in the place itself; in any order. A folder that
    /// does not exist is empty.
    fn folders<'a>(
        &'a self,
        folder: Option<&'a FilePath>,
    ) -> BoxFuture<'a, Result<Vec<String>, SourceError>>;

    /// One version of the file at `path`, by the place's own id of it; it never changes. The error says that this place
    /// keeps no versions.
    fn version(&self, path: &FilePath, id: &str) -> Result<Box<dyn Source>, SourceError>;

    /// The versions that were there before the present one, the newest first, at most [`MAX_EARLIER_VERSIONS`]; the last of
    /// all where the file was deleted. None where the place keeps none. One request.
    fn earlier_versions<'a>(
        &'a self,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<Vec<EarlierVersion>, SourceError>>;
}

/// How many earlier versions of a file are looked at.
pub const MAX_EARLIER_VERSIONS: usize = 5;

/// A version of a file that is not the present one.
pub struct EarlierVersion {
    /// What the place says of it.
    pub identity: Identity,
    /// From where it is read.
    pub source: Box<dyn Source>,
}

/// Who says that a file belongs to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// The configuration.
    Configuration,
    /// The model, or its manifest: whoever can write those must not reach what lies elsewhere, over a link either.
    Model,
}

/// A place that holds one model file and knows whether it changed.
pub trait Source: Send + Sync {
    /// The place as people write it, such as `s3://bucket/key`. What is fetched from it is kept under this.
    fn uri(&self) -> String;

    /// Asks for the file in one request. With the identity that is known already the question is conditional:
    /// [`Opened::Unchanged`] when the source still holds the same.
    fn open<'a>(
        &'a self,
        known: Option<&'a Identity>,
    ) -> BoxFuture<'a, Result<Opened, SourceError>>;

    /// Reads the bytes of `range`, which is not empty, of the file as `identity` names it. When the source holds
    /// another by now, or cannot give that range, the error says that it [changed](SourceError::is_changed).
    fn read<'a>(
        &'a self,
        identity: &'a Identity,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Box<dyn ChunkStream>, SourceError>>;

    /// Where the file lies, if it can be used there: its name is the SHA-256 of its bytes, so that nobody changes it.
    fn in_place(&self) -> Option<(PathBuf, Digest)> {
        None
    }
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
    /// The checksum of the whole file, where the source declares one; whoever reads holds the bytes against it.
    pub checksum: Option<Checksum>,
    /// What of the file `body` brings: all of it, unless what is here already was not asked for again.
    pub range: Range<u64>,
    /// The bytes of `range`.
    pub body: Box<dyn ChunkStream>,
}

/// Bytes that arrive piece by piece.
pub trait ChunkStream: Send {
    /// The next piece; `None` at the end. Dropping the future loses no bytes.
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>>;
}

/// Why a source did not give what was asked. The message names the place and what may help: it is for the log.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    message: String,
    public: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Permanent,
    Transient,
    Changed,
}

impl SourceError {
    fn new(message: String, kind: Kind) -> Self {
        let public = match kind {
            Kind::Changed => "the model's source changed while it was read",
            Kind::Permanent | Kind::Transient => "the model's source cannot be read",
        };
        Self {
            message,
            public: public.to_owned(),
            kind,
        }
    }

    /// An error that stays until somebody changes something: permissions, a name.
    #[must_use]
    pub fn permanent(message: String) -> Self {
        Self::new(message, Kind::Permanent)
    }

    /// An error that may be gone at the next attempt.
    #[must_use]
    pub fn transient(message: String) -> Self {
        Self::new(message, Kind::Transient)
    }

    /// What was asked for is not what the source holds now.
    #[must_use]
    pub fn changed(message: String) -> Self {
        Self::new(message, Kind::Changed)
    }

    /// The same error, told as `reason` to callers from outside. The reason names no bucket, key, account or path, and
    /// quotes nothing that a source said.
    #[must_use]
    pub fn with_public_reason(self, reason: impl Into<String>) -> Self {
        let public = reason.into();
        Self { public, ..self }
    }

    /// The error in words that name no bucket, key, account or path: for callers from outside.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// Whether another attempt may succeed at once. One that asks for what has changed may not.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.kind == Kind::Transient
    }

    /// Whether the source holds something else by now: it is to be opened anew.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.kind == Kind::Changed
    }
}
