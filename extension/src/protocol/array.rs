//! Parser for JSON arrays of scalars, nested or flat, into the elements of a tensor.
//!
//! The parser makes one pass over the text, into a vector of the right type, without a tree of values. Memory for
//! elements is charged before it is allocated. If the number of elements is unknown, it is estimated from the text that
//! was read and the text that is left. So elements are rarely moved, and little memory is reserved unnecessarily.

mod elements;

use std::borrow::Cow;
use std::fmt::Display;

use super::json_reader::after_space;
use super::{BadRequest, DecodeError, Decoding, Result};
use crate::tensor::{Data, Datatype, element_count};
pub(super) use elements::memory_of_text;
use elements::{Elements, ScalarError};

/// Maximum nesting. ONNX Runtime's tensors have far fewer dimensions; deeper nesting is a mistake or an attack.
pub(super) const MAX_RANK: usize = 32;

/// Elements, and the shape of their nesting.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) data: Data,
}

/// Reads JSON text as elements of `datatype`. `path` is the field, for errors. A single scalar has no dimension. If the
/// number of elements is known, memory for `expected` elements is reserved at once.
pub(super) fn read(
    text: impl AsRef<[u8]>,
    datatype: Datatype,
    path: &dyn Display,
    expected: Option<usize>,
    decoding: &mut Decoding<'_>,
) -> Result<Array> {
    let text = text.as_ref();
    let mut elements = Elements::of(datatype, 0);
    elements.begin(text.len(), expected, decoding)?;
    let shape = ArrayParser::parse(text, path, &mut elements, decoding)?;
    let data = elements.finish(decoding)?;
    Ok(Array { shape, data })
}

/// Elements of an input whose value is given row by row.
pub(super) struct Column {
    elements: Elements,
    /// Shape of the first row's value.
    shape: Vec<usize>,
    rows: usize,
}

/// Marks a value that a column does not accept: another type or shape than expected, or invalid JSON.
pub(super) struct Mismatch;

impl Column {
    /// Creates a column without rows, whose first row is at `position` of the text.
    pub(super) fn new(datatype: Datatype, position: usize) -> Self {
        Self {
            elements: Elements::of(datatype, position),
            shape: Vec::new(),
            rows: 0,
        }
    }

    /// Reads the value of the next row at `position` of `text`, and returns the position after the value.
    pub(super) fn row(
        &mut self,
        text: &[u8],
        position: usize,
        decoding: &mut Decoding<'_>,
    ) -> Result<std::result::Result<usize, Mismatch>> {
        if text.get(position) != Some(&b'[') {
            if !self.shape.is_empty() {
                return Ok(Err(Mismatch));
            }
            let read = self.elements.scalar(text, position, decoding);
            return match read {
                Ok(position) => {
                    self.rows += 1;
                    Ok(Ok(position))
                }
                Err(ScalarError::Stopped(stopped)) => Err(stopped.into()),
                Err(_) => Ok(Err(Mismatch)),
            };
        }
        let before = self.elements.count();
        let mut parser = ArrayParser::new(text, position, &"", &mut self.elements, decoding);
        if let Err(error) = parser.array(0) {
            return match error {
                DecodeError::Stopped(_) => Err(error),
                DecodeError::Invalid(_) => Ok(Err(Mismatch)),
            };
        }
        let (shape, position) = (parser.shape(), parser.position);
        let count = self.elements.count() - before;
        let is_new = self.rows == 0;
        if element_count(&shape) != Some(count) || !(is_new || shape == self.shape) {
            return Ok(Err(Mismatch));
        }
        if is_new {
            self.shape = shape;
        }
        self.rows += 1;
        Ok(Ok(position))
    }

    /// Reads all of `text` as one scalar, whose field is `path`.
    pub(super) fn only(
        &mut self,
        text: &[u8],
        path: &dyn Display,
        decoding: &mut Decoding<'_>,
    ) -> Result<()> {
        let read = match text.first() {
            Some(b'[') => None,
            _ => self.row(text, 0, decoding)?.ok(),
        };
        if read.is_some_and(|end| after_space(text, end) == text.len()) {
            return Ok(());
        }
        let mut alone = Elements::of(self.elements.datatype(), 0);
        // Parses the value alone for an error with its path.
        Err(match ArrayParser::parse(text, path, &mut alone, decoding) {
            Err(error) => error,
            Ok(_) => BadRequest(format!("{path} is an array, expected a value")).into(),
        })
    }

    /// Returns the shape of the first row's value.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns all elements, with the rows as the first dimension.
    pub(super) fn finish(self, decoding: &mut Decoding<'_>) -> Result<Array> {
        let mut shape = vec![self.rows];
        shape.extend(self.shape);
        let data = self.elements.finish(decoding)?;
        Ok(Array { shape, data })
    }
}

struct ArrayParser<'a, 'c> {
    text: &'a [u8],
    position: usize,
    path: &'a dyn Display,
    elements: &'a mut Elements,
    decoding: &'a mut Decoding<'c>,
    /// Length of the arrays of each level, once an array of that level has ended.
    lengths: Vec<Option<usize>>,
    /// Level of the scalars, once a scalar was read.
    rank: Option<usize>,
}

impl<'a, 'c> ArrayParser<'a, 'c> {
    fn new(
        text: &'a [u8],
        position: usize,
        path: &'a dyn Display,
        elements: &'a mut Elements,
        decoding: &'a mut Decoding<'c>,
    ) -> Self {
        Self {
            text,
            position,
            path,
            elements,
            decoding,
            lengths: Vec::new(),
            rank: None,
        }
    }

    /// Parses all of the text and returns its shape.
    fn parse(
        text: &'a [u8],
        path: &'a dyn Display,
        elements: &'a mut Elements,
        decoding: &'a mut Decoding<'c>,
    ) -> Result<Vec<usize>> {
        let mut parser = ArrayParser::new(text, 0, path, elements, decoding);
        parser.skip_space();
        if parser.peek() == Some(b'[') {
            parser.array(0)?;
        } else {
            parser.scalars(0)?;
        }
        parser.skip_space();
        if parser.position < text.len() {
            return Err(parser.malformed());
        }
        let shape = parser.shape();
        if element_count(&shape) != Some(parser.elements.count()) {
            return Err(parser.ragged());
        }
        Ok(shape)
    }

    /// Returns the shape of the parsed text.
    fn shape(&self) -> Vec<usize> {
        let rank = self.rank.unwrap_or(self.lengths.len());
        let lengths = self.lengths.iter().take(rank);
        lengths.map(|length| length.unwrap_or(0)).collect()
    }

    fn array(&mut self, level: usize) -> Result<()> {
        if level == MAX_RANK {
            let path = self.path;
            let problem = format!("{path} is nested deeper than {MAX_RANK} levels");
            return Err(BadRequest(problem).into());
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

    fn arrays(&mut self, level: usize) -> Result<usize> {
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

    /// Reads scalars up to the end of the enclosing array, and returns their number.
    fn scalars(&mut self, level: usize) -> Result<usize> {
        if *self.rank.get_or_insert(level) != level || self.lengths.len() > level {
            return Err(self.ragged());
        }
        let before = self.elements.count();
        let (text, position) = (self.text, self.position);
        let read = if level == 0 {
            self.elements.scalar(text, position, self.decoding)
        } else {
            self.elements.scalars(text, position, self.decoding)
        };
        match read {
            Ok(position) => self.position = position,
            Err(ScalarError::Stopped(stopped)) => return Err(stopped.into()),
            Err(ScalarError::Unexpected(start, end)) => {
                let found = String::from_utf8_lossy(&self.text[start..end]);
                return Err(self.unexpected(&found));
            }
            Err(ScalarError::Invalid(problem)) => return Err(self.invalid(&problem)),
            Err(ScalarError::Object) => return Err(self.unexpected("an object")),
            Err(ScalarError::Ragged) => return Err(self.ragged()),
            Err(ScalarError::Malformed) => return Err(self.malformed()),
        }
        Ok(self.elements.count() - before)
    }

    fn skip_space(&mut self) {
        self.position = after_space(self.text, self.position);
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.position).copied()
    }

    fn unexpected(&self, found: &str) -> DecodeError {
        let found: Cow<'_, str> = match found.char_indices().nth(40) {
            Some((end, _)) => format!("{}…", &found[..end]).into(),
            None => found.into(),
        };
        // A single scalar has no index.
        let index = match self.rank {
            Some(0) => String::new(),
            _ => format!("[{}]", self.elements.count()),
        };
        BadRequest(format!(
            "{}{index} is {found}, expected {}",
            self.path,
            self.elements.expected()
        ))
        .into()
    }

    /// Returns the error of a scalar with this problem.
    fn invalid(&self, problem: &str) -> DecodeError {
        let index = match self.rank {
            Some(0) => String::new(),
            _ => format!("[{}]", self.elements.count()),
        };
        BadRequest(format!("{}{index} {problem}", self.path)).into()
    }

    fn ragged(&self) -> DecodeError {
        BadRequest(format!(
            "{} is not rectangular: arrays of one level have different lengths or depths",
            self.path
        ))
        .into()
    }

    fn malformed(&mut self) -> DecodeError {
        self.decoding.is_malformed = true;
        BadRequest(format!("{} is not valid JSON", self.path)).into()
    }
}
