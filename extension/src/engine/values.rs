//! Conversion between [`Value`]s and ONNX Runtime's values, without a copy of elements in either direction.
#![expect(
    unsafe_code,
    reason = "outputs are read in ONNX Runtime's memory; each block says why that is sound"
)]

mod containers;
mod native;

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use ort::AsPointer as _;
use ort::memory::{Allocator, MemoryInfo};
use ort::session::SharedSessionInner;
use ort::sys;
use ort::value::{DynValue, Tensor as OnnxTensor, TensorElementType, ValueType};

pub(super) use native::NativeValue;

use crate::tensor::{Data, Datatype, Kind, Value};

/// Calls `$with!(variant, element type)` for every numeric datatype, after the entries in `$more`.
macro_rules! for_each_number {
    ($with:ident $($more:tt)*) => {
        $with! {
            $($more)*
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
use for_each_number;

/// Calls `$with!(variant, element type)` for every numeric datatype and for booleans.
macro_rules! for_each_primitive {
    ($with:ident) => {
        for_each_number! { $with Bool bool, Bool; }
    };
}

/// Returns the kind of an input or output as the graph declares it.
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

/// An input of a run.
pub(super) enum RunInput<'a> {
    /// A tensor over borrowed elements, or over copies of strings.
    Borrowed(NativeValue, PhantomData<&'a Value>),
    /// A copy.
    Owned(DynValue),
    /// A value that runs share.
    Shared(&'a DynValue),
}

impl RunInput<'_> {
    pub(super) fn ptr(&self) -> *const sys::OrtValue {
        match self {
            RunInput::Borrowed(value, _) => value.ptr(),
            RunInput::Owned(value) => value.ptr(),
            RunInput::Shared(value) => value.ptr(),
        }
    }
}

/// Converts a value for ONNX Runtime, which reads the elements of a tensor in place. `memory` is the CPU's. A sequence
/// without values becomes `empty`.
pub(super) fn to_onnx<'a>(
    value: &'a Value,
    empty: Option<&'a DynValue>,
    memory: &MemoryInfo<'_>,
) -> Result<RunInput<'a>, String> {
    let tensor = match (value, empty) {
        (Value::Tensor(tensor), _) => tensor,
        (Value::Sequence(values), Some(empty)) if values.is_empty() => {
            return Ok(RunInput::Shared(empty));
        }
        _ => return containers::copy(value).map(RunInput::Owned),
    };
    let shape = tensor.shape();
    macro_rules! table {
        ($($variant:ident $element:ty, $onnx:ident;)*) => {
            match tensor.data() {
                $(Data::$variant(elements) => {
                    let datatype = TensorElementType::$onnx;
                    // SAFETY: the elements stay in place while the input is borrowed, and a run does not write to its
                    // inputs.
                    let borrowed = unsafe { NativeValue::over::<$element>(elements, shape, datatype, memory) };
                    borrowed.map(|value| RunInput::Borrowed(value, PhantomData))
                })*
                Data::Bytes(strings) => {
                    let copy = NativeValue::of_strings(strings, shape, &Allocator::default())?;
                    Ok(RunInput::Borrowed(copy, PhantomData))
                }
            }
        };
    }
    for_each_primitive!(table)
}

/// Returns the smallest value of this kind, for a run that does not read its inputs. The value has elements only if the
/// model fixes every dimension. Returns `None` for an input that may be absent.
pub(super) fn smallest<'a>(
    kind: &Kind,
    empty: Option<&'a DynValue>,
) -> Result<Option<RunInput<'a>>, String> {
    match (kind, empty) {
        (Kind::Optional(_), _) => Ok(None),
        (Kind::Tensor { datatype, shape }, _) => {
            let shape: Vec<usize> = shape.iter().map(|length| length.unwrap_or(0)).collect();
            let value =
                NativeValue::uninitialized(element_type(*datatype), &shape, &Allocator::default())?;
            Ok(Some(RunInput::Borrowed(value, PhantomData)))
        }
        (_, Some(empty)) => Ok(Some(RunInput::Shared(empty))),
        _ => Err(format!("cannot create a smallest value of kind {kind}")),
    }
}

/// Returns ONNX Runtime's element type of a datatype.
fn element_type(datatype: Datatype) -> TensorElementType {
    macro_rules! table {
        ($($variant:ident $element:ty, $onnx:ident;)*) => {
            match datatype {
                $(Datatype::$variant => TensorElementType::$onnx,)*
                Datatype::Bytes => TensorElementType::String,
            }
        };
    }
    for_each_primitive!(table)
}

/// Copies a tensor for ONNX Runtime.
fn copy_to_onnx(shape: &[usize], data: &Data) -> Result<DynValue, String> {
    macro_rules! table {
        ($($variant:ident $element:ty, $onnx:ident;)*) => {
            match data {
                $(Data::$variant(elements) => {
                    OnnxTensor::<$element>::from_array((shape, elements.to_vec())).map(OnnxTensor::into_dyn)
                })*
                Data::Bytes(strings) => {
                    let allocator = Allocator::default();
                    Ok(NativeValue::of_strings(strings, shape, &allocator)?.into_dyn(&allocator))
                }
            }
        };
    }
    for_each_primitive!(table).map_err(|error: ort::Error| error.message().to_owned())
}

/// Objects whose memory the outputs of a run may share.
pub(super) struct OutputContext<'a> {
    /// An output may be a constant of the graph.
    session: Arc<SharedSessionInner>,
    /// Addresses of the inputs' elements: an output may be an input.
    inputs: Vec<Range<usize>>,
    /// Allocator for copies of items of containers.
    allocator: &'a Allocator,
}

impl<'a> OutputContext<'a> {
    /// Creates the context of a run of `session` with these inputs.
    pub(super) fn of(session: &'a ort::session::Session, inputs: &[(String, Value)]) -> Self {
        let addresses = |(_, value): &(String, Value)| match value {
            Value::Tensor(tensor) => Some(tensor.data().addresses()),
            _ => None,
        };
        Self {
            session: session.inner(),
            allocator: session.allocator(),
            inputs: inputs.iter().filter_map(addresses).collect(),
        }
    }

    /// Returns `true` if these addresses overlap an input.
    fn overlaps_input(&self, addresses: &Range<usize>) -> bool {
        let overlap =
            |input: &Range<usize>| input.start < addresses.end && addresses.start < input.end;
        self.inputs.iter().any(overlap)
    }
}
