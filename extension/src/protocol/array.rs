//! A JSON array of scalars, nested or flat, as a tensor's elements.
//!
//! One pass over the text, into a vector of the right type: no tree of values in between. The text comes from
//! `serde_json`'s raw value, so it is JSON already; what remains is to take it apart.

use std::borrow::Cow;

use super::BadRequest;
use super::number::{Element, Scalar};
use crate::tensor::{Data, Datatype, element_count};

/// ONNX Runtime's tensors have far fewer dimensions; nesting beyond this is a mistake or an attack.
const MAX_RANK: usize = 32;

/// Elements, and the shape in which they were nested.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) data: Data,
}

/// Reads JSON text as elements of `datatype`; `place` is the field's name, for errors. A scalar alone has no
/// dimension. `expected` elements are reserved at once.
pub(super) fn read(
    text: &str,
    datatype: Datatype,
    place: &str,
    expected: usize,
) -> Result<Array, BadRequest> {
    macro_rules! table {
        ($($variant:ident $element:ty;)*) => {
            match datatype {
                $(Datatype::$variant => Walk::<$element>::over(text, place, expected),)*
            }
        };
    }
    table! {
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
        Bytes String;
    }
}

struct Walk<'a, T> {
    text: &'a str,
    position: usize,
    place: &'a str,
    /// The length of each level, once one array of that level has ended.
    lengths: Vec<Option<usize>>,
    /// The level on which scalars stand, once one has been seen.
    rank: Option<usize>,
    elements: Vec<T>,
}

impl<'a, T: Element> Walk<'a, T>
where
    Data: From<Vec<T>>,
{
    fn over(text: &'a str, place: &'a str, expected: usize) -> Result<Array, BadRequest> {
        // A text of n bytes holds at most n / 2 + 1 elements: a shape that lies reserves no more than that.
        let elements = Vec::with_capacity(expected.min(text.len() / 2 + 1));
        let mut walk = Walk {
            text,
            position: 0,
            place,
            lengths: Vec::new(),
            rank: None,
            elements,
        };
        walk.value(0)?;
        let rank = walk.rank.unwrap_or(walk.lengths.len());
        let shape: Vec<usize> = walk
            .lengths
            .iter()
            .take(rank)
            .map(|length| length.unwrap_or(0))
            .collect();
        if element_count(&shape) != Some(walk.elements.len()) {
            return Err(walk.ragged());
        }
        Ok(Array {
            shape,
            data: walk.elements.into(),
        })
    }

    fn value(&mut self, level: usize) -> Result<(), BadRequest> {
        self.skip_space();
        match self.peek() {
            Some(b'[') => self.array(level),
            Some(b'{') => Err(self.unexpected("an object")),
            Some(_) => self.scalar(level),
            None => Err(self.malformed()),
        }
    }

    fn array(&mut self, level: usize) -> Result<(), BadRequest> {
        if level == MAX_RANK {
            return Err(BadRequest(format!(
                "{} is nested deeper than {MAX_RANK} levels",
                self.place
            )));
        }
        if self.rank.is_some_and(|rank| rank <= level) {
            return Err(self.ragged());
        }
        if self.lengths.len() == level {
            self.lengths.push(None);
        }
        self.position += 1;
        let mut length = 0;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.position += 1;
        } else {
            loop {
                self.value(level + 1)?;
                length += 1;
                self.skip_space();
                let separator = self.peek();
                self.position += 1;
                match separator {
                    Some(b',') => {}
                    Some(b']') => break,
                    _ => return Err(self.malformed()),
                }
            }
        }
        match self.lengths.get_mut(level) {
            Some(known @ None) => *known = Some(length),
            Some(Some(known)) if *known == length => {}
            _ => return Err(self.ragged()),
        }
        Ok(())
    }

    fn scalar(&mut self, level: usize) -> Result<(), BadRequest> {
        if *self.rank.get_or_insert(level) != level || self.lengths.len() > level {
            return Err(self.ragged());
        }
        let start = self.position;
        let element = if self.peek() == Some(b'"') {
            let token = self.string_token()?;
            let text = unescape(token).ok_or_else(|| self.malformed())?;
            T::read(Scalar::Text(&text))
        } else {
            let token = self.plain_token();
            T::read(match token {
                "true" => Scalar::Truth(true),
                "false" => Scalar::Truth(false),
                "null" => Scalar::Null,
                number => Scalar::Number(number),
            })
        };
        match element {
            Some(element) => {
                self.elements.push(element);
                Ok(())
            }
            None => Err(self.unexpected(self.text.get(start..self.position).unwrap_or_default())),
        }
    }

    /// The token of a string, quotes included.
    fn string_token(&mut self) -> Result<&'a str, BadRequest> {
        let start = self.position;
        let mut escaped = false;
        for (offset, byte) in self.text.bytes().enumerate().skip(start + 1) {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    self.position = offset + 1;
                    return self
                        .text
                        .get(start..self.position)
                        .ok_or_else(|| self.malformed());
                }
                _ => {}
            }
        }
        Err(self.malformed())
    }

    /// The token of a number, `true`, `false` or `null`.
    fn plain_token(&mut self) -> &'a str {
        let rest = self.text.get(self.position..).unwrap_or_default();
        let ends = |byte: u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t');
        let length = rest.bytes().position(ends).unwrap_or(rest.len());
        self.position += length;
        rest.get(..length).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.position += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn unexpected(&self, found: &str) -> BadRequest {
        let found: Cow<'_, str> = match found.char_indices().nth(40) {
            Some((end, _)) => format!("{}…", &found[..end]).into(),
            None => found.into(),
        };
        BadRequest(format!(
            "{}[{}] is {found}, expected {}",
            self.place,
            self.elements.len(),
            T::EXPECTED
        ))
    }

    fn ragged(&self) -> BadRequest {
        BadRequest(format!(
            "{} is not rectangular: arrays of one level have different lengths or depths",
            self.place
        ))
    }

    fn malformed(&self) -> BadRequest {
        BadRequest(format!("{} is not valid JSON", self.place))
    }
}

fn unescape(token: &str) -> Option<Cow<'_, str>> {
    if token.contains('\\') {
        serde_json::from_str::<String>(token).ok().map(Cow::Owned)
    } else {
        token.get(1..token.len() - 1).map(Cow::Borrowed)
    }
}
