//! Storage of a tensor's elements.
//!
//! Binary elements of a request stay in the request body, and outputs of a model stay in ONNX Runtime's memory; neither
//! is copied. A [`Buffer`] is a slice of elements and the owner of their memory, a vector or another object. Nothing
//! writes to the elements while the buffer lives.
#![expect(
    unsafe_code,
    reason = "elements and bytes share memory; each block says why it is sound"
)]

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};
use serde::{Serialize, Serializer};

#[cfg(target_endian = "big")]
compile_error!("binary tensors are little-endian and are used without conversion");

/// An element without padding that owns nothing.
///
/// # Safety
/// Every byte of a value is initialized, and a copy of the bytes is the value.
pub unsafe trait Flat: Copy + Send + Sync + 'static {}

/// An element for which any bytes are valid.
///
/// # Safety
/// Any bytes of the size of the type are a valid value.
pub unsafe trait Plain: Flat {}

macro_rules! plain {
    ($($element:ty),*) => {
        $(
            // SAFETY: a primitive number or a 16-bit wrapper of one, without padding or pointers.
            unsafe impl Flat for $element {}
            // SAFETY: any bits are a number or a NaN.
            unsafe impl Plain for $element {}
        )*
    };
}

plain!(u8, u16, u32, u64, i8, i16, i32, i64, f16, bf16, f32, f64);

// SAFETY: one byte, 0 or 1.
unsafe impl Flat for bool {}

/// Immutable elements, in a vector or in memory of another owner.
pub struct Buffer<T> {
    memory: BufferMemory<T>,
}

enum BufferMemory<T> {
    Owned(Vec<T>),
    Foreign {
        start: NonNull<T>,
        length: usize,
        owner: Arc<dyn Any + Send + Sync>,
    },
}

// SAFETY: a buffer is a shared slice of elements and an owner that is `Send`.
unsafe impl<T: Send + Sync> Send for Buffer<T> {}
// SAFETY: a shared buffer allows reading only, and the owner is `Sync`.
unsafe impl<T: Send + Sync> Sync for Buffer<T> {}

impl<T> Buffer<T> {
    /// Creates a buffer of the elements at `start`, whose memory `owner` keeps alive.
    ///
    /// # Safety
    /// While `owner` lives, even if it is moved, `length` aligned values of the type are at `start`, and nothing
    /// changes them.
    #[must_use]
    pub unsafe fn foreign(
        start: NonNull<T>,
        length: usize,
        owner: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self {
            memory: BufferMemory::Foreign {
                start,
                length,
                owner,
            },
        }
    }
}

impl<T: Copy> Buffer<T> {
    /// Reserves memory for exactly `more` elements. Elements in memory of another owner are copied.
    pub(super) fn reserve_exact(&mut self, more: usize) {
        match &mut self.memory {
            BufferMemory::Owned(elements) => elements.reserve_exact(more),
            BufferMemory::Foreign { .. } => {
                let mut own = Vec::with_capacity(self.len() + more);
                own.extend_from_slice(self);
                *self = own.into();
            }
        }
    }

    /// Appends elements.
    pub(super) fn extend_from_slice(&mut self, more: &[T]) {
        self.reserve_exact(0);
        if let BufferMemory::Owned(elements) = &mut self.memory {
            elements.extend_from_slice(more);
        }
    }
}

#[cfg(test)]
impl<T: Clone> Buffer<T> {
    /// Returns `true` if the memory has another owner.
    pub(crate) fn is_foreign(&self) -> bool {
        matches!(self.memory, BufferMemory::Foreign { .. })
    }

    /// Returns the elements as a mutable vector.
    pub(crate) fn to_mut(&mut self) -> &mut Vec<T> {
        if let BufferMemory::Foreign { .. } = self.memory {
            *self = self.to_vec().into();
        }
        match &mut self.memory {
            BufferMemory::Owned(elements) => elements,
            BufferMemory::Foreign { .. } => unreachable!("the memory is owned now"),
        }
    }
}

impl<T: Plain> Buffer<T> {
    /// Interprets bytes as elements, without a copy if they are aligned. Ignores bytes beyond a whole number of
    /// elements.
    #[must_use]
    pub fn of_bytes(bytes: Bytes) -> Self {
        let length = bytes.len() / size_of::<T>();
        let start = bytes.as_ptr().cast::<T>();
        match NonNull::new(start.cast_mut()).filter(|start| start.is_aligned() && length > 0) {
            // SAFETY: any bytes are valid, so these are `length` values, and they are aligned. The memory of a `Bytes`
            // is neither moved nor changed while one of its handles lives.
            Some(start) => unsafe { Self::foreign(start, length, Arc::new(bytes)) },
            None => {
                let mut elements = Vec::<T>::with_capacity(length);
                // SAFETY: both sides have `length` elements and do not overlap, since one is new. Any bytes are valid,
                // and they are copied as bytes, so alignment does not matter.
                unsafe {
                    let into = elements.as_mut_ptr().cast::<u8>();
                    into.copy_from_nonoverlapping(bytes.as_ptr(), length * size_of::<T>());
                    elements.set_len(length);
                }
                elements.into()
            }
        }
    }
}

impl<T: Flat> Buffer<T> {
    /// Converts the elements to bytes without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl<T: Flat> AsRef<[u8]> for Buffer<T> {
    fn as_ref(&self) -> &[u8] {
        let elements: &[T] = self;
        // SAFETY: the same memory, all bytes of which are initialized.
        unsafe { slice::from_raw_parts(elements.as_ptr().cast(), size_of_val(elements)) }
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.memory {
            BufferMemory::Owned(elements) => elements,
            // SAFETY: the creator of the buffer guaranteed this while the owner lives, which is at least as long as
            // this borrow.
            BufferMemory::Foreign { start, length, .. } => unsafe {
                slice::from_raw_parts(start.as_ptr(), *length)
            },
        }
    }
}

impl<T> From<Vec<T>> for Buffer<T> {
    fn from(elements: Vec<T>) -> Self {
        Self {
            memory: BufferMemory::Owned(elements),
        }
    }
}

impl<T: Clone> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        match &self.memory {
            BufferMemory::Owned(elements) => elements.clone().into(),
            BufferMemory::Foreign {
                start,
                length,
                owner,
            } => Self {
                memory: BufferMemory::Foreign {
                    start: *start,
                    length: *length,
                    owner: Arc::clone(owner),
                },
            },
        }
    }
}

impl<T: PartialEq> PartialEq for Buffer<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Serialize> Serialize for Buffer<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&**self)
    }
}

impl<T: fmt::Debug> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_bytes_are_shared_and_others_copied() {
        let numbers: Vec<u32> = (1..=64).collect();
        let bytes = Buffer::from(numbers.clone()).into_bytes();
        for skipped in 0..8 {
            let part = bytes.slice(skipped..);
            let from = part.as_ptr().addr();
            let buffer = Buffer::<u32>::of_bytes(part.clone());
            let expected: Vec<u32> = part
                .chunks_exact(4)
                .map(|chunk| u32::from_le_bytes(chunk.try_into().unwrap()))
                .collect();
            assert_eq!(buffer[..], expected);
            assert_eq!(buffer.as_ptr().addr() == from, skipped % 4 == 0);
        }
        assert!(Buffer::<f64>::of_bytes(Bytes::new()).is_empty());
    }

    #[test]
    fn foreign_memory_lives_as_long_as_its_last_reader() {
        let bytes = Bytes::from(vec![0_u8; 4096]);
        let start = bytes.as_ptr().align_offset(8);
        let buffer = Buffer::<u64>::of_bytes(bytes.slice(start..));
        let (copy, again) = (buffer.clone(), buffer.into_bytes());
        assert_eq!(copy.as_ptr().addr(), again.as_ptr().addr());
        drop(again);
        assert!(!bytes.is_unique());
        drop(copy);
        assert!(bytes.is_unique());
    }
}
