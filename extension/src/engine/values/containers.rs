//! Sequences and maps for ONNX Runtime.
//!
//! The C API creates a sequence from at least one value, whose kind the other values must have. Maps have integer or
//! string keys and values of a few types.

use ort::value::{
    DynValue, DynValueTypeMarker, IntoTensorElementType, Map, Sequence, Tensor as OnnxTensor,
    TensorValueType,
};

use super::copy_to_onnx;
use crate::tensor::{Data, Datatype, Value};

/// Copies a sequence for ONNX Runtime.
fn sequence(values: &[Value]) -> Result<DynValue, String> {
    if values.is_empty() {
        return Err("an empty sequence is not supported by ONNX Runtime".to_owned());
    }
    let values = values
        .iter()
        .map(copy)
        .collect::<Result<Vec<DynValue>, String>>()?;
    let sequence = Sequence::<DynValueTypeMarker>::new(values);
    sequence
        .map(Sequence::into_dyn)
        .map_err(|error| message(&error))
}

/// Copies a value for ONNX Runtime.
pub(super) fn copy(value: &Value) -> Result<DynValue, String> {
    match value {
        Value::Tensor(tensor) => copy_to_onnx(tensor.shape(), tensor.data()),
        Value::Sequence(values) => sequence(values),
        Value::Map { keys, values } => map(keys, values),
        Value::Maps(maps) => sequence(&maps.to_values()),
    }
}

/// Copies a map for ONNX Runtime; `keys` and `values` have the same length.
fn map(keys: &Data, values: &Data) -> Result<DynValue, String> {
    macro_rules! table {
        ($($key_type:ident $key:ty, $value_type:ident $value:ty;)*) => {
            match (keys.datatype(), values.datatype()) {
                $((Datatype::$key_type, Datatype::$value_type) => {
                    let map = Map::<$key, $value>::new_kv(column(keys)?, column(values)?);
                    map.map(Map::into_dyn).map_err(|error| message(&error))
                })*
                (key, value) => Err(format!("a map from {key} to {value} is not supported by ONNX Runtime")),
            }
        };
    }
    table! {
        Int64 i64, Int64 i64;
        Int64 i64, Fp32 f32;
        Int64 i64, Fp64 f64;
        Int64 i64, Bytes String;
        Bytes String, Int64 i64;
        Bytes String, Fp32 f32;
        Bytes String, Fp64 f64;
        Bytes String, Bytes String;
    }
}

/// Converts keys or values to a tensor of one dimension.
fn column<T: IntoTensorElementType + std::fmt::Debug>(
    data: &Data,
) -> Result<OnnxTensor<T>, String> {
    let tensor = copy_to_onnx(&[data.len()], data)?.downcast::<TensorValueType<T>>();
    tensor.map_err(|error| message(&error))
}

fn message<R>(error: &ort::Error<R>) -> String {
    error.message().to_owned()
}
