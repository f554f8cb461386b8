//! Reader of the protobuf wire format, field by field through one small buffer.
//!
//! The reader is as strict as protobuf's own parser about errors that would mislead it. These are wire types, the end
//! of groups, lengths beyond the enclosing message, and depth. It is more lenient where nothing depends on it: a number
//! may have leading zeros.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use super::{OnnxError, ParseError};
use crate::growing_file::GrowingFile;

/// Size of the buffer in bytes: enough for the small fields between two large fields, which are not read.
const BUFFER_BYTES: usize = 8 * 1024;

/// Maximum nesting of messages and groups: protobuf's own limit, which ONNX Runtime keeps.
pub(super) const MAX_DEPTH: u32 = 100;

/// Position in the file of the content of a message, a string or bytes.
pub(super) type Span = Range<u64>;

/// A field of a message, with its value by wire type.
#[derive(Debug)]
pub(super) enum Field {
    Number(u32, u64),
    Bytes(u32, Span),
    /// A fixed-width number of four bytes, such as a float.
    Fixed32(u32, Span),
    /// A fixed-width number of eight bytes or a group, which no part of a model needed here uses.
    Other,
}

/// A file with a small buffer.
pub(super) struct WireReader<'a> {
    file: &'a File,
    length: u64,
    /// The file, if it is still being written.
    growing: Option<&'a GrowingFile>,
    buffer: Vec<u8>,
    start: u64,
}

impl<'a> WireReader<'a> {
    pub(super) fn new(file: &'a File) -> Result<Self, OnnxError> {
        Ok(Self {
            file,
            length: file.metadata()?.len(),
            growing: None,
            buffer: Vec::new(),
            start: 0,
        })
    }

    /// Returns a reader of a file that is still being written. Each read waits for its bytes.
    pub(super) fn growing(file: &'a GrowingFile) -> Self {
        Self {
            file: file.file(),
            length: file.length(),
            growing: Some(file),
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// Returns the span of the whole file.
    pub(super) fn whole(&self) -> Span {
        0..self.length
    }

    /// Returns the bytes at `span`, at most the first `most`.
    pub(super) fn bytes(&mut self, span: &Span, most: usize) -> Result<&[u8], OnnxError> {
        let length = usize::try_from(span.end - span.start).map_or(most, |length| length.min(most));
        let bytes = self.at(span.start, length)?;
        Ok(bytes.get(..length).unwrap_or(bytes))
    }

    /// Returns all bytes at `span`.
    pub(super) fn copy(&mut self, span: &Span) -> Result<Vec<u8>, OnnxError> {
        let length = usize::try_from(span.end - span.start).unwrap_or(usize::MAX);
        self.available(span.end)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, span.start)?;
        Ok(bytes)
    }

    /// Reads the next field and removes it from `message`; `None` at the end.
    pub(super) fn field(
        &mut self,
        message: &mut Span,
        depth: u32,
    ) -> Result<Option<Field>, ParseError> {
        if message.is_empty() {
            return Ok(None);
        }
        let at = message.start;
        let (number, wire_type) = self.tag(message)?;
        self.value(message, number, wire_type, at, depth).map(Some)
    }

    /// Skips the numbers and short strings at the front of an attribute. A decision forest has millions of them, and
    /// reading them one by one would take seconds.
    pub(super) fn skip_list(&mut self, attribute: &mut Span) -> Result<(), OnnxError> {
        loop {
            let left = usize::try_from(attribute.end - attribute.start).unwrap_or(usize::MAX);
            let held = self.at(attribute.start, 1)?;
            let held = held.get(..left).unwrap_or(held);
            let mut rest = held;
            while let Some(next) = after_element(rest) {
                rest = next;
            }
            if rest.len() == held.len() {
                return Ok(());
            }
            attribute.start += (held.len() - rest.len()) as u64;
        }
    }

    /// Reads the numbers of a packed list.
    pub(super) fn numbers(&mut self, mut list: Span) -> Result<Vec<i64>, ParseError> {
        let mut numbers = Vec::new();
        while !list.is_empty() {
            numbers.push(self.varint(&mut list)?.cast_signed());
        }
        Ok(numbers)
    }

    fn tag(&mut self, message: &mut Span) -> Result<(u32, u8), ParseError> {
        let at = message.start;
        let tag = self.varint(message)?;
        match u32::try_from(tag) {
            // The wire type has three bits.
            Ok(tag) if tag >> 3 != 0 => Ok((tag >> 3, (tag & 7) as u8)),
            _ => Err(malformed(at, "a field number is invalid")),
        }
    }

    fn value(
        &mut self,
        message: &mut Span,
        number: u32,
        wire_type: u8,
        at: u64,
        depth: u32,
    ) -> Result<Field, ParseError> {
        match wire_type {
            0 => Ok(Field::Number(number, self.varint(message)?)),
            1 => skip(message, 8, at).map(|_| Field::Other),
            2 => {
                let length = self.varint(message)?;
                skip(message, length, at).map(|span| Field::Bytes(number, span))
            }
            3 => self
                .group(message, number, at, depth)
                .map(|()| Field::Other),
            5 => skip(message, 4, at).map(|span| Field::Fixed32(number, span)),
            _ => Err(malformed(at, "a field has an unknown wire type")),
        }
    }

    /// Skips the rest of a group, up to its end tag.
    fn group(
        &mut self,
        message: &mut Span,
        number: u32,
        at: u64,
        depth: u32,
    ) -> Result<(), ParseError> {
        let depth = deeper(depth, at)?;
        loop {
            let at = message.start;
            let (inner, wire_type) = self.tag(message)?;
            if wire_type != 4 {
                self.value(message, inner, wire_type, at, depth)?;
            } else if inner == number {
                return Ok(());
            } else {
                return Err(malformed(at, "a group ends that is not open"));
            }
        }
    }

    fn varint(&mut self, message: &mut Span) -> Result<u64, ParseError> {
        let at = message.start;
        let left = message.end - at;
        let mut value = 0;
        for (index, byte) in (0..left.min(10)).zip(self.at(at, 10)?) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                message.start = at + index + 1;
                return Ok(value);
            }
        }
        Err(malformed(at, "a number is truncated or too long"))
    }

    /// Returns the bytes at `at`, which is inside the file: at least `least` bytes, or all up to the end of the file.
    fn at(&mut self, at: u64, least: usize) -> Result<&[u8], OnnxError> {
        let wanted = at.saturating_add(least as u64).min(self.length);
        if at < self.start || wanted > self.start + self.buffer.len() as u64 {
            let available = self.available(wanted)?;
            let left = usize::try_from(available - at).unwrap_or(usize::MAX);
            self.buffer.resize(left.min(least.max(BUFFER_BYTES)), 0);
            self.start = at;
            self.file.read_exact_at(&mut self.buffer, at)?;
        }
        let skip = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        Ok(self.buffer.get(skip..).unwrap_or_default())
    }

    /// Waits for the bytes before `end`. Returns the number of bytes that can be read, at least `end`.
    fn available(&self, end: u64) -> io::Result<u64> {
        self.growing
            .map_or(Ok(self.length), |growing| growing.wait_for(end))
    }
}

/// Returns the bytes after the list element at the front of `bytes`, if the element is complete and of a usual length.
///
/// Uses patterns without a call, since the binary is built for size and this code runs millions of times per file.
fn after_element(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        // `floats`.
        [0x3d, _, _, _, _, rest @ ..]
        // `ints` below 2^21: one to three bytes, the last without the continuation bit.
        | [0x40, 0..0x80, rest @ ..]
        | [0x40, 0x80..=0xff, 0..0x80, rest @ ..]
        | [0x40, 0x80..=0xff, 0x80..=0xff, 0..0x80, rest @ ..] => Some(rest),
        // `strings` of less than 128 bytes.
        [0x4a, length @ 0..0x80, text @ ..] => text.get(usize::from(*length)..),
        _ => None,
    }
}

/// Returns the value of an enumeration, or of any other 32-bit field: protobuf takes the lower half.
#[expect(clippy::cast_possible_truncation, reason = "protobuf does the same")]
pub(super) fn enumeration(number: u64) -> i32 {
    (number as u32).cast_signed()
}

fn skip(message: &mut Span, length: u64, at: u64) -> Result<Span, ParseError> {
    let start = message.start;
    let left = message.end - start;
    if length > left {
        let reason = format!("{length} bytes are declared and {left} remain");
        return Err(malformed(at, reason));
    }
    message.start = start + length;
    Ok(start..message.start)
}

/// Returns the remaining depth inside a nested message, if any.
pub(super) fn deeper(depth: u32, at: u64) -> Result<u32, ParseError> {
    depth
        .checked_sub(1)
        .ok_or_else(|| malformed(at, "messages are nested too deeply"))
}

pub(super) fn malformed(at: u64, reason: impl Into<String>) -> ParseError {
    let reason = reason.into();
    ParseError::Malformed { at, reason }
}

/// Returns the string at `span`, whatever its length.
pub(super) fn text(reader: &mut WireReader<'_>, span: &Span) -> Result<String, ParseError> {
    let bytes = reader.copy(span)?;
    String::from_utf8(bytes).map_err(|_| malformed(span.start, "a string is not UTF-8"))
}
