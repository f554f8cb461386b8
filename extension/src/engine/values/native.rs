//! ONNX Runtime's values through the C API.
//!
//! The bindings query a description of each value and of everything in it, which takes longer than a small model runs.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use ort::AsPointer as _;
use ort::memory::{Allocator, MemoryInfo};
use ort::session::SharedSessionInner;
use ort::sys;
use ort::value::{DynValue, TensorElementType};

use super::{OutputContext, for_each_number};
use crate::tensor::{Buffer, Data, Plain, Strings, Tensor, Value, element_count};

/// Minimum size of an output that is shared, in bytes. Copying a smaller one is cheaper.
const MIN_SHARED_BYTES: usize = 4096;

/// A value in memory that the CPU can read. The value was created by a session that runs only on the CPU, copied from
/// such a value, or borrowed by a run.
pub(in crate::engine) struct NativeValue(NonNull<sys::OrtValue>);

// SAFETY: a value is not bound to a thread.
unsafe impl Send for NativeValue {}
// SAFETY: queries on a shared value do not change it.
unsafe impl Sync for NativeValue {}

impl Drop for NativeValue {
    fn drop(&mut self) {
        // SAFETY: this is the only owner of the value, and this is its last use.
        unsafe { (ort::api().ReleaseValue)(self.0.as_ptr()) };
    }
}

/// Owner of the elements of a shared output.
struct OutputOwner {
    _value: NativeValue,
    /// An output may be a constant of the graph.
    _session: Arc<SharedSessionInner>,
}

/// Converts a status to a result and releases the status.
///
/// # Safety
/// ONNX Runtime just returned the status, and it is used nowhere else.
unsafe fn checked(status: sys::OrtStatusPtr) -> Result<(), String> {
    // SAFETY: the caller's promise.
    unsafe { ort::Error::result_from_status(status) }.map_err(|error| error.message().to_owned())
}

/// Returns the value that `call` writes to its argument.
///
/// # Safety
/// `call` returns a status that ONNX Runtime just returned to it. If the status is no error, `call` has written the
/// value.
unsafe fn written<T>(call: impl FnOnce(*mut T) -> sys::OrtStatusPtr) -> Result<T, String> {
    let mut value = MaybeUninit::uninit();
    // SAFETY: the caller's promise.
    unsafe { checked(call(value.as_mut_ptr())) }?;
    // SAFETY: the caller's promise.
    Ok(unsafe { value.assume_init() })
}

/// Converts a shape for the C API.
fn dimensions(shape: &[usize]) -> Result<Vec<i64>, String> {
    let shape: Result<Vec<i64>, _> = shape.iter().map(|&length| i64::try_from(length)).collect();
    shape.map_err(|_| "a dimension is too large".to_owned())
}

impl NativeValue {
    /// Takes ownership of a value that a run created.
    ///
    /// # Safety
    /// The value is valid, has no other owner, and the CPU can read it.
    pub(in crate::engine) unsafe fn of(value: NonNull<sys::OrtValue>) -> Self {
        Self(value)
    }

    /// Returns the value that `call` creates.
    ///
    /// # Safety
    /// As of [`written`]. The caller owns the new value, and the CPU can read it.
    unsafe fn created(
        call: impl FnOnce(*mut *mut sys::OrtValue) -> sys::OrtStatusPtr,
    ) -> Result<Self, String> {
        // SAFETY: the caller's promise.
        let value = unsafe { written(call) }?;
        NonNull::new(value)
            .map(Self)
            .ok_or_else(|| "ONNX Runtime returned no value".to_owned())
    }

    /// Creates a tensor over borrowed elements.
    ///
    /// # Safety
    /// While the tensor lives, the elements stay in place, and nothing writes to them through it. They have the type
    /// `datatype`, and `memory` is the CPU's.
    pub(super) unsafe fn over<T: Copy>(
        elements: &[T],
        shape: &[usize],
        datatype: TensorElementType,
        memory: &MemoryInfo<'_>,
    ) -> Result<Self, String> {
        let shape = dimensions(shape)?;
        // SAFETY: the caller's promise; elements and shape have the given lengths, and the call writes the address of a
        // new value, which the caller owns. The call takes a mutable pointer, since a tensor may be written to.
        unsafe {
            Self::created(|value| {
                (ort::api().CreateTensorWithDataAsOrtValue)(
                    memory.ptr(),
                    elements.as_ptr().cast_mut().cast(),
                    size_of_val(elements),
                    shape.as_ptr(),
                    shape.len(),
                    datatype.into(),
                    value,
                )
            })
        }
    }

    /// Creates a tensor with uninitialized elements.
    pub(super) fn uninitialized(
        datatype: TensorElementType,
        shape: &[usize],
        allocator: &Allocator,
    ) -> Result<Self, String> {
        let shape = dimensions(shape)?;
        // SAFETY: the allocator is valid, the shape has the given length, and the call writes the address of a new
        // value, which the caller owns.
        unsafe {
            Self::created(|value| {
                (ort::api().CreateTensorAsOrtValue)(
                    allocator.ptr().cast_mut(),
                    shape.as_ptr(),
                    shape.len(),
                    datatype.into(),
                    value,
                )
            })
        }
    }

    /// Creates a tensor with copies of these strings, as many as the shape says.
    ///
    /// Each string is written into the tensor's own buffer. The call that takes all strings at once takes C strings,
    /// which would be a second copy and end a string at its first NUL.
    pub(super) fn of_strings(
        strings: &Strings,
        shape: &[usize],
        allocator: &Allocator,
    ) -> Result<Self, String> {
        let value = Self::uninitialized(TensorElementType::String, shape, allocator)?;
        for (index, string) in strings.iter().enumerate() {
            // SAFETY: the value is a valid tensor of strings without another owner, and an index beyond its end is an
            // error. The call writes the address of a buffer of the requested length, which holds the string.
            unsafe {
                let to = written(|to| {
                    let resized = ort::api().GetResizedStringTensorElementBuffer;
                    resized(value.0.as_ptr(), index, string.len(), to)
                })?;
                ptr::copy_nonoverlapping(string.as_ptr(), to.cast::<u8>(), string.len());
            }
        }
        Ok(value)
    }

    /// Converts the value for the bindings; `allocator` created it.
    pub(super) fn into_dyn(self, allocator: &Allocator) -> DynValue {
        let value = std::mem::ManuallyDrop::new(self);
        // SAFETY: the value is valid and has no other owner, and it is not released here.
        unsafe { DynValue::from_ptr(value.0, Some(allocator)) }
    }

    pub(super) fn ptr(&self) -> *const sys::OrtValue {
        self.0.as_ptr()
    }

    /// Reads the value: large tensors in place, everything else as a copy.
    pub(in crate::engine) fn read(self, context: &OutputContext<'_>) -> Result<Value, String> {
        // SAFETY: the value is valid, and the call writes its result.
        if unsafe { written(|has| (ort::api().HasValue)(self.0.as_ptr(), has)) }? == 0 {
            // ONNX Runtime cannot report the kind of an empty optional value.
            return Err("it is an empty optional value, which is not supported".to_owned());
        }
        // SAFETY: as above.
        let kind = unsafe { written(|kind| (ort::api().GetValueType)(self.0.as_ptr(), kind)) }?;
        match kind {
            sys::ONNXType::ONNX_TYPE_TENSOR => self.tensor(context).map(Value::Tensor),
            sys::ONNXType::ONNX_TYPE_SEQUENCE => {
                // SAFETY: as above.
                let count =
                    unsafe { written(|count| (ort::api().GetValueCount)(self.0.as_ptr(), count)) }?;
                let items = (0..count).map(|index| self.item(index, context)?.read(context));
                items.collect::<Result<_, _>>().map(Value::Sequence)
            }
            sys::ONNXType::ONNX_TYPE_MAP => Ok(Value::Map {
                keys: self.item(0, context)?.tensor(context)?.into_parts().1,
                values: self.item(1, context)?.tensor(context)?.into_parts().1,
            }),
            other => Err(format!("values of kind {other:?} are not supported")),
        }
    }

    /// Copies a sequence's item, or a map's keys (0) or values (1).
    fn item(&self, index: usize, context: &OutputContext<'_>) -> Result<NativeValue, String> {
        let index = i32::try_from(index).map_err(|_| "it has too many items".to_owned())?;
        let allocator = context.allocator.ptr().cast_mut();
        // SAFETY: the value and the allocator, which is the CPU's, are valid; the call writes the address of a new
        // value, which the caller owns.
        unsafe {
            Self::created(|item| (ort::api().GetValue)(self.0.as_ptr(), index, allocator, item))
        }
    }

    fn tensor(self, context: &OutputContext<'_>) -> Result<Tensor, String> {
        let (datatype, shape) = self.type_and_shape()?;
        let count = element_count(&shape).ok_or_else(|| format!("its shape is {shape:?}"))?;
        macro_rules! table {
            ($($variant:ident $element:ty, $onnx:ident;)*) => {
                match datatype {
                    $(TensorElementType::$onnx => Data::$variant(self.elements(count, context)?),)*
                    // A byte other than 0 and 1 is not a valid `bool`, and a model may produce any.
                    TensorElementType::Bool => {
                        let bytes = self.elements::<u8>(count, context)?;
                        let truths: Vec<bool> = bytes.iter().map(|byte| *byte != 0).collect();
                        truths.into()
                    }
                    TensorElementType::String => Data::Bytes(self.strings(count)?),
                    other => return Err(format!("elements of type {other} are not supported")),
                }
            };
        }
        let data = for_each_number!(table);
        Tensor::new(shape, data).map_err(|mismatch| mismatch.to_string())
    }

    fn type_and_shape(&self) -> Result<(TensorElementType, Vec<usize>), String> {
        let (mut first, mut rank) = (ptr::null(), 0);
        // SAFETY: the value is valid, ONNX Runtime rejects values that are not tensors, and the call writes its
        // results.
        let datatype = unsafe {
            written(|datatype| {
                (ort::api().GetTensorElementTypeAndShapeDataReference)(
                    self.0.as_ptr(),
                    datatype,
                    &raw mut first,
                    &raw mut rank,
                )
            })
        }?;
        let shape: &[i64] = match rank {
            0 => &[],
            // SAFETY: the value itself holds `rank` numbers at this address.
            _ => unsafe { slice::from_raw_parts(first, rank) },
        };
        let shape = shape.iter();
        let shape = shape.map(|&dimension| usize::try_from(dimension).unwrap_or(0));
        Ok((datatype.into(), shape.collect()))
    }

    fn elements<T: Plain>(
        self,
        count: usize,
        context: &OutputContext<'_>,
    ) -> Result<Buffer<T>, String> {
        let address = |address: *mut *mut c_void| {
            // SAFETY: the value is a valid tensor, and the call writes the address of its elements.
            unsafe { (ort::api().GetTensorMutableData)(self.0.as_ptr(), address) }
        };
        // SAFETY: as above.
        let first = unsafe { written(address) }?.cast::<T>();
        let Some(first) = NonNull::new(first).filter(|_| count > 0) else {
            return Ok(Vec::new().into());
        };
        let start = first.as_ptr().addr();
        let addresses = start..start + count * size_of::<T>();
        // An output that is an input uses the input's memory, which the caller of this run owns. Memory of a mapped
        // file may be unaligned.
        let is_shared = addresses.len() >= MIN_SHARED_BYTES && first.is_aligned();
        if !is_shared || context.overlaps_input(&addresses) {
            let mut elements = Vec::<T>::with_capacity(count);
            // SAFETY: `count` elements of this type lie at that address, as type and shape say, and the vector has
            // capacity for them. They are copied as bytes, so alignment does not matter, and the elements are plain
            // data.
            unsafe {
                let to = elements.as_mut_ptr().cast::<u8>();
                ptr::copy_nonoverlapping(first.as_ptr().cast::<u8>(), to, addresses.len());
                elements.set_len(count);
            }
            return Ok(elements.into());
        }
        let owner = Arc::new(OutputOwner {
            _value: self,
            _session: Arc::clone(&context.session),
        });
        // SAFETY: `count` aligned elements of this type lie there while the value lives. The value owns them or shares
        // them with its session; elements of an input were copied above. The value is not borrowed elsewhere, and ONNX
        // Runtime does not change the outputs of a run that has ended.
        Ok(unsafe { Buffer::foreign(first, count, owner) })
    }

    fn strings(&self, count: usize) -> Result<Strings, String> {
        let api = ort::api();
        // SAFETY: the value is a valid tensor, and the call writes the total length of its strings.
        let length =
            unsafe { written(|length| (api.GetStringTensorDataLength)(self.0.as_ptr(), length)) }?;
        let (mut bytes, mut starts) = (vec![0_u8; length], vec![0_usize; count]);
        let (to, offsets) = (bytes.as_mut_ptr().cast(), starts.as_mut_ptr());
        // SAFETY: the vectors have these lengths.
        unsafe {
            checked((api.GetStringTensorContent)(
                self.0.as_ptr(),
                to,
                length,
                offsets,
                count,
            ))
        }?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let element = starts.partition_point(|start| *start <= at);
            let within = element.checked_sub(1).map_or(0, |value| at - starts[value]);
            format!(
                "element {} is not UTF-8 from byte {within} on",
                element.saturating_sub(1)
            )
        })?;
        // A string ends where the next one starts.
        let mut ends = starts;
        ends.rotate_left(usize::from(count > 0));
        if let Some(last) = ends.last_mut() {
            *last = length;
        }
        Strings::from_parts(text, ends)
            .ok_or_else(|| "an element ends in the middle of a character".to_owned())
    }
}
