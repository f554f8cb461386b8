//! The wire format of protobuf, read from a file field by field through one small buffer.
//!
//! As strict as protobuf's own parser in what would mislead a reader: wire types, the end of groups, lengths beyond
//! the message around them, depth. More generous where nothing depends on it: a number may have leading zeros.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use super::{Fault, OnnxError};

/// Enough for the small fields between two large ones, which are not read.
const BUFFER: usize = 8 * 1024;

/// How deep messages and groups may lie in each other: protobuf's own limit, which ONNX Runtime leaves as it is.
pub(super) const DEPTH: u32 = 100;

/// A place in the file: the content of a message, of a text, of bytes.
pub(super) type Span = Range<u64>;

/// A field of a message, with what its wire type says of its value.
#[derive(Debug)]
pub(super) enum Field {
    Number(u32, u64),
    Bytes(u32, Span),
    /// A number of four or eight bytes, or a group: nothing in a model that is asked for here.
    Other,
}

/// The file, of which a small part is in memory.
pub(super) struct Reader<'a> {
    file: &'a File,
    length: u64,
    buffer: Vec<u8>,
    start: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a File) -> Result<Self, OnnxError> {
        Ok(Self {
            file,
            length: file.metadata()?.len(),
            buffer: Vec::new(),
            start: 0,
        })
    }

    /// All of the file.
    pub(super) fn whole(&self) -> Span {
        0..self.length
    }

    /// What stands at `span`, or its first `most` bytes.
    pub(super) fn bytes(&mut self, span: &Span, most: usize) -> Result<&[u8], OnnxError> {
        let length = usize::try_from(span.end - span.start).map_or(most, |length| length.min(most));
        let bytes = self.at(span.start, length)?;
        Ok(bytes.get(..length).unwrap_or(bytes))
    }

    /// Takes the next field off the front of `message`; `None` at its end.
    pub(super) fn field(&mut self, message: &mut Span, depth: u32) -> Result<Option<Field>, Fault> {
        if message.is_empty() {
            return Ok(None);
        }
        let at = message.start;
        let (number, wire_type) = self.tag(message)?;
        self.value(message, number, wire_type, at, depth).map(Some)
    }

    /// Steps over the numbers and short texts at the front of an attribute. A forest has millions of them, each a
    /// field of a few bytes, and one by one they would take seconds.
    pub(super) fn step_over_list(&mut self, attribute: &mut Span) -> Result<(), OnnxError> {
        loop {
            let left = usize::try_from(attribute.end - attribute.start).unwrap_or(usize::MAX);
            let held = self.at(attribute.start, 1)?;
            let held = held.get(..left).unwrap_or(held);
            let mut rest = held;
            while let Some(behind) = behind_element(rest) {
                rest = behind;
            }
            if rest.len() == held.len() {
                return Ok(());
            }
            attribute.start += (held.len() - rest.len()) as u64;
        }
    }

    /// The numbers of a list that is packed into one field.
    pub(super) fn numbers(&mut self, mut list: Span) -> Result<Vec<i64>, Fault> {
        let mut numbers = Vec::new();
        while !list.is_empty() {
            numbers.push(self.varint(&mut list)?.cast_signed());
        }
        Ok(numbers)
    }

    fn tag(&mut self, message: &mut Span) -> Result<(u32, u8), Fault> {
        let at = message.start;
        let tag = self.varint(message)?;
        match u32::try_from(tag) {
            // Three bits are the wire type: they fit.
            Ok(tag) if tag >> 3 != 0 => Ok((tag >> 3, (tag & 7) as u8)),
            _ => Err(malformed(at, "there is no field")),
        }
    }

    fn value(
        &mut self,
        message: &mut Span,
        number: u32,
        wire_type: u8,
        at: u64,
        depth: u32,
    ) -> Result<Field, Fault> {
        match wire_type {
            0 => Ok(Field::Number(number, self.varint(message)?)),
            1 => step_over(message, 8, at).map(|_| Field::Other),
            2 => {
                let length = self.varint(message)?;
                step_over(message, length, at).map(|span| Field::Bytes(number, span))
            }
            3 => self
                .group(message, number, at, depth)
                .map(|()| Field::Other),
            5 => step_over(message, 4, at).map(|_| Field::Other),
            _ => Err(malformed(at, "a field has no known kind")),
        }
    }

    /// Steps over what is left of a group, up to the tag that ends it.
    fn group(&mut self, message: &mut Span, number: u32, at: u64, depth: u32) -> Result<(), Fault> {
        let depth = deeper(depth, at)?;
        loop {
            let at = message.start;
            let (inner, wire_type) = self.tag(message)?;
            if wire_type != 4 {
                self.value(message, inner, wire_type, at, depth)?;
            } else if inner == number {
                return Ok(());
            } else {
                return Err(malformed(at, "the wrong group ends"));
            }
        }
    }

    fn varint(&mut self, message: &mut Span) -> Result<u64, Fault> {
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
        Err(malformed(at, "a number does not end"))
    }

    /// What stands at `at`, which lies in the file: at least `least` bytes, or all up to the end of the file.
    fn at(&mut self, at: u64, least: usize) -> Result<&[u8], OnnxError> {
        let wanted = at.saturating_add(least as u64).min(self.length);
        if at < self.start || wanted > self.start + self.buffer.len() as u64 {
            let left = usize::try_from(self.length - at).unwrap_or(usize::MAX);
            self.buffer.resize(left.min(least.max(BUFFER)), 0);
            self.start = at;
            self.file.read_exact_at(&mut self.buffer, at)?;
        }
        let skip = usize::try_from(at - self.start).unwrap_or(usize::MAX);
        Ok(self.buffer.get(skip..).unwrap_or_default())
    }
}

/// What follows the element of a list that `bytes` begin with, if it is whole and of the usual length. Patterns, without
/// a call: the layer is built for size, and this is the one place that is passed millions of times.
fn behind_element(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        // `floats`.
        [0x3d, _, _, _, _, behind @ ..]
        // `ints` below 2^21, of one to three bytes, the last of which has no upper bit.
        | [0x40, 0..0x80, behind @ ..]
        | [0x40, 0x80..=0xff, 0..0x80, behind @ ..]
        | [0x40, 0x80..=0xff, 0x80..=0xff, 0..0x80, behind @ ..] => Some(behind),
        // `strings` of less than 128 bytes.
        [0x4a, length @ 0..0x80, text @ ..] => text.get(usize::from(*length)..),
        _ => None,
    }
}

/// The value of an enumeration, or of any other field of 32 bits: protobuf takes the lower half of what is written.
#[expect(
    clippy::cast_possible_truncation,
    reason = "that is what protobuf does"
)]
pub(super) fn enumeration(number: u64) -> i32 {
    (number as u32).cast_signed()
}

fn step_over(message: &mut Span, length: u64, at: u64) -> Result<Span, Fault> {
    let start = message.start;
    let left = message.end - start;
    if length > left {
        let reason = format!("{length} bytes should follow and {left} are there");
        return Err(malformed(at, reason));
    }
    message.start = start + length;
    Ok(start..message.start)
}

/// One level less, where there is one.
pub(super) fn deeper(depth: u32, at: u64) -> Result<u32, Fault> {
    depth
        .checked_sub(1)
        .ok_or_else(|| malformed(at, "messages lie too deep in each other"))
}

pub(super) fn malformed(at: u64, reason: impl Into<String>) -> Fault {
    let reason = reason.into();
    Fault::Malformed { at, reason }
}
