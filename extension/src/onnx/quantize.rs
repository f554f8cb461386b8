//! Storage of a model's large FP32 weights in a smaller type.
//!
//! Weights of matrix products, convolutions, embeddings and recurrent layers become 8-bit integers or FP16. The forms
//! are those that [`stored_weight`](super::stored_weight) reads: nodes compute the FP32 weights. Names of weights stay,
//! so that no use of a weight changes. Integers are symmetric: an element is `integer · scale`. Integers are from −127
//! to 127. Each channel has a scale, its largest absolute value divided by 127.
//!
//! Everything else of the model stays unchanged, except that external data of the main graph become part of the file.
//! A weight stays as it is if that is not certain to be right; the result names it, with the reason.

mod index;
mod lstm;
mod names;
mod plan;
mod product;
mod tensor;
mod values;
mod write;

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use super::skeleton::single_graph;
use super::wire::WireReader;
use super::{Description, Format, OnnxError, ParseError, WeightStorage, not_onnx};
use index::GraphIndex;
use plan::Plan;

/// Minimum number of elements of a weight. Below it the parts of a stored weight are hardly smaller than the weight.
const MIN_ELEMENTS: u64 = 1024;

/// Maximum size of a file of ONNX, a limit of protobuf.
const MAX_FILE: u64 = i32::MAX as u64;

/// Method of quantization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    /// Weights are stored as 8-bit integers, and used as FP32.
    Int8,
    /// Weights are stored as FP16, and used as FP32.
    Fp16,
    /// Products of matrices, in `MatMul`, `Gemm` and `LSTM`, are computed with 8-bit integers. Other weights are stored
    /// as with [`Self::Int8`].
    Int8Dynamic,
}

impl Quantization {
    /// Returns the type in which weights are stored.
    #[must_use]
    pub fn storage(self) -> WeightStorage {
        match self {
            Self::Int8 | Self::Int8Dynamic => WeightStorage::Int8,
            Self::Fp16 => WeightStorage::Fp16,
        }
    }
}

/// Weights of a model that was written.
#[derive(Debug, Default)]
pub struct QuantizedWeights {
    /// Weights in the smaller type, largest first.
    pub stored: Vec<StoredTensor>,
    /// Weights that stay as they are, largest first.
    pub left: Vec<LeftAlone>,
    /// Operators of the model, sorted.
    pub operators: Vec<String>,
}

/// A weight in the smaller type.
#[derive(Debug)]
pub struct StoredTensor {
    /// Name of the weight.
    pub name: String,
    /// Bytes as FP32.
    pub bytes: u64,
    /// Bytes as stored, with the scales.
    pub stored_bytes: u64,
}

/// A weight that was not changed.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftAlone {
    /// Name of the weight.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Reason, such as `it is used by Add`.
    pub reason: String,
}

/// Reason why a model was not written.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum QuantizeError {
    #[error(transparent)]
    Model(#[from] OnnxError),
    #[error("cannot quantize the model: {0}")]
    Unsupported(String),
    #[error("cannot write the model: {0}")]
    Write(#[source] io::Error),
}

impl QuantizedWeights {
    /// Writes to `output` the model of `input`, with quantized weights. The output is one file. It is marked if weights
    /// are stored for the sidecar to expand. If no weight can be stored, nothing is written, and [`Self::stored`] is
    /// empty.
    ///
    /// Takes memory for the stored weights and for the largest of the weights.
    pub fn write(input: &Path, output: &Path, method: Quantization) -> Result<Self, QuantizeError> {
        let file = File::open(input).map_err(OnnxError::Read)?;
        let description = Description::read(&file)?;
        check(&description)?;
        let mut reader = WireReader::new(&file)?;
        let folder = input.parent().unwrap_or(Path::new(""));
        let (plan, pieces) = match plan_and_pieces(&mut reader, folder, method) {
            Ok(Some(found)) => found,
            Ok(None) => {
                let reason = "it has no graph, several, or a format version (`ir_version`) below 4; convert it with \
                              onnx.version_converter";
                return Err(QuantizeError::Unsupported(reason.to_owned()));
            }
            Err(error) => return Err(not_onnx(&mut reader, error).into()),
        };
        let mark = if plan.has_stored_weights() {
            method.storage().mark()
        } else {
            Vec::new()
        };
        let weights = plan.into_weights();
        if weights.stored.is_empty() {
            return Ok(weights);
        }
        let bytes = pieces.length() + mark.len() as u64;
        if bytes > MAX_FILE {
            return Err(QuantizeError::Unsupported(format!(
                "the file would have {bytes} bytes, and ONNX allows {MAX_FILE} in one file"
            )));
        }
        let write = || {
            let mut to = BufWriter::new(File::create(output)?);
            pieces.write(&file, &mut to)?;
            to.write_all(&mark)?;
            to.into_inner()?.sync_all()
        };
        write().map_err(QuantizeError::Write)?;
        let written = Description::read(&File::open(output).map_err(QuantizeError::Write)?)?;
        if let Some(file) = written.external.first() {
            return Err(QuantizeError::Unsupported(format!(
                "a tensor of a subgraph, a function or an attribute is in the external data file {:?}; save the model \
                 with its weights inside",
                file.as_str()
            )));
        }
        Ok(weights)
    }
}

/// Rejects models that must not be written again.
fn check(description: &Description) -> Result<(), QuantizeError> {
    let reason = if description.format == Format::Ort {
        "it is in ONNX Runtime's own format; give the original .onnx file"
    } else if description.mark().is_some() {
        "it is already optimised; give the original model"
    } else if description.weight_storage().is_some() {
        "it is already quantized; give the original model"
    } else {
        return Ok(());
    };
    Err(QuantizeError::Unsupported(reason.to_owned()))
}

/// Returns the plan and the pieces of the new file; `None` if the model has not one graph.
fn plan_and_pieces(
    reader: &mut WireReader<'_>,
    folder: &Path,
    method: Quantization,
) -> Result<Option<(Plan, write::Pieces)>, ParseError> {
    let Some((field, graph)) = single_graph(reader)? else {
        return Ok(None);
    };
    let index = GraphIndex::read(reader, graph)?;
    let plan = Plan::of(reader, &index, folder, method)?;
    let pieces = write::pieces(reader, &field, &index, &plan, folder)?;
    Ok(Some((plan, pieces)))
}
