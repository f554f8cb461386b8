//! A JSON array of scalars, nested or flat, as a tensor's elements.
//!
//! One pass over the text, into a vector of the right type: no tree of values in between, and no second look at what
//! has been read. Memory for elements is charged before it is allocated. Where their number is unknown it is estimated
//! from the text that was read and the text that is left, so that elements are moved rarely and little is reserved in
//! vain.

mod elements;

use std::borrow::Cow;

use super::json::after_space;
use super::{BadRequest, DecodeError, Decoding, Result};
use crate::tensor::{Data, Datatype, element_count};
use elements::{Elements, Stop};
pub(super) use elements::{base64_object, memory_of_text};

/// ONNX Runtime's tensors have far fewer dimensions; nesting beyond this is a mistake or an attack.
pub(super) const MAX_RANK: usize = 32;

/// Elements, and the shape in which they were nested.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) data: Data,
}

/// Reads JSON text as elements of `datatype`; `place` is the field's name, for errors. A scalar alone has no
/// dimension. Memory for `expected` elements is reserved at once, where their number is known.
pub(super) fn read(
    text: impl AsRef<[u8]>,
    datatype: Datatype,
    place: &str,
    expected: Option<usize>,
    decoding: &mut Decoding<'_>,
) -> Result<Array> {
    let text = text.as_ref();
    let mut elements = Elements::of(datatype, 0);
    elements.begin(text.len(), expected, decoding)?;
    let shape = Walk::over(text, place, &mut elements, decoding)?;
    let data = elements.finish(decoding)?;
    Ok(Array { shape, data })
}

/// The elements of one input, of which each row gives a value.
pub(super) struct Column {
    elements: Elements,
    /// The shape of the first row's value.
    shape: Vec<usize>,
    rows: usize,
}

/// A value that a column does not take: of another type or another shape than is expected, or not JSON.
pub(super) struct Unfit;

impl Column {
    /// A column of no rows, whose first row stands at `position` of the text.
    pub(super) fn new(datatype: Datatype, position: usize) -> Self {
        Self {
            elements: Elements::of(datatype, position),
            shape: Vec::new(),
            rows: 0,
        }
    }

    /// Reads the value at `position` of `text` as that of the next row, and returns the position after it.
    pub(super) fn row(
        &mut self,
        text: &[u8],
        position: usize,
        decoding: &mut Decoding<'_>,
    ) -> Result<std::result::Result<usize, Unfit>> {
        if text.get(position) != Some(&b'[') {
            if !self.shape.is_empty() {
                return Ok(Err(Unfit));
            }
            let read = self.elements.scalar(text, position, decoding);
            return match read {
                Ok(position) => {
                    self.rows += 1;
                    Ok(Ok(position))
                }
                Err(Stop::Stopped(stopped)) => Err(stopped.into()),
                Err(_) => Ok(Err(Unfit)),
            };
        }
        let before = self.elements.count();
        let mut walk = Walk::new(text, position, "", &mut self.elements, decoding);
        if let Err(error) = walk.array(0) {
            return match error {
                DecodeError::Stopped(_) => Err(error),
                DecodeError::Invalid(_) => Ok(Err(Unfit)),
            };
        }
        let (shape, position) = (walk.shape(), walk.position);
        let count = self.elements.count() - before;
        let is_new = self.rows == 0;
        if element_count(&shape) != Some(count) || !(is_new || shape == self.shape) {
            return Ok(Err(Unfit));
        }
        if is_new {
            self.shape = shape;
        }
        self.rows += 1;
        Ok(Ok(position))
    }

    /// Reads all of `text` as one scalar, which is at `place`.
    pub(super) fn only(
        &mut self,
        text: &[u8],
        place: &dyn Fn() -> String,
        decoding: &mut Decoding<'_>,
    ) -> Result<()> {
        let read = match text.first() {
            Some(b'[') => None,
            _ => self.row(text, 0, decoding)?.ok(),
        };
        if read.is_some_and(|end| after_space(text, end) == text.len()) {
            return Ok(());
        }
        let place = place();
        let mut alone = Elements::of(self.elements.datatype(), 0);
        // The error of the value by itself, which names its place.
        Err(match Walk::over(text, &place, &mut alone, decoding) {
            Err(error) => error,
            Ok(_) => BadRequest(format!("{place} is an array, expected a value")).into(),
        })
    }

    /// The shape of the first row's value.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// All elements, with the rows as the first dimension.
    pub(super) fn finish(self, decoding: &mut Decoding<'_>) -> Result<Array> {
        let mut shape = vec![self.rows];
        shape.extend(self.shape);
        let data = self.elements.finish(decoding)?;
        Ok(Array { shape, data })
    }
}

struct Walk<'a, 'c> {
    text: &'a [u8],
    position: usize,
    place: &'a str,
    elements: &'a mut Elements,
    decoding: &'a mut Decoding<'c>,
    /// The length of each level, once one array of that level has ended.
    lengths: Vec<Option<usize>>,
    /// How deep the scalars lie, once one has come.
    rank: Option<usize>,
}

impl<'a, 'c> Walk<'a, 'c> {
    fn new(
        text: &'a [u8],
        position: usize,
        place: &'a str,
        elements: &'a mut Elements,
        decoding: &'a mut Decoding<'c>,
    ) -> Self {
        Self {
            text,
            position,
            place,
            elements,
            decoding,
            lengths: Vec::new(),
            rank: None,
        }
    }

    /// Reads all of the text, and gives its shape.
    fn over(
        text: &'a [u8],
        place: &'a str,
        elements: &'a mut Elements,
        decoding: &'a mut Decoding<'c>,
    ) -> Result<Vec<usize>> {
        let mut walk = Walk::new(text, 0, place, elements, decoding);
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
        let shape = walk.shape();
        if element_count(&shape) != Some(walk.elements.count()) {
            return Err(walk.ragged());
        }
        Ok(shape)
    }

    /// The shape of what was read.
    fn shape(&self) -> Vec<usize> {
        let rank = self.rank.unwrap_or(self.lengths.len());
        let lengths = self.lengths.iter().take(rank);
        lengths.map(|length| length.unwrap_or(0)).collect()
    }

    fn array(&mut self, level: usize) -> Result<()> {
        if level == MAX_RANK {
            let place = self.place;
            let problem = format!("{place} is nested deeper than {MAX_RANK} levels");
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

    /// Scalars up to the end of what is around them; how many there are.
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
            Err(Stop::Stopped(stopped)) => return Err(stopped.into()),
            Err(Stop::Unexpected(start, end)) => {
                let found = String::from_utf8_lossy(&self.text[start..end]);
                return Err(self.unexpected(&found));
            }
            Err(Stop::Wrong(problem)) => return Err(self.wrong(&problem)),
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

    fn unexpected(&self, found: &str) -> DecodeError {
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
        .into()
    }

    /// A scalar with a problem of its own.
    fn wrong(&self, problem: &str) -> DecodeError {
        let index = match self.rank {
            Some(0) => String::new(),
            _ => format!("[{}]", self.elements.count()),
        };
        BadRequest(format!("{}{index} {problem}", self.place)).into()
    }

    fn ragged(&self) -> DecodeError {
        BadRequest(format!(
            "{} is not rectangular: arrays of one level have different lengths or depths",
            self.place
        ))
        .into()
    }

    fn malformed(&mut self) -> DecodeError {
        self.decoding.is_malformed = true;
        BadRequest(format!("{} is not valid JSON", self.place)).into()
    }
}
