//! Values of ONNX Runtime, through the C API: the bindings ask for a description of each value and of all that is in it,
//! which takes longer than a small model runs.

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

use super::{Surroundings, for_each_number};
use crate::tensor::{Buffer, Data, Plain, Strings, Tensor, Value, element_count};

/// A tensor of fewer bytes is copied out: that costs less than to share it.
const WORTH_SHARING: usize = 4096;

/// A value in memory that the CPU can read: made by a session that runs nowhere else, copied out of one of its values, or
/// lent to one.
pub(in crate::engine) struct Raw(NonNull<sys::OrtValue>);

// SAFETY: a value is bound to no thread.
unsafe impl Send for Raw {}
// SAFETY: what is asked of a shared one changes nothing in it.
unsafe impl Sync for Raw {}

impl Drop for Raw {
    fn drop(&mut self) {
        // SAFETY: nobody else has the value, and this is the last use of it.
        unsafe { (ort::api().ReleaseValue)(self.0.as_ptr()) };
    }
}

/// What keeps the elements of a shared output where they are.
struct Owner {
    _value: Raw,
    /// A constant of the graph may be an output.
    _session: Arc<SharedSessionInner>,
}

/// The error of a status, which is released.
///
/// # Safety
/// ONNX Runtime has just given the status, and it goes nowhere else.
unsafe fn checked(status: sys::OrtStatusPtr) -> Result<(), String> {
    // SAFETY: the caller's promise.
    unsafe { ort::Error::result_from_status(status) }.map_err(|error| error.message().to_owned())
}

/// What `call` writes at the place that it is given.
///
/// # Safety
/// `call` returns a status that ONNX Runtime has just given it. When that is no error, `call` has written there.
unsafe fn written<T>(call: impl FnOnce(*mut T) -> sys::OrtStatusPtr) -> Result<T, String> {
    let mut place = MaybeUninit::uninit();
    // SAFETY: the caller's promise.
    unsafe { checked(call(place.as_mut_ptr())) }?;
    // SAFETY: likewise.
    Ok(unsafe { place.assume_init() })
}

/// The lengths of a shape as the C API takes them.
fn dimensions(shape: &[usize]) -> Result<Vec<i64>, String> {
    let shape: Result<Vec<i64>, _> = shape.iter().map(|&length| i64::try_from(length)).collect();
    shape.map_err(|_| "a dimension is too large".to_owned())
}

impl Raw {
    /// Takes over a value that a run has made.
    ///
    /// # Safety
    /// It is a whole value, nobody else has it, and the CPU can read it.
    pub(in crate::engine) unsafe fn of(value: NonNull<sys::OrtValue>) -> Self {
        Self(value)
    }

    /// A tensor of elements that are lent.
    ///
    /// # Safety
    /// As long as it lives, the elements stay where they are, and nobody writes to them through it. They are of the
    /// `datatype`, and `memory` is the CPU's.
    pub(super) unsafe fn lent<T: Copy>(
        elements: &[T],
        shape: &[usize],
        datatype: TensorElementType,
        memory: &MemoryInfo<'_>,
    ) -> Result<Self, String> {
        let shape = dimensions(shape)?;
        // SAFETY: the caller's promise; the elements and the shape are as long as is said, and the call writes the address
        // of a new value, which is the caller's. It takes the elements as what may be written to, since a tensor may be.
        let value = unsafe {
            written(|value| {
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
        }?;
        NonNull::new(value)
            .map(Self)
            .ok_or_else(|| "the tensor did not come".to_owned())
    }

    /// A tensor in memory of its own, whose elements nobody has written.
    pub(super) fn blank(
        datatype: TensorElementType,
        shape: &[usize],
        allocator: &Allocator,
    ) -> Result<Self, String> {
        let shape = dimensions(shape)?;
        // SAFETY: the allocator is whole, the shape is as long as is said, and the call writes the address of a new value,
        // which is the caller's.
        let value = unsafe {
            written(|value| {
                (ort::api().CreateTensorAsOrtValue)(
                    allocator.ptr().cast_mut(),
                    shape.as_ptr(),
                    shape.len(),
                    datatype.into(),
                    value,
                )
            })
        }?;
        NonNull::new(value)
            .map(Self)
            .ok_or_else(|| "the tensor did not come".to_owned())
    }

    /// A tensor with copies of these strings, of which there are as many as the shape says.
    ///
    /// Each string is written into the tensor's own: the call that takes all of them at once takes C strings, which would
    /// be a second copy, and ends a text at its first NUL.
    pub(super) fn of_strings(
        strings: &Strings,
        shape: &[usize],
        allocator: &Allocator,
    ) -> Result<Self, String> {
        let value = Self::blank(TensorElementType::String, shape, allocator)?;
        for (index, string) in strings.iter().enumerate() {
            // SAFETY: the value is a whole tensor of strings, which nobody else has. An index beyond its end is an error.
            // The call writes the address of as many bytes as it is asked for, which are the string's.
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

    /// The value for the bindings, made by this allocator.
    pub(super) fn into_dyn(self, allocator: &Allocator) -> DynValue {
        let value = std::mem::ManuallyDrop::new(self);
        // SAFETY: the value is whole and nobody else has it, and it is not released here.
        unsafe { DynValue::from_ptr(value.0, Some(allocator)) }
    }

    pub(super) fn ptr(&self) -> *const sys::OrtValue {
        self.0.as_ptr()
    }

    /// Large tensors where they are, all else copied out.
    pub(in crate::engine) fn read(self, around: &Surroundings<'_>) -> Result<Value, String> {
        // SAFETY: the value is whole, and the call writes what it is asked for.
        if unsafe { written(|has| (ort::api().HasValue)(self.0.as_ptr(), has)) }? == 0 {
            // Of its kind ONNX Runtime cannot be asked.
            return Err("it is an optional value that is empty, which has no form here".to_owned());
        }
        // SAFETY: as above.
        let kind = unsafe { written(|kind| (ort::api().GetValueType)(self.0.as_ptr(), kind)) }?;
        match kind {
            sys::ONNXType::ONNX_TYPE_TENSOR => self.tensor(around).map(Value::Tensor),
            sys::ONNXType::ONNX_TYPE_SEQUENCE => {
                // SAFETY: as above.
                let count =
                    unsafe { written(|count| (ort::api().GetValueCount)(self.0.as_ptr(), count)) }?;
                let items = (0..count).map(|index| self.item(index, around)?.read(around));
                items.collect::<Result<_, _>>().map(Value::Sequence)
            }
            sys::ONNXType::ONNX_TYPE_MAP => Ok(Value::Map {
                keys: self.item(0, around)?.tensor(around)?.into_parts().1,
                values: self.item(1, around)?.tensor(around)?.into_parts().1,
            }),
            other => Err(format!("a value of kind {other:?} has no form here")),
        }
    }

    /// A copy of a sequence's item, or of a map's keys (0) or values (1).
    fn item(&self, index: usize, around: &Surroundings<'_>) -> Result<Raw, String> {
        let index = i32::try_from(index).map_err(|_| "it has too many items".to_owned())?;
        let allocator = around.allocator.ptr().cast_mut();
        // SAFETY: the value is whole, and so is the allocator, which is the CPU's; the call writes the address of a new
        // value, which is the caller's.
        let item = unsafe {
            written(|item| (ort::api().GetValue)(self.0.as_ptr(), index, allocator, item))
        }?;
        NonNull::new(item)
            .map(Raw)
            .ok_or_else(|| "an item did not come".to_owned())
    }

    fn tensor(self, around: &Surroundings<'_>) -> Result<Tensor, String> {
        let (datatype, shape) = self.form()?;
        let count = element_count(&shape).ok_or_else(|| format!("its shape is {shape:?}"))?;
        macro_rules! table {
            ($($variant:ident $element:ty, $onnx:ident;)*) => {
                match datatype {
                    $(TensorElementType::$onnx => Data::$variant(self.elements(count, around)?),)*
                    // A byte other than 0 and 1 is no `bool`, and a model may hold any.
                    TensorElementType::Bool => {
                        let bytes = self.elements::<u8>(count, around)?;
                        let truths: Vec<bool> = bytes.iter().map(|byte| *byte != 0).collect();
                        truths.into()
                    }
                    TensorElementType::String => Data::Bytes(self.strings(count)?),
                    other => return Err(format!("elements of type {other} have no form here")),
                }
            };
        }
        let data = for_each_number!(table);
        Tensor::new(shape, data).map_err(|mismatch| mismatch.to_string())
    }

    fn form(&self) -> Result<(TensorElementType, Vec<usize>), String> {
        let (mut first, mut rank) = (ptr::null(), 0);
        // SAFETY: the value is whole, and a tensor or refused; the call writes what it is asked for.
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
            // SAFETY: so many numbers lie there, in the value itself.
            _ => unsafe { slice::from_raw_parts(first, rank) },
        };
        let shape = shape.iter();
        let shape = shape.map(|&dimension| usize::try_from(dimension).unwrap_or(0));
        Ok((datatype.into(), shape.collect()))
    }

    fn elements<T: Plain>(
        self,
        count: usize,
        around: &Surroundings<'_>,
    ) -> Result<Buffer<T>, String> {
        let address = |address: *mut *mut c_void| {
            // SAFETY: the value is a whole tensor, and the call writes the address of its elements.
            unsafe { (ort::api().GetTensorMutableData)(self.0.as_ptr(), address) }
        };
        // SAFETY: see above.
        let first = unsafe { written(address) }?.cast::<T>();
        let Some(first) = NonNull::new(first).filter(|_| count > 0) else {
            return Ok(Vec::new().into());
        };
        let start = first.as_ptr().addr();
        let addresses = start..start + count * size_of::<T>();
        // An output that is an input lies in the input's memory, whose owner is the caller of this run. What lies in a
        // file may lie anywhere.
        let is_shared = addresses.len() >= WORTH_SHARING && first.is_aligned();
        if !is_shared || around.holds(&addresses) {
            let mut elements = Vec::<T>::with_capacity(count);
            // SAFETY: there are so many elements of this type at that address, as the tensor's form says, and there is
            // room for as many; bytes have no alignment, and the elements are nothing but their bytes.
            unsafe {
                let to = elements.as_mut_ptr().cast::<u8>();
                ptr::copy_nonoverlapping(first.as_ptr().cast::<u8>(), to, addresses.len());
                elements.set_len(count);
            }
            return Ok(elements.into());
        }
        let owner = Arc::new(Owner {
            _value: self,
            _session: Arc::clone(&around.session),
        });
        // SAFETY: so many elements of this type lie there, aligned, and stay as long as the value lives, which owns them
        // or shares them with the session that it came from: an input, which ends earlier, has been copied. The value is
        // lent to nobody else, and ONNX Runtime changes no output of a run that has ended.
        Ok(unsafe { Buffer::foreign(first, count, owner) })
    }

    fn strings(&self, count: usize) -> Result<Strings, String> {
        let api = ort::api();
        // SAFETY: the value is a whole tensor, and the call writes the length of its strings together.
        let length =
            unsafe { written(|length| (api.GetStringTensorDataLength)(self.0.as_ptr(), length)) }?;
        let (mut bytes, mut starts) = (vec![0_u8; length], vec![0_usize; count]);
        let (to, offsets) = (bytes.as_mut_ptr().cast(), starts.as_mut_ptr());
        // SAFETY: there is room for so many bytes and so many offsets.
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
            let within = element.checked_sub(1).map_or(0, |place| at - starts[place]);
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
