//! JSON that is taken apart without being read: where its fields are, each with its value as it stands.
//!
//! A tensor's elements are nearly all of a large request. A parser that looks for the end of a value by reading it takes
//! as long for that as [`array`](super::array) takes for the elements. So a value is left by its brackets and quotes
//! alone, and whoever wants it reads it, once, and finds out whether it is JSON. What nobody wants is for
//! [`unwanted`] to check.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::BadRequest;

/// What is no JSON, and where.
#[derive(Debug)]
pub(super) struct Malformed {
    expected: &'static str,
    position: usize,
}

impl Malformed {
    /// As a mistake in `place`.
    pub(super) fn within(&self, place: &str) -> BadRequest {
        let Malformed { expected, position } = self;
        BadRequest(format!(
            "{place}: no valid JSON at byte {position}, where {expected} is expected"
        ))
    }
}

/// The fields of an object, in their order: each name, and its value as it stands.
pub(super) struct Fields<'a>(Parts<'a>);

/// The items of an array, as they stand.
pub(super) struct Items<'a>(Parts<'a>);

/// What is left of an object or an array.
struct Parts<'a> {
    text: &'a [u8],
    position: usize,
    close: u8,
    first: bool,
    ended: bool,
}

/// The fields of the object that `text` is; `None` where it begins as something else.
pub(super) fn fields(text: &[u8]) -> Option<Fields<'_>> {
    Parts::of(text, b'{', b'}').map(Fields)
}

/// The items of the array that `text` is; `None` where it begins as something else.
pub(super) fn items(text: &[u8]) -> Option<Items<'_>> {
    Parts::of(text, b'[', b']').map(Items)
}

impl<'a> Parts<'a> {
    fn of(text: &'a [u8], open: u8, close: u8) -> Option<Self> {
        let start = after_space(text, 0);
        (text.get(start) == Some(&open)).then_some(Self {
            text,
            position: start + 1,
            close,
            first: true,
            ended: false,
        })
    }

    /// Whether a further part begins where the position is now.
    fn begins(&mut self) -> Result<bool, Malformed> {
        self.skip_space();
        let first = std::mem::take(&mut self.first);
        match self.peek() {
            Some(byte) if byte == self.close => {
                self.position += 1;
                self.skip_space();
                if self.position < self.text.len() {
                    return Err(self.malformed("the end"));
                }
                self.ended = true;
                Ok(false)
            }
            Some(b',') if !first => {
                self.position += 1;
                self.skip_space();
                Ok(true)
            }
            Some(_) if first => Ok(true),
            _ => Err(self.malformed("a comma or a closing bracket")),
        }
    }

    fn value(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.position;
        let rest = self.text.get(start..).unwrap_or_default();
        let length = extent(rest).ok_or_else(|| self.malformed("a value"))?;
        self.position += length;
        Ok(&rest[..length])
    }

    fn field(&mut self) -> Result<(Cow<'a, str>, &'a [u8]), Malformed> {
        let rest = self.text.get(self.position..).unwrap_or_default();
        let token = string(rest).filter(|_| rest.first() == Some(&b'"'));
        let name = token.and_then(|token| Some((unescape(token)?, token.len())));
        let (name, length) = name.ok_or_else(|| self.malformed("a name"))?;
        self.position += length;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.malformed("a colon"));
        }
        self.position += 1;
        self.skip_space();
        Ok((name, self.value()?))
    }

    fn next<T>(
        &mut self,
        part: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Option<Result<T, Malformed>> {
        if self.ended {
            return None;
        }
        let next = match self.begins() {
            Ok(true) => Some(part(self)),
            Ok(false) => None,
            Err(malformed) => Some(Err(malformed)),
        };
        self.ended |= matches!(next, Some(Err(_)));
        next
    }

    fn skip_space(&mut self) {
        self.position = after_space(self.text, self.position);
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.position).copied()
    }

    fn malformed(&self, expected: &'static str) -> Malformed {
        Malformed {
            expected,
            position: self.position,
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(Cow<'a, str>, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(Parts::field)
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<&'a [u8], Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(Parts::value)
    }
}

/// How far the value at the beginning of `rest` reaches, by its brackets and quotes.
fn extent(rest: &[u8]) -> Option<usize> {
    match rest.first()? {
        b'"' => return string(rest).map(<[u8]>::len),
        b'[' | b'{' => {}
        b',' | b':' | b']' | b'}' => return None,
        _ => {
            let ends = |byte: &u8| b",]}".contains(byte) || byte.is_ascii_whitespace();
            return Some(rest.iter().position(ends).unwrap_or(rest.len()));
        }
    }
    let mut depth = 0_usize;
    let mut position = 0;
    loop {
        position += mark(rest.get(position..)?)?;
        match rest.get(position)? {
            b'"' => position += string(&rest[position..])?.len(),
            b'[' | b'{' => {
                depth += 1;
                position += 1;
            }
            _ => {
                depth -= 1;
                position += 1;
                if depth == 0 {
                    return Some(position);
                }
            }
        }
    }
}

/// Where the next bracket or quote is.
fn mark(rest: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    /// Whether one of eight bytes may be a bracket or a quote. Letters and what is not ASCII may seem to be, digits and
    /// their punctuation do not.
    fn suspicion(eight: u64) -> u64 {
        // Of all brackets these two bits are set, and of what numbers are written with no more than one.
        let bracket = (eight & eight << 2) & (0x40 * ONES);
        // The byte that becomes zero borrows.
        let quote = (eight ^ (u64::from(b'"') * ONES)).wrapping_sub(ONES) & (0x80 * ONES);
        bracket | quote
    }
    let exactly = |bytes: &[u8]| bytes.iter().position(|byte| b"\"[]{}".contains(byte));
    let (blocks, tail) = rest.as_chunks::<32>();
    for (index, block) in blocks.iter().enumerate() {
        let eights = block.as_chunks::<8>().0.iter();
        let suspicions = eights.fold(0, |all, eight| all | suspicion(u64::from_le_bytes(*eight)));
        if let Some(position) = (suspicions != 0).then(|| exactly(block)).flatten() {
            return Some(index * block.len() + position);
        }
    }
    exactly(tail).map(|position| rest.len() - tail.len() + position)
}

/// The token of the string at the beginning of `rest`, quotes included.
pub(super) fn string(rest: &[u8]) -> Option<&[u8]> {
    let mut escaped = false;
    for (offset, byte) in rest.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return rest.get(..=offset),
            _ => {}
        }
    }
    None
}

/// The text that a string's token stands for.
pub(super) fn unescape(token: &[u8]) -> Option<Cow<'_, str>> {
    let inner = token.get(1..token.len().checked_sub(1)?)?;
    if inner.iter().any(|byte| *byte < b' ' || *byte == b'\\') {
        serde_json::from_slice::<String>(token).ok().map(Cow::Owned)
    } else {
        std::str::from_utf8(inner).ok().map(Cow::Borrowed)
    }
}

/// Where the next byte is that is no space.
#[inline]
pub(super) fn after_space(text: &[u8], mut position: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(position) {
        position += 1;
    }
    position
}

/// Reads the value of the field at `place`; `expected` says what it must be.
pub(super) fn value<'a, T: Deserialize<'a>>(
    text: &'a [u8],
    place: &str,
    expected: &str,
) -> Result<T, BadRequest> {
    serde_json::from_slice(text).map_err(|_| unexpected(text, place, expected))
}

/// What is wrong with a value of another kind than is expected.
pub(super) fn unexpected(text: &[u8], place: &str, expected: &str) -> BadRequest {
    let text = String::from_utf8_lossy(text.get(..200).unwrap_or(text));
    let shown: Cow<'_, str> = match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text,
    };
    BadRequest(format!("{place} is {shown}, expected {expected}"))
}

/// Checks a value that nobody reads.
pub(super) fn unwanted(text: &[u8], place: &str) -> Result<(), BadRequest> {
    value::<IgnoredAny>(text, place, "valid JSON").map(|_| ())
}

/// Takes the value of a field that may be given once.
pub(super) fn once<T>(field: &mut Option<T>, value: T, place: &str) -> Result<(), BadRequest> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(BadRequest(format!("{place} is given twice"))),
    }
}
