//! Header of a zstd frame: the declared content size, and the need of a dictionary.

use zstd_safe::{
    MAGIC_SKIPPABLE_MASK, MAGIC_SKIPPABLE_START, MAGICNUMBER, get_dict_id_from_frame,
    get_frame_content_size,
};

/// Maximum length of a header, in bytes.
const MAX_HEADER_BYTES: usize = 18;

/// Result of reading a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameHeader {
    /// At least one more byte is required.
    Incomplete,
    /// A frame of compressed data, or a skippable frame.
    Frame {
        /// Declared length of the decompressed content, in bytes.
        content: Option<u64>,
        /// `true` if the frame requires a dictionary, which is not in the file.
        dictionary: bool,
    },
    /// No zstd data.
    NotZstd,
}

/// Reads a header. The result is complete from the last byte of the header on.
pub(super) fn read(bytes: &[u8]) -> FrameHeader {
    let is_skippable = matches!(kind(bytes), FrameKind::Skippable);
    match (get_frame_content_size(bytes), kind(bytes)) {
        (_, FrameKind::NotZstd) => FrameHeader::NotZstd,
        (Ok(content), _) => FrameHeader::Frame {
            content,
            // For a skippable frame, zstd returns the kind of frame instead of a dictionary.
            dictionary: !is_skippable && get_dict_id_from_frame(bytes).is_some(),
        },
        (Err(_), _) if bytes.len() < MAX_HEADER_BYTES => FrameHeader::Incomplete,
        // zstd cannot read the header: the decompressor returns the error.
        (Err(_), _) => FrameHeader::Frame {
            content: None,
            dictionary: false,
        },
    }
}

enum FrameKind {
    Compressed,
    Skippable,
    NotZstd,
}

/// Returns the kind of frame by its magic number; for fewer than four bytes, a possible kind.
fn kind(bytes: &[u8]) -> FrameKind {
    let first = &bytes[..bytes.len().min(4)];
    let begins = |magic: u32, mask: u32| {
        let pairs = magic.to_le_bytes().into_iter().zip(mask.to_le_bytes());
        let mut pairs = first.iter().zip(pairs);
        pairs.all(|(byte, (magic, mask))| byte & mask == magic)
    };
    if begins(MAGICNUMBER, u32::MAX) {
        FrameKind::Compressed
    } else if begins(MAGIC_SKIPPABLE_START, MAGIC_SKIPPABLE_MASK) {
        FrameKind::Skippable
    } else {
        FrameKind::NotZstd
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a complete header, and asserts that every prefix is incomplete.
    fn complete(bytes: &[u8]) -> FrameHeader {
        for less in 0..bytes.len() {
            assert_eq!(
                read(&bytes[..less]),
                FrameHeader::Incomplete,
                "{less} bytes"
            );
        }
        read(bytes)
    }

    fn frame(rest: &[u8]) -> Vec<u8> {
        [&MAGICNUMBER.to_le_bytes()[..], rest].concat()
    }

    #[test]
    fn each_form_of_a_header_is_read() {
        let is = |content, dictionary| FrameHeader::Frame {
            content,
            dictionary,
        };
        assert_eq!(complete(&frame(&[0x00, 13 << 3])), is(None, false));
        // Content sizes in 1, 2, 4 and 8 bytes.
        assert_eq!(complete(&frame(&[0x20, 7])), is(Some(7), false));
        assert_eq!(complete(&frame(&[0x60, 1, 1])), is(Some(513), false));
        assert_eq!(
            complete(&frame(&[0x80, 0, 4, 3, 2, 1])),
            is(Some(0x0102_0304), false)
        );
        let long = 1_u64 << 40;
        let bytes = [&[0xE0][..], &long.to_le_bytes()].concat();
        assert_eq!(complete(&frame(&bytes)), is(Some(long), false));
        // A dictionary, and the dictionary id 0, which means none.
        assert_eq!(complete(&frame(&[0x02, 0, 1, 2])), is(None, true));
        assert_eq!(complete(&frame(&[0x23, 0, 0, 0, 0, 9])), is(Some(9), false));
        // Skippable frames, whose length follows.
        for first in [0x50, 0x5F] {
            let bytes = [first, 0x2A, 0x4D, 0x18, 1, 0, 0, 0];
            assert_eq!(complete(&bytes), is(Some(0), false));
        }
    }

    #[test]
    fn an_unreadable_header_is_left_to_the_decompressor() {
        let reserved = frame(&[0x08; MAX_HEADER_BYTES - 4]);
        assert_eq!(
            complete(&reserved),
            FrameHeader::Frame {
                content: None,
                dictionary: false
            }
        );
    }

    #[test]
    fn other_data_are_recognized_by_the_first_bytes() {
        for other in [
            &b"ONNX"[..],
            &[0],
            &[0x28, 0xB5, 0x2E],
            &[0x27, 0xB5],
            &[0x50, 0x2A, 0x4D, 0x19],
        ] {
            assert_eq!(read(other), FrameHeader::NotZstd, "{other:?}");
        }
    }
}
