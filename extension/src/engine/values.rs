//! Between our values and ONNX Runtime's, without a copy of elements either way.
#![expect(
    unsafe_code,
    reason = "what ONNX Runtime gives is read where it lies; the block says why that is sound"
)]

mod containers;

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use ort::session::{SessionInputValue, SharedSessionInner};
use ort::value::{
    DynMapValueType, DynSequenceValueType, DynTensor, DynValue, PrimitiveTensorElementType,
    Tensor as OnnxTensor, TensorElementType, TensorRef, ValueType,
};

use crate::tensor::{Buffer, Data, Datatype, Kind, Tensor, Value};

/// A tensor of fewer bytes is copied out: that costs less than to share it.
const WORTH_SHARING: usize = 4096;

/// Calls `$with!(variant, element type)` for every datatype that is a number or a truth value.
macro_rules! for_each_primitive {
    ($with:ident) => {
        $with! {
            Bool bool, Bool;
            Uint8 u8, Uint8;
            Uint16 u16, Uint16;
            Uint32 u32, Uint32;
            Uint64 u64, Uint64;
            Int8 i8, Int8;
            Int16 i16, Int16;
            Int32 i32, Int32;
            Int64 i64, Int64;
            Fp16 half::f16, Float16;
            Bf16 half::bf16, Bfloat16;
            Fp32 f32, Float32;
            Fp64 f64, Float64;
        }
    };
}

/// The kind of an input or output as the graph declares it.
pub(super) fn kind(declared: &ValueType) -> Kind {
    match declared {
        ValueType::Tensor { ty, shape, .. } => match datatype(*ty) {
            Some(datatype) => Kind::Tensor {
                datatype,
                shape: shape.iter().map(|&dim| usize::try_from(dim).ok()).collect(),
            },
            None => Kind::Other(declared.to_string()),
        },
        ValueType::Sequence(inner) => Kind::Sequence(Box::new(kind(inner))),
        ValueType::Map { key, value } => match (datatype(*key), datatype(*value)) {
            (Some(key), Some(value)) => Kind::Map { key, value },
            _ => Kind::Other(declared.to_string()),
        },
        ValueType::Optional(inner) => Kind::Optional(Box::new(kind(inner))),
    }
}

fn datatype(element: TensorElementType) -> Option<Datatype> {
    macro_rules! table {
        ($($variant:ident $element:ty, $onnx:ident;)*) => {
            match element {
                $(TensorElementType::$onnx => Some(Datatype::$variant),)*
                TensorElementType::String => Some(Datatype::Bytes),
                _ => None,
            }
        };
    }
    for_each_primitive!(table)
}

/// A value for ONNX Runtime, which reads the elements of a tensor where they are.
pub(super) fn to_onnx(value: &Value) -> Result<SessionInputValue<'_>, String> {
    let tensor = match value {
        Value::Tensor(tensor) => tensor,
        Value::Sequence(values) => return containers::sequence(values).map(Into::into),
        Value::Map { keys, values } => return containers::map(keys, values).map(Into::into),
    };
    let shape = tensor.shape();
    macro_rules! table {
        ($($variant:ident $element:ty, $onnx:ident;)*) => {
            match tensor.data() {
                $(Data::$variant(elements) => {
                    TensorRef::<$element>::from_array_view((shape, &elements[..])).map(SessionInputValue::from)
                })*
                Data::Bytes(strings) => strings_to_onnx(shape, strings)?.map(SessionInputValue::from),
            }
        };
    }
    for_each_primitive!(table).map_err(|error| error.message().to_owned())
}

/// A tensor of its own for ONNX Runtime.
fn copy_to_onnx(shape: &[usize], data: &Data) -> Result<DynValue, String> {
    macro_rules! table {
        ($($variant:ident $element:ty, $onnx:ident;)*) => {
            match data {
                $(Data::$variant(elements) => {
                    OnnxTensor::<$element>::from_array((shape, elements.to_vec())).map(OnnxTensor::into_dyn)
                })*
                Data::Bytes(strings) => strings_to_onnx(shape, strings)?.map(OnnxTensor::into_dyn),
            }
        };
    }
    for_each_primitive!(table).map_err(|error| error.message().to_owned())
}

fn strings_to_onnx(
    shape: &[usize],
    strings: &[String],
) -> Result<ort::Result<OnnxTensor<String>>, String> {
    match strings.iter().position(|string| string.contains('\0')) {
        Some(place) => Err(format!(
            "element {place} contains a NUL character, which ONNX Runtime cannot take"
        )),
        None => Ok(OnnxTensor::from_string_array((shape, strings))),
    }
}

/// What the outputs of a run may lie in, beside memory of their own.
pub(super) struct Surroundings {
    /// A constant of the graph may be an output.
    session: Arc<SharedSessionInner>,
    /// And so may an input.
    inputs: Vec<Range<usize>>,
}

impl Surroundings {
    /// Those of a run of `session` on these inputs.
    pub(super) fn of(session: &ort::session::Session, inputs: &[(String, Value)]) -> Self {
        let addresses = |(_, value): &(String, Value)| match value {
            Value::Tensor(tensor) => Some(tensor.data().addresses()),
            _ => None,
        };
        Self {
            session: session.inner(),
            inputs: inputs.iter().filter_map(addresses).collect(),
        }
    }

    /// Whether these addresses are some of an input.
    fn holds(&self, addresses: &Range<usize>) -> bool {
        let overlap =
            |input: &Range<usize>| input.start < addresses.end && addresses.start < input.end;
        self.inputs.iter().any(overlap)
    }
}

/// A value from ONNX Runtime: large tensors where they are, all else copied out.
pub(super) fn from_onnx(value: DynValue, around: &Surroundings) -> Result<Value, String> {
    let failed = |error: ort::Error| error.message().to_owned();
    match value.dtype() {
        ValueType::Tensor { .. } => {
            tensor(value.downcast().map_err(failed)?, around).map(Value::Tensor)
        }
        ValueType::Sequence(_) => {
            let sequence = value.downcast::<DynSequenceValueType>().map_err(failed)?;
            let values: Vec<DynValue> = sequence.try_extract_sequence().map_err(failed)?;
            values
                .into_iter()
                .map(|value| from_onnx(value, around))
                .collect::<Result<_, _>>()
                .map(Value::Sequence)
        }
        ValueType::Map {
            key,
            value: element,
        } => {
            let (key, element) = (*key, *element);
            let map = value.downcast::<DynMapValueType>().map_err(failed)?;
            macro_rules! extract {
                ($key:ty, $value:ty) => {{
                    let pairs = map
                        .try_extract_key_values::<$key, $value>()
                        .map_err(failed)?;
                    let (keys, values): (Vec<$key>, Vec<$value>) = pairs.into_iter().unzip();
                    Ok(Value::Map {
                        keys: keys.into(),
                        values: values.into(),
                    })
                }};
            }
            match (key, element) {
                (TensorElementType::Int64, TensorElementType::Float32) => extract!(i64, f32),
                (TensorElementType::String, TensorElementType::Float32) => extract!(String, f32),
                (TensorElementType::Int64, TensorElementType::Float64) => extract!(i64, f64),
                (TensorElementType::String, TensorElementType::Float64) => extract!(String, f64),
                (TensorElementType::Int64, TensorElementType::Int64) => extract!(i64, i64),
                (TensorElementType::String, TensorElementType::Int64) => extract!(String, i64),
                (key, element) => Err(format!("a map from {key} to {element} has no form here")),
            }
        }
        other @ ValueType::Optional(_) => Err(format!("{other} has no form here")),
    }
}

fn tensor(value: DynTensor, around: &Surroundings) -> Result<Tensor, String> {
    let shape = value
        .shape()
        .iter()
        .map(|&dim| usize::try_from(dim).unwrap_or(0))
        .collect();
    let failed = |error: ort::Error| error.message().to_owned();
    macro_rules! table {
        ($($variant:ident $element:ty, $onnx:ident;)*) => {
            match *value.data_type() {
                $(TensorElementType::$onnx => Data::$variant(elements(value, around)?),)*
                TensorElementType::String => Data::from(value.try_extract_strings().map_err(failed)?.1),
                other => return Err(format!("elements of type {other} have no form here")),
            }
        };
    }
    let data = for_each_primitive!(table);
    Tensor::new(shape, data).map_err(|mismatch| mismatch.to_string())
}

fn elements<T: PrimitiveTensorElementType + Clone>(
    value: DynTensor,
    around: &Surroundings,
) -> Result<Buffer<T>, String> {
    let extracted = value.try_extract_tensor::<T>();
    let (_, elements) = extracted.map_err(|error| error.message().to_owned())?;
    let (first, length) = (NonNull::from(elements).cast::<T>(), elements.len());
    let range = elements.as_ptr_range();
    let addresses = range.start.addr()..range.end.addr();
    // An output that is an input lies in the input's memory, whose owner is the caller of this run.
    if addresses.len() < WORTH_SHARING || around.holds(&addresses) {
        return Ok(elements.to_vec().into());
    }
    let owner = Arc::new((value, Arc::clone(&around.session)));
    // SAFETY: the bindings have just read these elements from the value as a slice. They stay where they are as long as
    // the value lives, which owns them or shares them with the session that it came from: an input, which ends earlier,
    // has been copied. The value is not lent to anybody else, and ONNX Runtime changes no output of a run that has ended.
    Ok(unsafe { Buffer::foreign(first, length, owner) })
}
