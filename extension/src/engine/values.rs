//! Between our values and ONNX Runtime's, without a copy of elements either way.
#![expect(
    unsafe_code,
    reason = "what ONNX Runtime gives is read where it lies; each block says why that is sound"
)]

mod containers;
mod raw;

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use ort::AsPointer as _;
use ort::memory::{Allocator, MemoryInfo};
use ort::session::SharedSessionInner;
use ort::sys;
use ort::value::{DynValue, Tensor as OnnxTensor, TensorElementType, ValueType};

pub(super) use raw::Raw;

use crate::tensor::{Data, Datatype, Kind, Value};

/// Calls `$with!(variant, element type)` for every datatype that is a number, after the entries in `$more`.
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

/// Calls `$with!(variant, element type)` for every datatype that is a number or a truth value.
macro_rules! for_each_primitive {
    ($with:ident) => {
        for_each_number! { $with Bool bool, Bool; }
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

/// An input as a run takes it.
pub(super) enum Input<'a> {
    /// Elements where they are, or copies of strings.
    Lent(Raw, PhantomData<&'a Value>),
    Own(DynValue),
    /// One that runs share.
    Shared(&'a DynValue),
}

impl Input<'_> {
    pub(super) fn ptr(&self) -> *const sys::OrtValue {
        match self {
            Input::Lent(value, _) => value.ptr(),
            Input::Own(value) => value.ptr(),
            Input::Shared(value) => value.ptr(),
        }
    }
}

/// A value for ONNX Runtime, which reads the elements of a tensor where they are, in `memory` that is the CPU's. A
/// sequence without values is `empty`.
pub(super) fn to_onnx<'a>(
    value: &'a Value,
    empty: Option<&'a DynValue>,
    memory: &MemoryInfo<'_>,
) -> Result<Input<'a>, String> {
    let tensor = match (value, empty) {
        (Value::Tensor(tensor), _) => tensor,
        (Value::Sequence(values), Some(empty)) if values.is_empty() => {
            return Ok(Input::Shared(empty));
        }
        _ => return containers::own(value).map(Input::Own),
    };
    let shape = tensor.shape();
    macro_rules! table {
        ($($variant:ident $element:ty, $onnx:ident;)*) => {
            match tensor.data() {
                $(Data::$variant(elements) => {
                    let datatype = TensorElementType::$onnx;
                    // SAFETY: the elements stay where they are as long as the input is borrowed, and a run writes to
                    // none of its inputs.
                    let lent = unsafe { Raw::lent::<$element>(elements, shape, datatype, memory) };
                    lent.map(|value| Input::Lent(value, PhantomData))
                })*
                Data::Bytes(strings) => {
                    let own = Raw::of_strings(strings, shape, &Allocator::default())?;
                    Ok(Input::Lent(own, PhantomData))
                }
            }
        };
    }
    for_each_primitive!(table)
}

/// The smallest value of this kind, for a run that reads none of its inputs: with elements only where the model fixes each
/// dimension. `None` for one that may be absent.
pub(super) fn smallest<'a>(
    kind: &Kind,
    empty: Option<&'a DynValue>,
) -> Result<Option<Input<'a>>, String> {
    match (kind, empty) {
        (Kind::Optional(_), _) => Ok(None),
        (Kind::Tensor { datatype, shape }, _) => {
            let shape: Vec<usize> = shape.iter().map(|length| length.unwrap_or(0)).collect();
            let value = Raw::blank(element(*datatype), &shape, &Allocator::default())?;
            Ok(Some(Input::Lent(value, PhantomData)))
        }
        (_, Some(empty)) => Ok(Some(Input::Shared(empty))),
        _ => Err(format!("a {kind} has no smallest value")),
    }
}

/// ONNX Runtime's type of the elements.
fn element(datatype: Datatype) -> TensorElementType {
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

/// A tensor of its own for ONNX Runtime.
fn copy_to_onnx(shape: &[usize], data: &Data) -> Result<DynValue, String> {
    macro_rules! table {
        ($($variant:ident $element:ty, $onnx:ident;)*) => {
            match data {
                $(Data::$variant(elements) => {
                    OnnxTensor::<$element>::from_array((shape, elements.to_vec())).map(OnnxTensor::into_dyn)
                })*
                Data::Bytes(strings) => {
                    let allocator = Allocator::default();
                    Ok(Raw::of_strings(strings, shape, &allocator)?.into_dyn(&allocator))
                }
            }
        };
    }
    for_each_primitive!(table).map_err(|error: ort::Error| error.message().to_owned())
}

/// What the outputs of a run may lie in, beside memory of their own.
pub(super) struct Surroundings<'a> {
    /// A constant of the graph may be an output.
    session: Arc<SharedSessionInner>,
    /// And so may an input.
    inputs: Vec<Range<usize>>,
    /// For copies of what is in them.
    allocator: &'a Allocator,
}

impl<'a> Surroundings<'a> {
    /// Those of a run of `session` on these inputs.
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

    /// Whether these addresses are some of an input.
    fn holds(&self, addresses: &Range<usize>) -> bool {
        let overlap =
            |input: &Range<usize>| input.start < addresses.end && addresses.start < input.end;
        self.inputs.iter().any(overlap)
    }
}
