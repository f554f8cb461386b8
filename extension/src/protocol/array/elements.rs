//! Elements of one datatype, read in sequence.

use aws_smithy_types::base64;

use crate::protocol::json_reader::{self, after_space};
use crate::protocol::number::{self, Element, Scalar};
use crate::protocol::{Decoding, Result, base64_string};
use crate::request_memory::Stopped;
use crate::tensor::{Data, Datatype, Strings};

/// Maximum length of a text, in bytes, for which memory is reserved for as many elements as it can have.
const MAX_SHORT_TEXT: usize = 1024;
/// Number of elements that are reserved before their size in the text is known.
const MIN_RESERVED: usize = 64;
/// Number of elements between two checks for cancellation.
const CHECK_INTERVAL: usize = 16 * 1024;

/// Size of ONNX Runtime's string object, which stores up to [`MAX_INLINE`] bytes inline.
const ONNX_STRING: usize = 32;
const MAX_INLINE: usize = 15;

/// Returns the memory of ONNX Runtime's copy of a string of this length, in bytes: its allocator adds eight bytes and
/// allocates multiples of 16.
fn onnx_copy(length: usize) -> usize {
    let apart = if length > MAX_INLINE {
        (length + 1 + 8).next_multiple_of(16)
    } else {
        0
    };
    ONNX_STRING + apart
}

/// Returns the memory of ONNX Runtime's copies of these strings, in bytes.
pub(in crate::protocol) fn memory_of_text(strings: &Strings) -> usize {
    strings.iter().map(|string| onnx_copy(string.len())).sum()
}

/// Reason why no further scalar could be read.
pub(super) enum ScalarError {
    /// The text between these positions is not an element.
    Unexpected(usize, usize),
    /// The text is not valid JSON.
    Malformed,
    /// An array in place of a scalar.
    Ragged,
    /// An object in place of a scalar.
    Object,
    /// An element with this problem.
    Invalid(String),
    /// The memory budget or the deadline is exceeded.
    Stopped(Stopped),
}

impl From<Stopped> for ScalarError {
    fn from(stopped: Stopped) -> Self {
        ScalarError::Stopped(stopped)
    }
}

/// Numbers or booleans, and the position of the first in the text.
pub(super) struct NumberElements<T> {
    elements: Vec<T>,
    start: usize,
}

/// Strings, and the position of the first in the text.
pub(super) struct StringElements {
    strings: Strings,
    start: usize,
}

/// Defines [`Elements`] over all datatypes.
macro_rules! elements {
    ($($variant:ident $element:ty;)*) => {
        /// Elements of a datatype.
        pub(super) enum Elements {
            $($variant(NumberElements<$element>),)*
            Bytes(StringElements),
        }

        impl Elements {
            /// Creates an empty list; the first element is at `start` in the text.
            pub(super) fn of(datatype: Datatype, start: usize) -> Self {
                match datatype {
                    $(Datatype::$variant => Elements::$variant(NumberElements { elements: Vec::new(), start }),)*
                    Datatype::Bytes => Elements::Bytes(StringElements { strings: Strings::default(), start }),
                }
            }

            /// Returns the element type.
            pub(super) fn datatype(&self) -> Datatype {
                match self {
                    $(Elements::$variant(_) => Datatype::$variant,)*
                    Elements::Bytes(_) => Datatype::Bytes,
                }
            }

            /// Returns the number of elements.
            pub(super) fn count(&self) -> usize {
                match self {
                    $(Elements::$variant(numbers) => numbers.elements.len(),)*
                    Elements::Bytes(texts) => texts.strings.len(),
                }
            }

            /// Reserves memory for the expected elements, or for as many as a short text can have.
            pub(super) fn begin(
                &mut self,
                length: usize,
                expected: Option<usize>,
                decoding: &mut Decoding<'_>,
            ) -> Result<()> {
                let most = length / 2 + 1;
                let count = match expected {
                    // A false shape reserves no more than the text can have.
                    Some(expected) => expected.min(most),
                    None if length <= MAX_SHORT_TEXT => most,
                    None => return Ok(()),
                };
                match self {
                    $(Elements::$variant(numbers) => numbers.reserve(count, decoding)?,)*
                    // The total length of the strings is unknown.
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
            ) -> std::result::Result<usize, ScalarError> {
                match self {
                    $(Elements::$variant(numbers) => numbers.scalar(text, position, decoding),)*
                    Elements::Bytes(texts) => texts.scalar(text, position, decoding),
                }
            }

            /// Reads comma-separated scalars from `position` on, and returns the position after the last.
            pub(super) fn scalars(
                &mut self,
                text: &[u8],
                position: usize,
                decoding: &mut Decoding<'_>,
            ) -> std::result::Result<usize, ScalarError> {
                match self {
                    $(Elements::$variant(numbers) => numbers.scalars(text, position, decoding),)*
                    Elements::Bytes(texts) => texts.scalars(text, position, decoding),
                }
            }

            /// Returns the description of a valid scalar.
            pub(super) fn expected(&self) -> &'static str {
                match self {
                    $(Elements::$variant(_) => <$element>::EXPECTED,)*
                    Elements::Bytes(_) => "a string",
                }
            }

            /// Returns the elements, and charges the memory of ONNX Runtime's copy.
            pub(super) fn finish(self, decoding: &mut Decoding<'_>) -> Result<Data> {
                Ok(match self {
                    $(Elements::$variant(numbers) => numbers.elements.into(),)*
                    Elements::Bytes(StringElements { strings, .. }) => {
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

/// Estimates the number of further items: `count` items came from `read` bytes, and `left` bytes remain. The estimate
/// is a sixteenth above the rate so far, and at least a quarter of `count`.
fn estimate(count: usize, read: usize, left: usize) -> usize {
    let at_this_rate = count as u128 * left as u128 / read.max(1) as u128;
    let at_this_rate = usize::try_from(at_this_rate).unwrap_or(usize::MAX);
    let ahead = at_this_rate.saturating_add(at_this_rate / 16);
    ahead.max(count / 4).max(MIN_RESERVED)
}

impl<T: Element> NumberElements<T> {
    fn reserve(&mut self, more: usize, decoding: &mut Decoding<'_>) -> Result<(), Stopped> {
        decoding.charge.grow(more.saturating_mul(size_of::<T>()))?;
        self.elements.reserve_exact(more);
        Ok(())
    }

    /// Reserves memory for the element at `position`.
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
    ) -> std::result::Result<usize, ScalarError> {
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
    ) -> std::result::Result<usize, ScalarError> {
        loop {
            decoding.charge.check()?;
            if self.elements.len() == self.elements.capacity() {
                self.grow(text, position, decoding)?;
            }
            let spare = self.elements.capacity() - self.elements.len();
            for _ in 0..spare.min(CHECK_INTERVAL) {
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

/// Returns `Ok` with the position after the next comma, or `Err` with the position of another byte.
#[expect(
    clippy::inline_always,
    reason = "most of a large request's time is spent here"
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

/// Reads the scalar at the front of `rest`, which is at `position`, and returns its length.
#[expect(
    clippy::inline_always,
    reason = "most of a large request's time is spent here"
)]
#[inline(always)]
fn read<T: Element>(rest: &[u8], position: usize) -> std::result::Result<(T, usize), ScalarError> {
    // Without a branch per case, since the next byte is unpredictable.
    let begins_number = |byte: &u8| (*byte == b'-') | byte.is_ascii_digit();
    match rest.first() {
        Some(byte) if begins_number(byte) => {
            T::number(rest).ok_or_else(|| unexpected(rest, position))
        }
        Some(_) => other(rest, position),
        None => Err(ScalarError::Malformed),
    }
}

/// Reads a scalar that is not a number.
fn other<T: Element>(rest: &[u8], position: usize) -> std::result::Result<(T, usize), ScalarError> {
    match rest[0] {
        b'[' => return Err(ScalarError::Ragged),
        b'{' => return Err(ScalarError::Object),
        _ => {}
    }
    let (element, length) = if rest[0] == b'"' {
        let token = json_reader::string(rest).ok_or(ScalarError::Malformed)?;
        let text = json_reader::unescape(token).ok_or(ScalarError::Malformed)?;
        (T::other(Scalar::Text(&text)), token.len())
    } else {
        let (scalar, length) = word(rest).ok_or(ScalarError::Malformed)?;
        (T::other(scalar), length)
    };
    let element = element.ok_or(ScalarError::Unexpected(position, position + length))?;
    Ok((element, length))
}

#[cold]
fn unexpected(rest: &[u8], position: usize) -> ScalarError {
    match number::length(rest) {
        Some(length) => ScalarError::Unexpected(position, position + length),
        None => ScalarError::Malformed,
    }
}

/// Returns the JSON literal at the front of `rest`, and its length.
fn word(rest: &[u8]) -> Option<(Scalar<'static>, usize)> {
    let ends = |byte: &u8| !byte.is_ascii_alphanumeric();
    let length = rest.iter().position(ends).unwrap_or(rest.len());
    let scalar = match &rest[..length] {
        b"true" => Scalar::Boolean(true),
        b"false" => Scalar::Boolean(false),
        b"null" => Scalar::Null,
        _ => return None,
    };
    Some((scalar, length))
}

impl StringElements {
    /// Reserves memory for a string of `length` bytes at `position`.
    fn reserve(
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
            // A string is never longer than its JSON form.
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
    ) -> std::result::Result<usize, ScalarError> {
        let rest = text.get(position..).unwrap_or_default();
        let token = match rest.first() {
            Some(b'"') => json_reader::string(rest).ok_or(ScalarError::Malformed)?,
            Some(b'{') if decoding.takes_base64 => {
                return self.in_base64(text, position, decoding);
            }
            Some(_) => return Err(not_a_string(rest, position)),
            None => return Err(ScalarError::Malformed),
        };
        // Charged first, since unescaping takes memory as well.
        self.reserve(token.len(), text, position, decoding)?;
        let string = json_reader::unescape(token).ok_or(ScalarError::Malformed)?;
        self.strings.push(&string);
        Ok(position + token.len())
    }

    fn scalars(
        &mut self,
        text: &[u8],
        mut position: usize,
        decoding: &mut Decoding<'_>,
    ) -> std::result::Result<usize, ScalarError> {
        loop {
            decoding.charge.check()?;
            for _ in 0..CHECK_INTERVAL {
                let end = self.scalar(text, position, decoding)?;
                match after_comma(text, end) {
                    Ok(next) => position = next,
                    Err(end) => return Ok(end),
                }
            }
        }
    }

    /// Reads `{"b64": "…"}`, TensorFlow Serving's form of a string in base64.
    fn in_base64(
        &mut self,
        text: &[u8],
        position: usize,
        decoding: &mut Decoding<'_>,
    ) -> std::result::Result<usize, ScalarError> {
        let rest = text.get(position..).unwrap_or_default();
        let (token, length) = base64_string::object(rest).ok_or(ScalarError::Object)?;
        let inner = &token[1..token.len() - 1];
        // For the decoded bytes, and for the unescaped text.
        self.reserve(inner.len() / 4 * 3 + 3, text, position, decoding)?;
        decoding.charge.grow(inner.len())?;
        let encoded = json_reader::unescape(token).ok_or(ScalarError::Malformed)?;
        let bytes = base64::decode(&*encoded);
        let bytes = bytes.map_err(|_| invalid_base64("is not base64"))?;
        let string = std::str::from_utf8(&bytes).map_err(|_| {
            invalid_base64(
                "holds bytes that are not UTF-8, but a string of an ONNX model must be UTF-8",
            )
        })?;
        self.strings.push(string);
        decoding.charge.shrink(inner.len());
        Ok(position + length)
    }
}

fn invalid_base64(problem: &str) -> ScalarError {
    ScalarError::Invalid(format!("is {{\"b64\": …}}, which {problem}"))
}

/// Returns the error of a value that is not a string.
#[cold]
fn not_a_string(rest: &[u8], position: usize) -> ScalarError {
    match rest[0] {
        b'[' => ScalarError::Ragged,
        b'{' => ScalarError::Object,
        byte if byte == b'-' || byte.is_ascii_digit() => unexpected(rest, position),
        _ => match word(rest) {
            Some((_, length)) => ScalarError::Unexpected(position, position + length),
            None => ScalarError::Malformed,
        },
    }
}
