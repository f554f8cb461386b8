//! Parsing of model files, without ONNX Runtime: external data files, metadata, and whether the work of a run is fixed.
//!
//! An ONNX file is one protobuf message, and weights are its large fields. Their lengths precede them, so they are
//! skipped. The number of bytes read grows with the number of nodes, not with the size of the weights, and only one
//! small buffer is held. Since ONNX Runtime is not needed, the files that a model refers to can be fetched while its
//! library is opened.
//!
//! A model that ONNX Runtime loads is not rejected here. Unknown fields, messages in several pieces, and file names in
//! places that ONNX Runtime does not read are accepted. There are two exceptions, for safety. An external data file is
//! named by a path inside the model's folder, without `..`, and there are at most 4,096 such files. Conversely, ONNX
//! Runtime may reject a file that is accepted here, since it checks more.

mod arriving_weights;
mod empty_sequence;
mod encode;
mod operators;
mod optimisation_mark;
mod other_formats;
mod outline;
mod quantize;
mod scanner;
mod skeleton;
mod stored_weight;
mod strip_zipmap;
mod weight;
mod weight_storage;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;

pub use arriving_weights::ArrivingWeights;
pub use empty_sequence::empty_sequence;
pub use optimisation_mark::{AtLoad, OptimisationMark};
pub use other_formats::other_format;
pub use outline::Outline;
pub use quantize::{LeftAlone, Quantization, QuantizeError, QuantizedWeights, StoredTensor};
use scanner::{MAX_FILES, ModelScanner};
pub use skeleton::Skeleton;
pub use strip_zipmap::{ModelWithoutZipMap, ZipMapOutput};
pub use weight::{Encoding, Weight};
pub use weight_storage::WeightStorage;
use wire::WireReader;

use crate::ids::FilePath;

/// Properties of a model, as read from its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Format of the file.
    pub format: Format,
    /// External data files, relative to the model's folder.
    pub external: BTreeSet<FilePath>,
    /// Metadata, limited to keys of 256 bytes, values of 16 KiB, and 256 KiB in total. The last value of a duplicate
    /// key counts, as in ONNX Runtime.
    pub metadata: BTreeMap<String, String>,
    /// `true` if the work of a run is known to depend only on the shapes of its inputs, not on their values.
    pub has_fixed_work: bool,
}

/// File format of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// ONNX: protobuf.
    Onnx,
    /// ONNX Runtime's own format, `.ort`: a flatbuffer, always a single file. Its metadata is not read.
    Ort,
}

/// Reason why a file is not a model, or must not be loaded.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum OnnxError {
    #[error("cannot read the model: {0}")]
    Read(#[from] io::Error),
    #[error("the model file is empty")]
    Empty,
    #[error(
        "cannot parse the file as ONNX: at byte {at}, {reason}; the file begins with {beginning}"
    )]
    NotOnnx {
        at: u64,
        reason: String,
        beginning: String,
    },
    #[error(
        "cannot use the external data file {location:?} of tensor {tensor:?}; allowed is {allowed}"
    )]
    Location {
        tensor: String,
        location: String,
        allowed: String,
    },
    #[error(
        "cannot expand the stored weight {weight:?}: {reason}; write the model again with `modelctl optimize --quantize`"
    )]
    StoredWeight { weight: String, reason: String },
    #[error("the model has more than {MAX_FILES} external data files; save it with fewer")]
    TooManyFiles,
}

impl Description {
    /// Reads the description from a file. Takes at most 32 KiB of memory in addition to the result, for any file.
    pub fn read(file: &File) -> Result<Self, OnnxError> {
        let mut reader = WireReader::new(file)?;
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
        ModelScanner::scan(&mut reader).map_err(|error| not_onnx(&mut reader, error))
    }
}

/// Returns the error of a file that could not be parsed.
fn not_onnx(reader: &mut WireReader<'_>, error: ParseError) -> OnnxError {
    let whole = reader.whole();
    match error {
        ParseError::Malformed { at, reason } => match reader.bytes(&whole, 32) {
            Ok(beginning) => OnnxError::NotOnnx {
                at,
                reason,
                beginning: excerpt(beginning),
            },
            Err(error) => error,
        },
        ParseError::Other(error) => error,
    }
}

/// Reason why parsing ended early.
enum ParseError {
    /// The file is not protobuf, not a model, or truncated.
    Malformed {
        at: u64,
        reason: String,
    },
    Other(OnnxError),
}

impl<E: Into<OnnxError>> From<E> for ParseError {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Returns `true` if a file with this beginning is in ONNX Runtime's own format. A flatbuffer has its identifier after
/// the offset of its root, which is small, so the fourth byte is zero. In an ONNX model by a producer named `ORTM`
/// these letters can be at the same position, after the length of the name.
fn is_ort(beginning: &[u8]) -> bool {
    beginning.get(3..8) == Some(b"\0ORTM")
}

/// Formats the beginning of a file for an error message: as text if it is text, such as an HTML page.
fn excerpt(beginning: &[u8]) -> String {
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
