//! Buffers for bodies.

use bytes::{Buf as _, BytesMut};

/// Alignment of tensors in binary, in bytes: the largest that any CPU instruction requires.
const ALIGNMENT: usize = 64;
/// Minimum capacity of a buffer for a body of unknown length.
const MIN_CAPACITY: usize = 8 * 1024;

/// Returns an empty buffer in which the bytes after the first `header` bytes are aligned for tensors.
pub(super) fn aligned(capacity: usize, header: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(capacity + ALIGNMENT);
    let padding = buffer.as_ptr().addr().wrapping_add(header).wrapping_neg() % ALIGNMENT;
    buffer.resize(padding, 0);
    buffer.advance(padding);
    buffer
}

/// Returns the capacity of a buffer for `length` bytes that may have to grow: a quarter more.
pub(super) fn grown(length: usize) -> usize {
    (length + length / 4).max(MIN_CAPACITY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_behind_the_json_are_aligned_once_the_body_is_complete() {
        for (header, tensor) in [(0, 100_000), (1, 100_001), (63, 1), (64, 0), (117, 602_112)] {
            let mut body = aligned(header + tensor, header);
            let start = body.as_ptr();
            for byte in 0..header + tensor {
                body.extend_from_slice(&[byte.to_le_bytes()[0]]);
            }
            let body = body.freeze();
            assert_eq!(body.len(), header + tensor);
            assert_eq!(body.as_ptr(), start, "moved for lack of capacity");
            assert_eq!(body[header..].as_ptr().addr() % ALIGNMENT, 0, "{header}");
            assert!(
                body.iter()
                    .enumerate()
                    .all(|(at, byte)| *byte == at.to_le_bytes()[0])
            );
        }
    }
}
