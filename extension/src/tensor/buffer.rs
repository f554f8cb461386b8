//! The elements of a tensor, wherever they lie.
//!
//! What a caller sends in binary lies in the body of the request, and what a model gives lies in memory of ONNX Runtime:
//! both are used where they are. A [`Buffer`] is a slice of elements that owns what keeps them there, a vector or
//! something else, and nobody writes to them while it lives.
#![expect(
    unsafe_code,
    reason = "elements and bytes are the same memory; each block says why it is sound"
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
compile_error!("binary tensors are little-endian, and are used as they are");

/// An element that is nothing but its bytes: it has no padding, and owns nothing.
///
/// # Safety
/// Every byte of a value is initialised, and a copy of the bytes is the value.
pub unsafe trait Flat: Copy + Send + Sync + 'static {}

/// An element whose bytes may be any.
///
/// # Safety
/// As many bytes as the type has are a value of it, whatever they are.
pub unsafe trait Plain: Flat {}

macro_rules! plain {
    ($($element:ty),*) => {
        $(
            // SAFETY: a primitive number, or a number of 16 bits around one: no padding, and no pointer.
            unsafe impl Flat for $element {}
            // SAFETY: all bits of such a number are a number, or one of its NaNs.
            unsafe impl Plain for $element {}
        )*
    };
}

plain!(u8, u16, u32, u64, i8, i16, i32, i64, f16, bf16, f32, f64);

// SAFETY: one byte, 0 or 1.
unsafe impl Flat for bool {}

/// Elements that nobody changes, in a vector or in memory of someone else.
pub struct Buffer<T> {
    memory: Memory<T>,
}

enum Memory<T> {
    Own(Vec<T>),
    Foreign {
        start: NonNull<T>,
        length: usize,
        owner: Arc<dyn Any + Send + Sync>,
    },
}

// SAFETY: a buffer is a shared slice of elements beside an owner that may itself be sent.
unsafe impl<T: Send + Sync> Send for Buffer<T> {}
// SAFETY: through a shared buffer the elements can be read alone, and the owner may itself be shared.
unsafe impl<T: Send + Sync> Sync for Buffer<T> {}

impl<T> Buffer<T> {
    /// The elements at `start`, which `owner` keeps there.
    ///
    /// # Safety
    /// As long as `owner` lives, wherever it is moved, `length` values of the type lie at `start`, aligned, and nobody
    /// changes them.
    #[must_use]
    pub unsafe fn foreign(
        start: NonNull<T>,
        length: usize,
        owner: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self {
            memory: Memory::Foreign {
                start,
                length,
                owner,
            },
        }
    }
}

impl<T: Copy> Buffer<T> {
    /// Reserves memory for `more` elements, and no more than that. Elements in memory of someone else are copied out.
    pub(super) fn reserve_exact(&mut self, more: usize) {
        match &mut self.memory {
            Memory::Own(elements) => elements.reserve_exact(more),
            Memory::Foreign { .. } => {
                let mut own = Vec::with_capacity(self.len() + more);
                own.extend_from_slice(self);
                *self = own.into();
            }
        }
    }

    /// Appends these elements.
    pub(super) fn extend_from_slice(&mut self, more: &[T]) {
        self.reserve_exact(0);
        if let Memory::Own(elements) = &mut self.memory {
            elements.extend_from_slice(more);
        }
    }
}

#[cfg(test)]
impl<T: Clone> Buffer<T> {
    /// Whether the memory is someone else's.
    pub(crate) fn is_foreign(&self) -> bool {
        matches!(self.memory, Memory::Foreign { .. })
    }

    /// A vector of the elements, to be changed.
    pub(crate) fn to_mut(&mut self) -> &mut Vec<T> {
        if let Memory::Foreign { .. } = self.memory {
            *self = self.to_vec().into();
        }
        match &mut self.memory {
            Memory::Own(elements) => elements,
            Memory::Foreign { .. } => unreachable!("it is a vector now"),
        }
    }
}

impl<T: Plain> Buffer<T> {
    /// The elements that these bytes are, without a copy where they lie as elements must. What is beyond a whole number
    /// of elements is not looked at.
    #[must_use]
    pub fn of_bytes(bytes: Bytes) -> Self {
        let length = bytes.len() / size_of::<T>();
        let start = bytes.as_ptr().cast::<T>();
        match NonNull::new(start.cast_mut()).filter(|start| start.is_aligned() && length > 0) {
            // SAFETY: the bytes are `length` values, since they may be any; they are aligned; and the memory of a
            // `Bytes` is neither moved nor changed while one of its handles lives.
            Some(start) => unsafe { Self::foreign(start, length, Arc::new(bytes)) },
            None => {
                let mut elements = Vec::<T>::with_capacity(length);
                // SAFETY: `length` elements fit both, and the two do not overlap, since one is new; the bytes may be
                // any, and are copied as bytes, so that their alignment does not matter.
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
    /// The elements as bytes, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl<T: Flat> AsRef<[u8]> for Buffer<T> {
    fn as_ref(&self) -> &[u8] {
        let elements: &[T] = self;
        // SAFETY: the same memory, all of whose bytes are initialised.
        unsafe { slice::from_raw_parts(elements.as_ptr().cast(), size_of_val(elements)) }
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.memory {
            Memory::Own(elements) => elements,
            // SAFETY: whoever made the buffer promised it for as long as the owner lives, which is at least as long as
            // this borrow.
            Memory::Foreign { start, length, .. } => unsafe {
                slice::from_raw_parts(start.as_ptr(), *length)
            },
        }
    }
}

impl<T> From<Vec<T>> for Buffer<T> {
    fn from(elements: Vec<T>) -> Self {
        Self {
            memory: Memory::Own(elements),
        }
    }
}

impl<T: Clone> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        match &self.memory {
            Memory::Own(elements) => elements.clone().into(),
            Memory::Foreign {
                start,
                length,
                owner,
            } => Self {
                memory: Memory::Foreign {
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
    fn bytes_are_used_where_they_are_if_aligned_and_copied_if_not() {
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
    fn foreign_memory_lives_as_long_as_the_last_who_reads_it() {
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
