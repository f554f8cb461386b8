//! Elements of a tensor of strings, in one block of text.
//!
//! A `Vec<String>` takes 24 bytes and an allocation per string, many times the text of short strings. Here a string
//! takes its text and the eight bytes of its end offset.

use std::fmt;
use std::ops::{Index, Range};

/// Strings in one block of text.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Strings {
    text: String,
    /// End offset of each string in the text, in ascending order.
    ends: Vec<usize>,
}

impl Strings {
    /// Memory of each string in addition to its text, in bytes.
    pub const OVERHEAD: usize = size_of::<usize>();

    /// Creates an empty list with memory for this many strings and bytes of text.
    #[must_use]
    pub fn with_capacity(strings: usize, text: usize) -> Self {
        Self {
            text: String::with_capacity(text),
            ends: Vec::with_capacity(strings),
        }
    }

    /// Creates strings from a text and their end offsets; `None` unless the offsets are character boundaries, ascend,
    /// and end at the end of the text.
    #[must_use]
    pub fn from_parts(text: String, ends: Vec<usize>) -> Option<Self> {
        let is_whole = ends.last().copied().unwrap_or(0) == text.len();
        let fits = ends.is_sorted() && ends.iter().all(|end| text.is_char_boundary(*end));
        (is_whole && fits).then_some(Self { text, ends })
    }

    /// Reserves memory for exactly this many more strings and bytes of text.
    pub fn reserve_exact(&mut self, strings: usize, text: usize) {
        self.ends.reserve_exact(strings);
        self.text.reserve_exact(text);
    }

    /// Returns the capacity in strings and in bytes of text.
    #[must_use]
    pub fn capacity(&self) -> (usize, usize) {
        (self.ends.capacity(), self.text.capacity())
    }

    /// Appends a string.
    pub fn push(&mut self, string: &str) {
        self.text.push_str(string);
        self.ends.push(self.text.len());
    }

    /// Appends all strings of `other`.
    pub fn extend_from(&mut self, other: &Strings) {
        let before = self.text.len();
        self.text.push_str(&other.text);
        self.ends.extend(other.ends.iter().map(|end| before + end));
    }

    /// Returns the number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns `true` if there are no strings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns all strings as one text without separators.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the string at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        self.text.get(self.start(index)..end)
    }

    /// Returns the strings in order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        (0..self.len()).map(|index| &self[index])
    }

    /// Returns a copy of the strings in `range`.
    ///
    /// # Panics
    /// If `range` is out of bounds.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Strings {
        let ends = &self.ends[range.clone()];
        let start = self.start(range.start);
        let end = ends.last().copied().unwrap_or(start);
        Strings {
            text: self.text[start..end].to_owned(),
            ends: ends.iter().map(|end| end - start).collect(),
        }
    }

    /// Returns the addresses of the text.
    pub(super) fn as_ptr_range(&self) -> Range<*const u8> {
        self.text.as_bytes().as_ptr_range()
    }

    /// Returns the start of the string at `index`, which is the end of the previous string.
    fn start(&self, index: usize) -> usize {
        match index.checked_sub(1) {
            Some(before) => self.ends[before],
            None => 0,
        }
    }
}

impl Index<usize> for Strings {
    type Output = str;

    fn index(&self, index: usize) -> &str {
        &self.text[self.start(index)..self.ends[index]]
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut all = Self::default();
        for string in strings {
            all.push(string.as_ref());
        }
        all
    }
}

impl From<Vec<String>> for Strings {
    fn from(strings: Vec<String>) -> Self {
        let text = strings.iter().map(String::len).sum();
        let mut all = Self::with_capacity(strings.len(), text);
        for string in &strings {
            all.push(string);
        }
        all
    }
}

impl fmt::Debug for Strings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The strings equal those of a vector: all, in parts, and joined again.
        #[test]
        fn strings_behave_as_a_vector_of_strings(strings in prop::collection::vec(any::<String>(), 0..6), cut in any::<prop::sample::Index>()) {
            let all = Strings::from(strings.clone());
            prop_assert_eq!(all.iter().collect::<Vec<_>>(), strings.iter().map(String::as_str).collect::<Vec<_>>());
            prop_assert_eq!(all.len(), strings.len());
            prop_assert_eq!(format!("{all:?}"), format!("{strings:?}"));
            let cut = cut.index(strings.len() + 1);
            let (mut first, second) = (all.part(0..cut), all.part(cut..strings.len()));
            prop_assert_eq!(&first, &strings[..cut].iter().collect::<Strings>());
            prop_assert_eq!(second.get(0), strings.get(cut).map(String::as_str));
            first.extend_from(&second);
            prop_assert_eq!(first, all);
        }
    }
}
