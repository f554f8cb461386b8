//! The header of a zstd frame (RFC 8878, 3.1.1), which says what the frame will take before it is decompressed.

const MAGIC: u32 = 0xFD2F_B528;
/// Sixteen values that differ in their lowest four bits: frames of somebody else's data, which are skipped.
const SKIPPABLE: u32 = 0x184D_2A50;

/// What begins with these bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Header {
    /// That cannot be said yet: one byte more, at least.
    Incomplete,
    /// A frame.
    Frame {
        /// How many bytes of what came before must be kept while it is decompressed.
        window: u64,
        /// How many bytes come out, where that is declared.
        content: Option<u64>,
        /// Whether it takes a dictionary, which is not in the frame.
        dictionary: bool,
    },
    /// Data that are skipped.
    Skippable,
    /// Neither.
    Foreign,
}

/// Reads a header, which is whole when there is one byte too few no longer: given byte by byte, it ends exactly.
pub(super) fn read(bytes: &[u8]) -> Header {
    let (magic, rest) = split(bytes, 4);
    let skippable = |byte: u8, at: usize| match at {
        0 => byte & 0xF0 == SKIPPABLE.to_le_bytes()[0],
        _ => byte == SKIPPABLE.to_le_bytes()[at],
    };
    let is_skippable = (0..).zip(magic).all(|(at, byte)| skippable(*byte, at));
    if !is_skippable && !MAGIC.to_le_bytes().starts_with(magic) {
        return Header::Foreign;
    }
    if is_skippable && magic.len() == 4 {
        // Its length follows.
        return if rest.len() < 4 {
            Header::Incomplete
        } else {
            Header::Skippable
        };
    }
    let Some((descriptor, rest)) = rest.split_first() else {
        return Header::Incomplete;
    };
    let is_single_segment = descriptor & 0x20 != 0;
    let window_length = usize::from(!is_single_segment);
    let dictionary_length = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let content_length = match descriptor >> 6 {
        0 => usize::from(is_single_segment),
        flag => 1 << flag,
    };
    if rest.len() < window_length + dictionary_length + content_length {
        return Header::Incomplete;
    }
    let (window, rest) = split(rest, window_length);
    let (dictionary, rest) = split(rest, dictionary_length);
    let (content, _) = split(rest, content_length);
    let content = match content.len() {
        0 => None,
        // Two bytes count from where one byte ends.
        2 => Some(number(content) + 256),
        _ => Some(number(content)),
    };
    let window = window.first().map(|&byte| {
        let base = 1_u64 << (10 + (byte >> 3));
        base + base / 8 * u64::from(byte & 7)
    });
    Header::Frame {
        // Without one, all of the content.
        window: window.or(content).unwrap_or(0),
        content,
        dictionary: number(dictionary) != 0,
    }
}

/// The first `length` bytes, or all, and the others.
fn split(bytes: &[u8], length: usize) -> (&[u8], &[u8]) {
    bytes.split_at(length.min(bytes.len()))
}

/// A number of at most eight bytes, the lowest first.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `bytes` are the whole header of, and that nothing less is.
    fn whole(bytes: &[u8]) -> Header {
        for less in 0..bytes.len() {
            assert_eq!(read(&bytes[..less]), Header::Incomplete, "{less} bytes");
        }
        read(bytes)
    }

    fn frame(rest: &[u8]) -> Vec<u8> {
        [&MAGIC.to_le_bytes()[..], rest].concat()
    }

    #[test]
    fn each_form_of_a_header_is_read() {
        let is = |window, content, dictionary| Header::Frame {
            window,
            content,
            dictionary,
        };
        // A window of 8 MB, of 8 MB and three eighths, and the largest there is.
        assert_eq!(whole(&frame(&[0x00, 13 << 3])), is(8 << 20, None, false));
        assert_eq!(
            whole(&frame(&[0x04, 13 << 3 | 3])),
            is(11 << 20, None, false)
        );
        assert_eq!(
            whole(&frame(&[0x00, 0xFF])),
            is((1 << 41) / 8 * 15, None, false)
        );
        // The length of the content in 1, 2, 4 and 8 bytes.
        assert_eq!(whole(&frame(&[0x20, 7])), is(7, Some(7), false));
        assert_eq!(whole(&frame(&[0x60, 1, 1])), is(513, Some(513), false));
        assert_eq!(
            whole(&frame(&[0x80, 0, 4, 3, 2, 1])),
            is(1 << 10, Some(0x0102_0304), false)
        );
        let most = u64::MAX;
        let bytes = [&[0xE0][..], &most.to_le_bytes()].concat();
        assert_eq!(whole(&frame(&bytes)), is(most, Some(most), false));
        // A dictionary, and the number that stands for none.
        assert_eq!(whole(&frame(&[0x02, 0, 1, 2])), is(1 << 10, None, true));
        assert_eq!(whole(&frame(&[0x23, 0, 0, 0, 0, 9])), is(9, Some(9), false));
    }

    #[test]
    fn what_is_no_frame_is_known_by_its_first_bytes() {
        assert_eq!(
            whole(&[0x5F, 0x2A, 0x4D, 0x18, 1, 0, 0, 0]),
            Header::Skippable
        );
        assert_eq!(
            whole(&[0x50, 0x2A, 0x4D, 0x18, 0, 0, 0, 0]),
            Header::Skippable
        );
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
