//! Sequences and maps for ONNX Runtime.
//!
//! Its API makes a sequence of at least one value, from whose kind it takes what the others must be, and maps from
//! integers or strings to a few types.

use ort::value::{
    DynValue, DynValueTypeMarker, IntoTensorElementType, Map, Sequence, Tensor as OnnxTensor,
    TensorValueType,
};

use super::copy_to_onnx;
use crate::tensor::{Data, Datatype, Value};

/// A sequence of these values.
fn sequence(values: &[Value]) -> Result<DynValue, String> {
    if values.is_empty() {
        return Err("an empty sequence, which ONNX Runtime cannot take".to_owned());
    }
    let values = values
        .iter()
        .map(own)
        .collect::<Result<Vec<DynValue>, String>>()?;
    let sequence = Sequence::<DynValueTypeMarker>::new(values);
    sequence
        .map(Sequence::into_dyn)
        .map_err(|error| words(&error))
}

/// A value of its own for ONNX Runtime.
pub(super) fn own(value: &Value) -> Result<DynValue, String> {
    match value {
        Value::Tensor(tensor) => copy_to_onnx(tensor.shape(), tensor.data()),
        Value::Sequence(values) => sequence(values),
        Value::Map { keys, values } => map(keys, values),
        Value::Maps(maps) => sequence(&maps.to_values()),
    }
}

/// A map from these keys to these values, of which there are as many.
fn map(keys: &Data, values: &Data) -> Result<DynValue, String> {
    macro_rules! table {
        ($($key_type:ident $key:ty, $value_type:ident $value:ty;)*) => {
            match (keys.datatype(), values.datatype()) {
                $((Datatype::$key_type, Datatype::$value_type) => {
                    let map = Map::<$key, $value>::new_kv(column(keys)?, column(values)?);
                    map.map(Map::into_dyn).map_err(|error| words(&error))
                })*
                (key, value) => Err(format!("a map from {key} to {value}, which ONNX Runtime cannot take")),
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

/// Keys or values as ONNX Runtime holds them: a tensor of one dimension.
fn column<T: IntoTensorElementType + std::fmt::Debug>(
    data: &Data,
) -> Result<OnnxTensor<T>, String> {
    let tensor = copy_to_onnx(&[data.len()], data)?.downcast::<TensorValueType<T>>();
    tensor.map_err(|error| words(&error))
}

fn words<R>(error: &ort::Error<R>) -> String {
    error.message().to_owned()
}
