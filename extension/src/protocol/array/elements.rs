//! Elements of one type, as they are read one after the other.

use aws_smithy_types::base64;

use super::super::json::{self, after_space};
use super::super::number::{self, Element, Scalar};
use super::super::{Decoding, Result};
use crate::request_memory::Stopped;
use crate::tensor::{Data, Datatype, Strings};

/// A text of fewer bytes has memory reserved for as many elements as it can have.
const SHORT: usize = 1024;
/// Elements for which memory is reserved before their size in the text is known.
const FIRST: usize = 64;
/// Elements that are read between two looks at whether the request is cancelled.
const UNATTENDED: usize = 16 * 1024;

/// The bytes of one string in ONNX Runtime, which holds texts of up to [`INSIDE`] bytes in it.
const ONNX_STRING: usize = 32;
const INSIDE: usize = 15;

/// Bytes that ONNX Runtime takes for a copy of a string of this length: its allocator adds eight bytes, and hands out
/// multiples of 16.
fn onnx_copy(length: usize) -> usize {
    let apart = if length > INSIDE {
        (length + 1 + 8).next_multiple_of(16)
    } else {
        0
    };
    ONNX_STRING + apart
}

/// Bytes that ONNX Runtime takes for copies of these strings.
pub(in crate::protocol) fn memory_of_text(strings: &Strings) -> usize {
    strings.iter().map(|string| onnx_copy(string.len())).sum()
}

/// Why no further scalar could be read.
pub(super) enum Stop {
    /// The text from the first to the second position is not an element.
    Unexpected(usize, usize),
    /// The text is not JSON.
    Malformed,
    /// An array among scalars.
    Ragged,
    /// An object.
    Object,
    /// An element with this problem.
    Wrong(String),
    /// Memory or time is over.
    Stopped(Stopped),
}

impl From<Stopped> for Stop {
    fn from(stopped: Stopped) -> Self {
        Stop::Stopped(stopped)
    }
}

/// A vector of numbers or truth values, and the position of the first in the text.
pub(super) struct Numbers<T> {
    elements: Vec<T>,
    start: usize,
}

/// Strings, and the position of the first in the text.
pub(super) struct Texts {
    strings: Strings,
    start: usize,
}

/// Defines [`Elements`] over all datatypes.
macro_rules! elements {
    ($($variant:ident $element:ty;)*) => {
        /// Elements of a datatype.
        pub(super) enum Elements {
            $($variant(Numbers<$element>),)*
            Bytes(Texts),
        }

        impl Elements {
            /// No elements of this datatype, the first of which is at `start` in the text.
            pub(super) fn of(datatype: Datatype, start: usize) -> Self {
                match datatype {
                    $(Datatype::$variant => Elements::$variant(Numbers { elements: Vec::new(), start }),)*
                    Datatype::Bytes => Elements::Bytes(Texts { strings: Strings::default(), start }),
                }
            }

            /// The type of the elements.
            pub(super) fn datatype(&self) -> Datatype {
                match self {
                    $(Elements::$variant(_) => Datatype::$variant,)*
                    Elements::Bytes(_) => Datatype::Bytes,
                }
            }

            /// The number of elements.
            pub(super) fn count(&self) -> usize {
                match self {
                    $(Elements::$variant(numbers) => numbers.elements.len(),)*
                    Elements::Bytes(texts) => texts.strings.len(),
                }
            }

            /// Reserves memory for what a text of this length can have, if it is short, or for the elements that are
            /// expected.
            pub(super) fn begin(
                &mut self,
                length: usize,
                expected: Option<usize>,
                decoding: &mut Decoding<'_>,
            ) -> Result<()> {
                let most = length / 2 + 1;
                let count = match expected {
                    // A shape that lies reserves no more than that.
                    Some(expected) => expected.min(most),
                    None if length <= SHORT => most,
                    None => return Ok(()),
                };
                match self {
                    $(Elements::$variant(numbers) => numbers.reserve(count, decoding)?,)*
                    // The length of the texts is not known.
                    Elements::Bytes(_) => {}
                }
                Ok(())
            }

            /// Reads the scalar at `position`, and returns the position after it.
            pub(super) fn scalar(
                &mut self,
                text: &[u8],
                position: usize,
                decoding: &mut Decoding<'_>,
            ) -> std::result::Result<usize, Stop> {
                match self {
                    $(Elements::$variant(numbers) => numbers.scalar(text, position, decoding),)*
                    Elements::Bytes(texts) => texts.scalar(text, position, decoding),
                }
            }

            /// Reads scalars, with a comma between two, from `position` on, and returns the position after the last.
            pub(super) fn scalars(
                &mut self,
                text: &[u8],
                position: usize,
                decoding: &mut Decoding<'_>,
            ) -> std::result::Result<usize, Stop> {
                match self {
                    $(Elements::$variant(numbers) => numbers.scalars(text, position, decoding),)*
                    Elements::Bytes(texts) => texts.scalars(text, position, decoding),
                }
            }

            /// The form of a scalar.
            pub(super) fn expected(&self) -> &'static str {
                match self {
                    $(Elements::$variant(_) => <$element>::EXPECTED,)*
                    Elements::Bytes(_) => "a string",
                }
            }

            /// The elements, with memory for ONNX Runtime's copy of them charged.
            pub(super) fn finish(self, decoding: &mut Decoding<'_>) -> Result<Data> {
                Ok(match self {
                    $(Elements::$variant(numbers) => numbers.elements.into(),)*
                    Elements::Bytes(Texts { strings, .. }) => {
                        decoding.charge.grow(memory_of_text(&strings))?;
                        strings.into()
                    }
                })
            }
        }
    };
}

elements! {
    Bool bool;
    Uint8 u8;
    Uint16 u16;
    Uint32 u32;
    Uint64 u64;
    Int8 i8;
    Int16 i16;
    Int32 i32;
    Int64 i64;
    Fp16 half::f16;
    Bf16 half::bf16;
    Fp32 f32;
    Fp64 f64;
}

/// How much more is likely to come of what `count` counts, after `read` bytes with `left` bytes to go: a sixteenth more
/// than at the rate so far, and at least a quarter of what there is.
fn estimate(count: usize, read: usize, left: usize) -> usize {
    let at_this_rate = count as u128 * left as u128 / read.max(1) as u128;
    let at_this_rate = usize::try_from(at_this_rate).unwrap_or(usize::MAX);
    let ahead = at_this_rate.saturating_add(at_this_rate / 16);
    ahead.max(count / 4).max(FIRST)
}

impl<T: Element> Numbers<T> {
    fn reserve(&mut self, more: usize, decoding: &mut Decoding<'_>) -> Result<(), Stopped> {
        decoding.charge.grow(more.saturating_mul(size_of::<T>()))?;
        self.elements.reserve_exact(more);
        Ok(())
    }

    /// Sees to it that there is memory for an element at `position`.
    #[cold]
    fn grow(
        &mut self,
        text: &[u8],
        position: usize,
        decoding: &mut Decoding<'_>,
    ) -> Result<(), Stopped> {
        let left = text.len().saturating_sub(position);
        let read = position.saturating_sub(self.start);
        let more = estimate(self.elements.len(), read, left).min(left / 2 + 1);
        self.reserve(more, decoding)
    }

    fn scalar(
        &mut self,
        text: &[u8],
        position: usize,
        decoding: &mut Decoding<'_>,
    ) -> std::result::Result<usize, Stop> {
        if self.elements.len() == self.elements.capacity() {
            self.grow(text, position, decoding)?;
        }
        let rest = text.get(position..).unwrap_or_default();
        let (element, length) = read(rest, position)?;
        self.elements.push(element);
        Ok(position + length)
    }

    fn scalars(
        &mut self,
        text: &[u8],
        mut position: usize,
        decoding: &mut Decoding<'_>,
    ) -> std::result::Result<usize, Stop> {
        loop {
            decoding.charge.check()?;
            if self.elements.len() == self.elements.capacity() {
                self.grow(text, position, decoding)?;
            }
            let room = self.elements.capacity() - self.elements.len();
            for _ in 0..room.min(UNATTENDED) {
                let rest = text.get(position..).unwrap_or_default();
                let (element, length) = read(rest, position)?;
                self.elements.push(element);
                match after_comma(text, position + length) {
                    Ok(next) => position = next,
                    Err(end) => return Ok(end),
                }
            }
        }
    }
}

/// The position of what follows the comma that comes next, or else of what comes in its place.
#[expect(
    clippy::inline_always,
    reason = "most of a large request's time is spent around it"
)]
#[inline(always)]
fn after_comma(text: &[u8], mut position: usize) -> std::result::Result<usize, usize> {
    if text.get(position) != Some(&b',') {
        position = after_space(text, position);
        if text.get(position) != Some(&b',') {
            return Err(position);
        }
    }
    Ok(after_space(text, position + 1))
}

/// The scalar at the beginning of `rest`, which is at `position`, and its length.
#[expect(
    clippy::inline_always,
    reason = "most of a large request's time is spent in it"
)]
#[inline(always)]
fn read<T: Element>(rest: &[u8], position: usize) -> std::result::Result<(T, usize), Stop> {
    // Both at once: which of the two comes next is chance.
    let begins_number = |byte: &u8| (*byte == b'-') | byte.is_ascii_digit();
    match rest.first() {
        Some(byte) if begins_number(byte) => {
            T::number(rest).ok_or_else(|| unexpected(rest, position))
        }
        Some(_) => other(rest, position),
        None => Err(Stop::Malformed),
    }
}

/// A scalar that is not a number.
fn other<T: Element>(rest: &[u8], position: usize) -> std::result::Result<(T, usize), Stop> {
    match rest[0] {
        b'[' => return Err(Stop::Ragged),
        b'{' => return Err(Stop::Object),
        _ => {}
    }
    let (element, length) = if rest[0] == b'"' {
        let token = json::string(rest).ok_or(Stop::Malformed)?;
        let text = json::unescape(token).ok_or(Stop::Malformed)?;
        (T::other(Scalar::Text(&text)), token.len())
    } else {
        let (scalar, length) = word(rest).ok_or(Stop::Malformed)?;
        (T::other(scalar), length)
    };
    let element = element.ok_or(Stop::Unexpected(position, position + length))?;
    Ok((element, length))
}

#[cold]
fn unexpected(rest: &[u8], position: usize) -> Stop {
    match number::length(rest) {
        Some(length) => Stop::Unexpected(position, position + length),
        None => Stop::Malformed,
    }
}

/// The word at the beginning of `rest`, if JSON has it, and its length.
fn word(rest: &[u8]) -> Option<(Scalar<'static>, usize)> {
    let ends = |byte: &u8| !byte.is_ascii_alphanumeric();
    let length = rest.iter().position(ends).unwrap_or(rest.len());
    let scalar = match &rest[..length] {
        b"true" => Scalar::Truth(true),
        b"false" => Scalar::Truth(false),
        b"null" => Scalar::Null,
        _ => return None,
    };
    Some((scalar, length))
}

impl Texts {
    /// Sees to it that there is memory for a string of `length` bytes at `position`.
    fn make_room(
        &mut self,
        length: usize,
        text: &[u8],
        position: usize,
        decoding: &mut Decoding<'_>,
    ) -> Result<(), Stopped> {
        let (strings, bytes) = self.strings.capacity();
        let (count, used) = (self.strings.len(), self.strings.text().len());
        let left = text.len().saturating_sub(position);
        let read = position.saturating_sub(self.start);
        let (mut more, mut more_text) = (0, 0);
        if count == strings {
            // A string has two quotes, and a comma or a bracket.
            more = estimate(count, read, left).min(left / 3 + 1);
        }
        if bytes - used < length {
            // A text is never longer than it is in JSON.
            more_text = estimate(used, read, left).min(left).max(length);
        }
        if more + more_text > 0 {
            decoding.charge.grow(
                more.saturating_mul(Strings::OVERHEAD)
                    .saturating_add(more_text),
            )?;
            self.strings.reserve_exact(more, more_text);
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &[u8],
        position: usize,
        decoding: &mut Decoding<'_>,
    ) -> std::result::Result<usize, Stop> {
        let rest = text.get(position..).unwrap_or_default();
        let token = match rest.first() {
            Some(b'"') => json::string(rest).ok_or(Stop::Malformed)?,
            Some(b'{') if decoding.takes_base64 => {
                return self.in_base64(text, position, decoding);
            }
            Some(_) => return Err(no_text(rest, position)),
            None => return Err(Stop::Malformed),
        };
        // Charged before it is unescaped, which takes memory as well.
        self.make_room(token.len(), text, position, decoding)?;
        let string = json::unescape(token).ok_or(Stop::Malformed)?;
        self.strings.push(&string);
        Ok(position + token.len())
    }

    fn scalars(
        &mut self,
        text: &[u8],
        mut position: usize,
        decoding: &mut Decoding<'_>,
    ) -> std::result::Result<usize, Stop> {
        loop {
            decoding.charge.check()?;
            for _ in 0..UNATTENDED {
                let end = self.scalar(text, position, decoding)?;
                match after_comma(text, end) {
                    Ok(next) => position = next,
                    Err(end) => return Ok(end),
                }
            }
        }
    }

    /// Reads `{"b64": "…"}`, TensorFlow Serving's form of a string that is given in base64.
    fn in_base64(
        &mut self,
        text: &[u8],
        position: usize,
        decoding: &mut Decoding<'_>,
    ) -> std::result::Result<usize, Stop> {
        let rest = text.get(position..).unwrap_or_default();
        let (token, length) = base64_object(rest).ok_or(Stop::Object)?;
        let inner = &token[1..token.len() - 1];
        // For the bytes, and for the text of them if escapes are in it.
        self.make_room(inner.len() / 4 * 3 + 3, text, position, decoding)?;
        decoding.charge.grow(inner.len())?;
        let encoded = json::unescape(token).ok_or(Stop::Malformed)?;
        let bytes = base64::decode(&*encoded);
        let bytes = bytes.map_err(|_| wrong("is not base64"))?;
        let string = std::str::from_utf8(&bytes).map_err(|_| {
            wrong("holds bytes that are not UTF-8, and a string of an ONNX model is UTF-8")
        })?;
        self.strings.push(string);
        decoding.charge.shrink(inner.len());
        Ok(position + length)
    }
}

fn wrong(problem: &str) -> Stop {
    Stop::Wrong(format!("is {{\"b64\": …}}, which {problem}"))
}

/// A value that is not a string.
#[cold]
fn no_text(rest: &[u8], position: usize) -> Stop {
    match rest[0] {
        b'[' => Stop::Ragged,
        b'{' => Stop::Object,
        byte if byte == b'-' || byte.is_ascii_digit() => unexpected(rest, position),
        _ => match word(rest) {
            Some((_, length)) => Stop::Unexpected(position, position + length),
            None => Stop::Malformed,
        },
    }
}

/// The string in an object of the one field `b64`, as it stands, and the length of the object; `None` for any other.
pub(in crate::protocol) fn base64_object(rest: &[u8]) -> Option<(&[u8], usize)> {
    let mut at = 0;
    let mut skip = |token: &[u8]| {
        at = after_space(rest, at);
        rest.get(at..)?
            .starts_with(token)
            .then(|| at += token.len())?;
        Some(at)
    };
    skip(b"{")?;
    skip(b"\"b64\"")?;
    skip(b":")?;
    let value = skip(b"\"")? - 1;
    let token = json::string(&rest[value..])?;
    let end = after_space(rest, value + token.len());
    (rest.get(end) == Some(&b'}')).then_some((token, end + 1))
}
