//! Reader that finds the fields of a JSON text without parsing their values.
//!
//! The elements of tensors are nearly all of a large request. A parser that parses a value to find its end takes as
//! long as [`array`](super::array) takes for the elements. So this reader skips a value by its brackets and quotes
//! alone, once, at any nesting. The code that reads the value checks whether it is valid JSON. [`JsonReader::skip`]
//! checks the values that no code reads.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::Display;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{BadRequest, malformed};

/// A text with a position.
pub(super) struct JsonReader<'a> {
    text: &'a [u8],
    position: usize,
    /// `true` once invalid JSON was found.
    is_malformed: Cell<bool>,
}

impl<'a> JsonReader<'a> {
    /// Creates a reader at the beginning of `text`.
    pub(super) fn new(text: &'a [u8]) -> Self {
        let position = after_space(text, 0);
        Self {
            text,
            position,
            is_malformed: Cell::new(false),
        }
    }

    /// Creates a reader at the beginning of a request, after a byte order mark if there is one.
    pub(super) fn of_request(text: &'a [u8]) -> Self {
        let mark = text.len() - malformed::without_byte_order_mark(text).len();
        let position = after_space(text, mark);
        Self {
            position,
            ..Self::new(text)
        }
    }

    /// Returns `true` once invalid JSON was found.
    pub(super) fn is_malformed(&self) -> bool {
        self.is_malformed.get()
    }

    /// Returns the whole text, and the position in it.
    pub(super) fn here(&self) -> (&'a [u8], usize) {
        (self.text, self.position)
    }

    /// Continues at `position`, after a value that was read elsewhere.
    pub(super) fn go_to(&mut self, position: usize) {
        self.position = position;
    }

    /// Returns `true` if an array of objects begins here.
    pub(super) fn is_array_of_objects(&self) -> bool {
        let first = after_space(self.text, self.position + 1);
        self.peek() == Some(b'[') && self.text.get(first) == Some(&b'{')
    }

    /// Returns `true` if an array begins here.
    pub(super) fn is_array(&self) -> bool {
        self.peek() == Some(b'[')
    }

    /// Returns `true` if an object begins here.
    pub(super) fn is_object(&self) -> bool {
        self.peek() == Some(b'{')
    }

    /// Iterates over the fields of the object that begins here. `each` gets a field's name and must consume its value.
    /// `path` is the field of the object.
    pub(super) fn object<E: From<BadRequest>>(
        &mut self,
        path: impl Display + Copy,
        mut each: impl FnMut(&mut Self, &str) -> Result<(), E>,
    ) -> Result<(), E> {
        self.parts(&path, *b"{}", "an object", |reader, _| {
            let name = reader.name(&path)?;
            each(reader, &name)
        })
    }

    /// Iterates over the items of the array that begins here. `each` gets an item's index and must consume the item.
    /// `path` is the field of the array.
    pub(super) fn array<E: From<BadRequest>>(
        &mut self,
        path: impl Display,
        each: impl FnMut(&mut Self, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        self.parts(&path, *b"[]", "an array", each)
    }

    /// Returns the unparsed value that begins here, at `path`.
    pub(super) fn value(&mut self, path: impl Display) -> Result<&'a [u8], BadRequest> {
        let rest = self.rest();
        let length = extent(rest).ok_or_else(|| self.malformed(&path, "a value"))?;
        self.position += length;
        Ok(&rest[..length])
    }

    /// Parses the value that begins here, at `path`; `expected` describes a valid value.
    pub(super) fn read<T: Deserialize<'a>>(
        &mut self,
        path: impl Display,
        expected: &str,
    ) -> Result<T, BadRequest> {
        value(self.value(&path)?, path, expected)
    }

    /// Skips the value that begins here, at `path`, and checks that it is valid JSON.
    pub(super) fn skip(&mut self, path: impl Display) -> Result<(), BadRequest> {
        let skipped = self.read::<IgnoredAny>(path, "valid JSON");
        if skipped.is_err() {
            self.is_malformed.set(true);
        }
        skipped.map(|_| ())
    }

    /// Consumes a `null` that begins here; returns `true` if there is one.
    pub(super) fn null(&mut self) -> bool {
        let is_null = self.rest().starts_with(b"null");
        self.position += if is_null { 4 } else { 0 };
        is_null
    }

    /// Checks that the text ends here.
    pub(super) fn end(&mut self, path: impl Display) -> Result<(), BadRequest> {
        self.skip_space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.malformed(&path, "the end")),
        }
    }

    fn parts<E: From<BadRequest>>(
        &mut self,
        path: &dyn Display,
        [open, close]: [u8; 2],
        expected: &str,
        mut each: impl FnMut(&mut Self, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.peek() != Some(open) {
            return Err(unexpected(self.value(path)?, path, expected).into());
        }
        self.pass();
        for index in 0.. {
            match self.peek() {
                Some(byte) if byte == close => break,
                Some(b',') if index > 0 => self.pass(),
                Some(_) if index == 0 => {}
                _ => return Err(self.malformed(path, "a comma or a closing bracket").into()),
            }
            each(self, index)?;
            self.skip_space();
        }
        self.position += 1;
        Ok(())
    }

    /// Consumes a field's name and its colon.
    fn name(&mut self, path: &dyn Display) -> Result<Cow<'a, str>, BadRequest> {
        let rest = self.rest();
        let token = string(rest).filter(|_| rest.first() == Some(&b'"'));
        let name = token.and_then(|token| Some((unescape(token)?, token.len())));
        let (name, length) = name.ok_or_else(|| self.malformed(path, "a name"))?;
        self.position += length;
        self.skip_space();
        if self.peek() != Some(b':') {
            return Err(self.malformed(path, "a colon"));
        }
        self.pass();
        Ok(name)
    }

    /// Consumes one byte and the space after it.
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
    fn malformed(&self, path: &dyn Display, expected: &str) -> BadRequest {
        self.is_malformed.set(true);
        let hint = malformed::hint(self.text, self.position);
        let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
        BadRequest(format!(
            "{path}: invalid JSON at byte {} of the request, expected {expected}{hint}",
            self.position
        ))
    }
}

/// Returns the length of the value at the front of `rest`, found by its brackets and quotes.
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
        position += next_bracket_or_quote(rest.get(position..)?)?;
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

/// Returns the position of the next bracket or quote.
fn next_bracket_or_quote(rest: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    /// Returns nonzero if one of eight bytes may be a bracket or a quote. Letters and non-ASCII bytes may be false
    /// positives; digits and their punctuation are not.
    fn candidates(eight: u64) -> u64 {
        // All brackets have these two bits set; the characters of numbers have at most one.
        let bracket = (eight & eight << 2) & (0x40 * ONES);
        // The byte that becomes zero borrows.
        let quote = (eight ^ (u64::from(b'"') * ONES)).wrapping_sub(ONES) & (0x80 * ONES);
        bracket | quote
    }
    let exactly = |bytes: &[u8]| bytes.iter().position(|byte| b"\"[]{}".contains(byte));
    let (blocks, tail) = rest.as_chunks::<32>();
    for (index, block) in blocks.iter().enumerate() {
        let eights = block.as_chunks::<8>().0.iter();
        let found = eights.fold(0, |all, eight| all | candidates(u64::from_le_bytes(*eight)));
        if let Some(position) = (found != 0).then(|| exactly(block)).flatten() {
            return Some(index * block.len() + position);
        }
    }
    exactly(tail).map(|position| rest.len() - tail.len() + position)
}

/// Returns the string token at the front of `rest`, including its quotes.
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

/// Unescapes a string token.
pub(super) fn unescape(token: &[u8]) -> Option<Cow<'_, str>> {
    let inner = token.get(1..token.len().checked_sub(1)?)?;
    if inner.iter().any(|byte| *byte < b' ' || *byte == b'\\') {
        serde_json::from_slice::<String>(token).ok().map(Cow::Owned)
    } else {
        std::str::from_utf8(inner).ok().map(Cow::Borrowed)
    }
}

/// Returns the position of the next byte that is not white space.
#[inline]
pub(super) fn after_space(text: &[u8], mut position: usize) -> usize {
    while let Some(b' ' | b'\n' | b'\r' | b'\t') = text.get(position) {
        position += 1;
    }
    position
}

/// Parses the value of the field `path`; `expected` describes a valid value.
pub(super) fn value<'a, T: Deserialize<'a>>(
    text: &'a [u8],
    path: impl Display,
    expected: &str,
) -> Result<T, BadRequest> {
    serde_json::from_slice(text).map_err(|_| unexpected(text, path, expected))
}

/// Returns the error of a value that is not as expected.
pub(super) fn unexpected(text: &[u8], path: impl Display, expected: &str) -> BadRequest {
    let text = String::from_utf8_lossy(text.get(..200).unwrap_or(text));
    let shown: Cow<'_, str> = match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text,
    };
    BadRequest(format!("{path} is {shown}, expected {expected}"))
}

/// Sets the value of a field that may be given once.
pub(super) fn once<T>(
    field: &mut Option<T>,
    value: T,
    path: impl Display,
) -> Result<(), BadRequest> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(BadRequest(format!("{path} is given twice"))),
    }
}
