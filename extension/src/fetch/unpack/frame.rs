//! The beginning of a zstd frame, which says what the frame will take before it is decompressed.

use zstd_safe::{
    MAGIC_SKIPPABLE_MASK, MAGIC_SKIPPABLE_START, MAGICNUMBER, get_dict_id_from_frame,
    get_frame_content_size,
};

/// Length of the longest header, in bytes.
const LONGEST: usize = 18;

/// What begins with these bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// Not known yet: at least one more byte is needed.
    Incomplete,
    /// A frame, of compressed data or of data that are skipped.
    Frame {
        /// Length of the decompressed content in bytes, where it is declared.
        content: Option<u64>,
        /// Whether the frame takes a dictionary, which is not in the file.
        dictionary: bool,
    },
    /// Neither.
    Foreign,
}

/// Reads a header. Given byte by byte, it is complete as soon as the last byte of the header is there.
pub(super) fn read(bytes: &[u8]) -> Header {
    let is_skippable = matches!(magic(bytes), Magic::Skippable);
    match (get_frame_content_size(bytes), magic(bytes)) {
        (_, Magic::Foreign) => Header::Foreign,
        (Ok(content), _) => Header::Frame {
            content,
            // Of a frame that is skipped, zstd gives the kind instead of a dictionary.
            dictionary: !is_skippable && get_dict_id_from_frame(bytes).is_some(),
        },
        (Err(_), _) if bytes.len() < LONGEST => Header::Incomplete,
        // Not a header that zstd reads: the decompressor says why.
        (Err(_), _) => Header::Frame {
            content: None,
            dictionary: false,
        },
    }
}

enum Magic {
    Frame,
    Skippable,
    Foreign,
}

/// The kind of what begins so; of fewer than four bytes, a kind that it may still become.
fn magic(bytes: &[u8]) -> Magic {
    let first = &bytes[..bytes.len().min(4)];
    let begins = |magic: u32, mask: u32| {
        let pairs = magic.to_le_bytes().into_iter().zip(mask.to_le_bytes());
        let mut pairs = first.iter().zip(pairs);
        pairs.all(|(byte, (magic, mask))| byte & mask == magic)
    };
    if begins(MAGICNUMBER, u32::MAX) {
        Magic::Frame
    } else if begins(MAGIC_SKIPPABLE_START, MAGIC_SKIPPABLE_MASK) {
        Magic::Skippable
    } else {
        Magic::Foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a whole header, and expects that nothing less is one.
    fn whole(bytes: &[u8]) -> Header {
        for less in 0..bytes.len() {
            assert_eq!(read(&bytes[..less]), Header::Incomplete, "{less} bytes");
        }
        read(bytes)
    }

    fn frame(rest: &[u8]) -> Vec<u8> {
        [&MAGICNUMBER.to_le_bytes()[..], rest].concat()
    }

    #[test]
    fn each_form_of_a_header_is_read() {
        let is = |content, dictionary| Header::Frame {
            content,
            dictionary,
        };
        assert_eq!(whole(&frame(&[0x00, 13 << 3])), is(None, false));
        // The length of the content in 1, 2, 4 and 8 bytes.
        assert_eq!(whole(&frame(&[0x20, 7])), is(Some(7), false));
        assert_eq!(whole(&frame(&[0x60, 1, 1])), is(Some(513), false));
        assert_eq!(
            whole(&frame(&[0x80, 0, 4, 3, 2, 1])),
            is(Some(0x0102_0304), false)
        );
        let long = 1_u64 << 40;
        let bytes = [&[0xE0][..], &long.to_le_bytes()].concat();
        assert_eq!(whole(&frame(&bytes)), is(Some(long), false));
        // A dictionary, and the number that stands for none.
        assert_eq!(whole(&frame(&[0x02, 0, 1, 2])), is(None, true));
        assert_eq!(whole(&frame(&[0x23, 0, 0, 0, 0, 9])), is(Some(9), false));
        // Data that are skipped, whose length follows.
        for kind in [0x50, 0x5F] {
            let bytes = [kind, 0x2A, 0x4D, 0x18, 1, 0, 0, 0];
            assert_eq!(whole(&bytes), is(Some(0), false));
        }
    }

    #[test]
    fn a_header_that_zstd_does_not_read_is_left_to_the_decompressor() {
        let reserved = frame(&[0x08; LONGEST - 4]);
        assert_eq!(
            whole(&reserved),
            Header::Frame {
                content: None,
                dictionary: false
            }
        );
    }

    #[test]
    fn what_is_no_frame_is_known_by_its_first_bytes() {
        for foreign in [
            &b"ONNX"[..],
            &[0],
            &[0x28, 0xB5, 0x2E],
            &[0x27, 0xB5],
            &[0x50, 0x2A, 0x4D, 0x19],
        ] {
            assert_eq!(read(foreign), Header::Foreign, "{foreign:?}");
        }
    }
}
