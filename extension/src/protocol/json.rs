//! JSON that is taken apart without being read: where its fields are, each with its value as it stands.
//!
//! A tensor's elements are nearly all of a large request. A parser that looks for the end of a value by reading it takes
//! as long for that as [`array`](super::array) takes for the elements. So a value is left by its brackets and quotes
//! alone, once, whatever it lies in; the code that reads it finds out if it is JSON. A value that nothing reads is for
//! [`Reader::skip`] to check.

use std::borrow::Cow;
use std::cell::Cell;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::array::base64_object;
use super::{BadRequest, malformed};

/// A text, and how far it has been taken apart.
pub(super) struct Reader<'a> {
    text: &'a [u8],
    position: usize,
    /// Set once something was met that is not JSON.
    is_malformed: Cell<bool>,
}

impl<'a> Reader<'a> {
    /// From the beginning of `text`.
    pub(super) fn new(text: &'a [u8]) -> Self {
        let position = after_space(text, 0);
        Self {
            text,
            position,
            is_malformed: Cell::new(false),
        }
    }

    /// From the beginning of a request, before which a byte order mark may stand.
    pub(super) fn of_request(text: &'a [u8]) -> Self {
        let mark = text.len() - malformed::without_mark(text).len();
        let position = after_space(text, mark);
        Self {
            position,
            ..Self::new(text)
        }
    }

    /// Returns true once something was met that is not JSON.
    pub(super) fn is_malformed(&self) -> bool {
        self.is_malformed.get()
    }

    /// The whole text, and the position in it.
    pub(super) fn here(&self) -> (&'a [u8], usize) {
        (self.text, self.position)
    }

    /// Goes on at `position`, before which a value was read.
    pub(super) fn go_to(&mut self, position: usize) {
        self.position = position;
    }

    /// Returns true if an array of objects begins here.
    pub(super) fn is_array_of_objects(&self) -> bool {
        let first = after_space(self.text, self.position + 1);
        self.peek() == Some(b'[') && self.text.get(first) == Some(&b'{')
    }

    /// Returns true if a string in base64 begins here, or an array of which the first item is one.
    pub(super) fn is_base64(&self) -> bool {
        let start = if self.is_array() {
            after_space(self.text, self.position + 1)
        } else {
            self.position
        };
        base64_object(self.text.get(start..).unwrap_or_default()).is_some()
    }

    /// Returns true if an array begins here.
    pub(super) fn is_array(&self) -> bool {
        self.peek() == Some(b'[')
    }

    /// Whether an object begins here.
    pub(super) fn is_object(&self) -> bool {
        self.peek() == Some(b'{')
    }

    /// Goes through the fields of the object that begins here: `each` is given a field's name, and takes its value.
    /// `place` is where the object stands.
    pub(super) fn object<E: From<BadRequest>>(
        &mut self,
        place: &str,
        mut each: impl FnMut(&mut Self, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        self.parts(place, *b"{}", "an object", |reader, _| {
            let name = reader.name(place)?;
            each(reader, &name)
        })
    }

    /// Goes through the items of the array that begins here: `each` is given an item's index, and takes it. `place` is
    /// where the array stands.
    pub(super) fn array<E: From<BadRequest>>(
        &mut self,
        place: &str,
        each: impl FnMut(&mut Self, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        self.parts(place, *b"[]", "an array", each)
    }

    /// Takes the value that begins here, in `place`, as it stands.
    pub(super) fn value(&mut self, place: &str) -> Result<&'a [u8], BadRequest> {
        let rest = self.rest();
        let length = extent(rest).ok_or_else(|| self.malformed(place, "a value"))?;
        self.position += length;
        Ok(&rest[..length])
    }

    /// Reads the value that begins here, in `place`; `expected` says what it must be.
    pub(super) fn read<T: Deserialize<'a>>(
        &mut self,
        place: &str,
        expected: &str,
    ) -> Result<T, BadRequest> {
        value(self.value(place)?, place, expected)
    }

    /// Leaves the value that begins here, in `place`, which nobody reads; it must be JSON all the same.
    pub(super) fn skip(&mut self, place: &str) -> Result<(), BadRequest> {
        let skipped = self.read::<IgnoredAny>(place, "valid JSON");
        if skipped.is_err() {
            self.is_malformed.set(true);
        }
        skipped.map(|_| ())
    }

    /// Takes the null that begins here, if one does.
    pub(super) fn null(&mut self) -> bool {
        let is_null = self.rest().starts_with(b"null");
        self.position += if is_null { 4 } else { 0 };
        is_null
    }

    /// That nothing follows.
    pub(super) fn end(&mut self, place: &str) -> Result<(), BadRequest> {
        self.skip_space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.malformed(place, "the end")),
        }
    }

    fn parts<E: From<BadRequest>>(
        &mut self,
        place: &str,
        [open, close]: [u8; 2],
        expected: &str,
        mut each: impl FnMut(&mut Self, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.peek() != Some(open) {
            return Err(unexpected(self.value(place)?, place, expected).into());
        }
        self.pass();
        for index in 0.. {
            match self.peek() {
                Some(byte) if byte == close => break,
                Some(b',') if index > 0 => self.pass(),
                Some(_) if index == 0 => {}
                _ => return Err(self.malformed(place, "a comma or a closing bracket").into()),
            }
            each(self, index)?;
            self.skip_space();
        }
        self.position += 1;
        Ok(())
    }

    /// Takes a field's name and its colon.
    fn name(&mut self, place: &str) -> Result<Cow<'a, str>, BadRequest> {
        let rest = self.rest();
        let token = string(rest).filter(|_| rest.first() == Some(&b'"'));
        let name = token.and_then(|token| Some((unescape(token)?, token.len())));
        let (name, length) = name.ok_or_else(|| self.malformed(place, "a name"))?;
        self.position += length;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.malformed(place, "a colon"));
        }
        self.pass();
        Ok(name)
    }

    /// Leaves the byte that is here, and the space after it.
    fn pass(&mut self) {
        self.position += 1;
        self.skip_space();
    }

    fn skip_space(&mut self) {
        self.position = after_space(self.text, self.position);
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.position).copied()
    }

    #[cold]
    fn malformed(&self, place: &str, expected: &str) -> BadRequest {
        self.is_malformed.set(true);
        let hint = malformed::hint(self.text, self.position);
        let hint = hint.map_or_else(String::new, |hint| format!(": {hint}"));
        BadRequest(format!(
            "{place}: no valid JSON at byte {} of the request, where {expected} is expected{hint}",
            self.position
        ))
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

/// Takes the value of a field that may be given once.
pub(super) fn once<T>(field: &mut Option<T>, value: T, place: &str) -> Result<(), BadRequest> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(BadRequest(format!("{place} is given twice"))),
    }
}
