//! What a model file says of itself: which files lie beside it, its metadata, and how much its runs do.
//!
//! ONNX is one protobuf message, and weights are its large fields. Their lengths stand before them, so they are
//! stepped over: what is read of a file grows with its nodes, not with its weights, and what is held is one small
//! buffer. ONNX Runtime is not needed, so the files that a model names can be fetched while its library is opened.
//!
//! What ONNX Runtime loads is not refused here, whatever else the file holds: fields that nobody knows, messages in
//! several pieces, names of files at places that ONNX Runtime does not read. Two things are an exception, for safety:
//! a file beside the model is named by a path inside the model's folder, without `..`, and there are at most 4,096.
//! The other way round, a file that passes may still be refused by ONNX Runtime, which checks more than this.

mod empty_sequence;
mod encode;
mod external;
mod foreign;
mod mark;
mod operators;
mod skeleton;
mod strip_zipmap;
mod weight;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;

pub use empty_sequence::empty_sequence;
use external::{MAX_FILES, Walk};
pub use foreign::foreign;
pub use mark::{AtLoad, Mark};
pub use skeleton::Skeleton;
pub use strip_zipmap::{Unzipped, ZipMapOutput};
pub use weight::Weight;
use wire::Reader;

use crate::ids::FilePath;

/// What a model file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// In which format it is.
    pub format: Format,
    /// The files with its external data, relative to its own folder.
    pub external: BTreeSet<FilePath>,
    /// Its metadata, as far as a key has at most 256 bytes, a value 16 KiB, and all of it together 256 KiB. Where a
    /// key comes twice, the last value counts, as for ONNX Runtime.
    pub metadata: BTreeMap<String, String>,
    /// Whether it is known that what a run does follows from the shapes of its inputs, whatever their values are.
    pub has_fixed_work: bool,
}

/// How a model is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ONNX: protobuf.
    Onnx,
    /// ONNX Runtime's own format, `.ort`: a flatbuffer, always whole in one file. Its metadata is not read.
    Ort,
}

/// Why a file is no model, or none that may be loaded.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum OnnxError {
    #[error("cannot read the model: {0}")]
    Read(#[from] io::Error),
    #[error("the model file is empty")]
    Empty,
    #[error("this is not a whole ONNX model: at byte {at}, {reason} (it begins with {beginning})")]
    NotOnnx {
        at: u64,
        reason: String,
        beginning: String,
    },
    #[error("tensor {tensor:?} keeps its data in {location:?}; allowed is {allowed}")]
    Location {
        tensor: String,
        location: String,
        allowed: String,
    },
    #[error("the model keeps its data in more than {MAX_FILES} files; save it with fewer")]
    TooManyFiles,
}

impl Description {
    /// Reads what the file says of itself. Takes memory of at most 32 KiB beside the result, whatever the file holds.
    pub fn read(file: &File) -> Result<Self, OnnxError> {
        let mut reader = Reader::new(file)?;
        let whole = reader.whole();
        if whole.is_empty() {
            return Err(OnnxError::Empty);
        }
        let beginning = reader.bytes(&whole, 32)?.to_vec();
        if is_ort(&beginning) {
            return Ok(Self {
                format: Format::Ort,
                external: BTreeSet::new(),
                metadata: BTreeMap::new(),
                has_fixed_work: false,
            });
        }
        match Walk::over(&mut reader) {
            Ok(description) => Ok(description),
            Err(Fault::Malformed { at, reason }) => Err(OnnxError::NotOnnx {
                at,
                reason,
                beginning: shown(&beginning),
            }),
            Err(Fault::Other(error)) => Err(error),
        }
    }
}

/// What stops a walk.
enum Fault {
    /// Not protobuf, or not a model's, or not all of it.
    Malformed {
        at: u64,
        reason: String,
    },
    Other(OnnxError),
}

impl<E: Into<OnnxError>> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Whether a file that begins so is in ONNX Runtime's own format. A flatbuffer has its identifier behind the place of
/// its root, which lies near the beginning, so that the fourth byte is zero. In an ONNX model by a producer of the
/// name `ORTM` the same letters can stand at the same place, behind the length of that name.
fn is_ort(beginning: &[u8]) -> bool {
    beginning.get(3..8) == Some(b"\0ORTM")
}

/// The beginning of a file that is no model, for people: as text where it is text, such as a page of HTML.
fn shown(beginning: &[u8]) -> String {
    let text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
    if beginning.iter().all(text) {
        return format!("{:?}", String::from_utf8_lossy(beginning));
    }
    let bytes: Vec<String> = beginning
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("the bytes {}", bytes.join(" "))
}

#[cfg(test)]
pub(crate) mod tests;
