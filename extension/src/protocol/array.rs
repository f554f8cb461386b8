//! A JSON array of scalars, nested or flat, as a tensor's elements.
//!
//! One pass over the text, into a vector of the right type: no tree of values in between, and no second look at what
//! has been read.

use std::borrow::Cow;

use super::BadRequest;
use super::json::{self, after_space};
use super::number::{self, Element, Scalar};
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
    text: impl AsRef<[u8]>,
    datatype: Datatype,
    place: &str,
    expected: usize,
) -> Result<Array, BadRequest> {
    let text = text.as_ref();
    // A text of n bytes holds at most n / 2 + 1 elements: a shape that lies reserves no more than that.
    let expected = expected.min(text.len() / 2 + 1);
    macro_rules! table {
        ($($variant:ident $element:ty;)*) => {
            match datatype {
                $(Datatype::$variant => {
                    let mut elements = Vec::<$element>::with_capacity(expected);
                    let shape = Walk::over(text, place, &mut elements)?;
                    Ok(Array { shape, data: elements.into() })
                })*
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

/// Where elements go.
trait Elements {
    /// How many there are.
    fn count(&self) -> usize;

    /// Reads scalars, with a comma between two, from `position` up to whatever else; gives where that is.
    fn take(&mut self, text: &[u8], position: usize) -> Result<usize, Stop>;

    /// What a scalar must be.
    fn expected(&self) -> &'static str;
}

/// Why no further scalar could be read.
enum Stop {
    /// What is here is no element. It ends there.
    Unexpected(usize, usize),
    /// What is here is no JSON.
    Malformed,
    /// An array among scalars.
    Ragged,
    /// An object.
    Object,
}

impl<T: Element> Elements for Vec<T> {
    fn count(&self) -> usize {
        self.len()
    }

    fn take(&mut self, text: &[u8], mut position: usize) -> Result<usize, Stop> {
        loop {
            let rest = text.get(position..).unwrap_or_default();
            // Both at once: which of the two comes next is chance.
            let begins_number = |byte: &u8| (*byte == b'-') | byte.is_ascii_digit();
            let length = match rest.first() {
                Some(byte) if begins_number(byte) => match T::number(rest) {
                    Some((element, length)) => {
                        self.push(element);
                        length
                    }
                    None => return Err(unexpected(rest, position)),
                },
                Some(_) => {
                    let (element, length) = other(rest, position)?;
                    self.push(element);
                    length
                }
                None => return Err(Stop::Malformed),
            };
            position += length;
            if text.get(position) != Some(&b',') {
                position = after_space(text, position);
                if text.get(position) != Some(&b',') {
                    return Ok(position);
                }
            }
            position = after_space(text, position + 1);
        }
    }

    fn expected(&self) -> &'static str {
        T::EXPECTED
    }
}

/// A scalar that is no number.
fn other<T: Element>(rest: &[u8], position: usize) -> Result<(T, usize), Stop> {
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
        let length = word(rest);
        let scalar = match &rest[..length] {
            b"true" => Scalar::Truth(true),
            b"false" => Scalar::Truth(false),
            b"null" => Scalar::Null,
            _ => return Err(Stop::Malformed),
        };
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

/// How long the word at the beginning of `rest` is.
fn word(rest: &[u8]) -> usize {
    let ends = |byte: &u8| !byte.is_ascii_alphanumeric();
    rest.iter().position(ends).unwrap_or(rest.len())
}

struct Walk<'a> {
    text: &'a [u8],
    position: usize,
    place: &'a str,
    elements: &'a mut dyn Elements,
    /// The length of each level, once one array of that level has ended.
    lengths: Vec<Option<usize>>,
    /// How deep the scalars lie, once one has come.
    rank: Option<usize>,
}

impl<'a> Walk<'a> {
    /// Reads all of the text, and gives its shape.
    fn over(
        text: &'a [u8],
        place: &'a str,
        elements: &'a mut dyn Elements,
    ) -> Result<Vec<usize>, BadRequest> {
        let mut walk = Walk {
            text,
            position: 0,
            place,
            elements,
            lengths: Vec::new(),
            rank: None,
        };
        walk.skip_space();
        if walk.peek() == Some(b'[') {
            walk.array(0)?;
        } else {
            walk.scalars(0)?;
        }
        walk.skip_space();
        if walk.position < text.len() {
            return Err(walk.malformed());
        }
        let rank = walk.rank.unwrap_or(walk.lengths.len());
        let lengths = walk.lengths.iter().take(rank);
        let shape: Vec<usize> = lengths.map(|length| length.unwrap_or(0)).collect();
        if element_count(&shape) != Some(walk.elements.count()) {
            return Err(walk.ragged());
        }
        Ok(shape)
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
        self.skip_space();
        let length = match self.peek() {
            Some(b']') => 0,
            Some(b'[') => self.arrays(level + 1)?,
            _ => self.scalars(level + 1)?,
        };
        if self.peek() != Some(b']') {
            return Err(self.malformed());
        }
        self.position += 1;
        match self.lengths.get_mut(level) {
            Some(known @ None) => *known = Some(length),
            Some(Some(known)) if *known == length => {}
            _ => return Err(self.ragged()),
        }
        Ok(())
    }

    fn arrays(&mut self, level: usize) -> Result<usize, BadRequest> {
        let mut length = 0;
        loop {
            match self.peek() {
                Some(b'[') => self.array(level)?,
                Some(b',' | b']') | None => return Err(self.malformed()),
                Some(_) => return Err(self.ragged()),
            }
            length += 1;
            self.skip_space();
            if self.peek() != Some(b',') {
                return Ok(length);
            }
            self.position += 1;
            self.skip_space();
        }
    }

    /// Scalars up to the end of what is around them; how many there are.
    fn scalars(&mut self, level: usize) -> Result<usize, BadRequest> {
        if *self.rank.get_or_insert(level) != level || self.lengths.len() > level {
            return Err(self.ragged());
        }
        let before = self.elements.count();
        match self.elements.take(self.text, self.position) {
            Ok(position) => self.position = position,
            Err(Stop::Unexpected(start, end)) => {
                let found = String::from_utf8_lossy(&self.text[start..end]);
                return Err(self.unexpected(&found));
            }
            Err(Stop::Object) => return Err(self.unexpected("an object")),
            Err(Stop::Ragged) => return Err(self.ragged()),
            Err(Stop::Malformed) => return Err(self.malformed()),
        }
        Ok(self.elements.count() - before)
    }

    fn skip_space(&mut self) {
        self.position = after_space(self.text, self.position);
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.position).copied()
    }

    fn unexpected(&self, found: &str) -> BadRequest {
        let found: Cow<'_, str> = match found.char_indices().nth(40) {
            Some((end, _)) => format!("{}…", &found[..end]).into(),
            None => found.into(),
        };
        // A scalar by itself has no place within.
        let index = match self.rank {
            Some(0) => String::new(),
            _ => format!("[{}]", self.elements.count()),
        };
        BadRequest(format!(
            "{}{index} is {found}, expected {}",
            self.place,
            self.elements.expected()
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
