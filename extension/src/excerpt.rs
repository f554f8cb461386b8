//! Short forms of what a caller sent, for error texts.
//!
//! An error names the field, the name or the value that is wrong, and a caller may have sent megabytes of it. No excerpt
//! shows more than [`MAX_SHOWN`] bytes, so that an error with two of them stays below 200.

use std::fmt;

/// Maximum number of bytes that an excerpt shows.
pub const MAX_SHOWN: usize = 80;

/// The beginning of a text, with its length where that is not all. `{:?}` puts it in quotes.
#[derive(Clone, Copy)]
pub struct Excerpt<'a>(pub &'a str);

impl<'a> Excerpt<'a> {
    /// What is shown, and whether that is all.
    fn shown(self) -> (&'a str, bool) {
        let end = self.0.floor_char_boundary(MAX_SHOWN);
        (&self.0[..end], end == self.0.len())
    }

    fn end(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "… ({} bytes)", self.0.len())
    }
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shown() {
            (all, true) => f.write_str(all),
            (beginning, false) => {
                f.write_str(beginning)?;
                self.end(f)
            }
        }
    }
}

impl fmt::Debug for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shown() {
            (all, true) => fmt::Debug::fmt(all, f),
            (beginning, false) => {
                fmt::Debug::fmt(beginning, f)?;
                self.end(f)
            }
        }
    }
}

/// A text that quotes what a caller sent somewhere in its middle, as a parser's messages do: its beginning and its end.
pub struct Quoting<T>(pub T);

impl<T: fmt::Display> fmt::Display for Quoting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// How much of the end is shown: more than a parser writes behind a value.
        const END: usize = 100;
        let text = self.0.to_string();
        if text.len() <= MAX_SHOWN + END {
            return f.write_str(&text);
        }
        let beginning = text.floor_char_boundary(MAX_SHOWN);
        let end = text.ceil_char_boundary(text.len() - END);
        write!(f, "{}…{}", &text[..beginning], &text[end..])
    }
}

/// A tensor's shape, of which the first dimensions are shown.
#[derive(Clone, Copy)]
pub struct Dimensions<'a>(pub &'a [usize]);

impl fmt::Debug for Dimensions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// As many as a model's inputs have, and few enough of 20 digits each.
        const FIRST: usize = 8;
        match self.0.get(..FIRST) {
            Some(first) if self.0.len() > FIRST => {
                f.write_str("[")?;
                for dimension in first {
                    write!(f, "{dimension}, ")?;
                }
                write!(f, "…] ({} dimensions)", self.0.len())
            }
            _ => fmt::Debug::fmt(self.0, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_text_is_shown_as_it_is() {
        for text in ["", "wine", "a \"b\"", &"é".repeat(MAX_SHOWN / 2)] {
            assert_eq!(Excerpt(text).to_string(), text);
            assert_eq!(format!("{:?}", Excerpt(text)), format!("{text:?}"));
            assert_eq!(Quoting(text).to_string(), text);
        }
        assert_eq!(format!("{:?}", Dimensions(&[2, 0, 3])), "[2, 0, 3]");
        assert_eq!(
            format!("{:?}", Dimensions(&[7; 8])),
            format!("{:?}", [7; 8])
        );
    }

    #[test]
    fn of_a_long_text_the_beginning_and_the_length_are_shown() {
        let text = "x".repeat(1000);
        let beginning = "x".repeat(MAX_SHOWN);
        assert_eq!(
            Excerpt(&text).to_string(),
            format!("{beginning}… (1000 bytes)")
        );
        assert_eq!(
            format!("{:?}", Excerpt(&text)),
            format!("\"{beginning}\"… (1000 bytes)")
        );
        // Never half of a character.
        let text = format!("{}é", "x".repeat(MAX_SHOWN - 1));
        assert_eq!(
            Excerpt(&text).to_string(),
            format!("{}… (81 bytes)", "x".repeat(MAX_SHOWN - 1))
        );
        assert_eq!(
            format!("{:?}", Dimensions(&[1; 9])),
            "[1, 1, 1, 1, 1, 1, 1, 1, …] (9 dimensions)"
        );
    }

    #[test]
    fn of_a_text_that_quotes_the_end_is_shown_as_well() {
        let value = "é".repeat(1000);
        let text = format!("invalid type: string \"{value}\", expected a map at line 1 column 2");
        let shown = Quoting(&text).to_string();
        assert!(shown.starts_with("invalid type: string \"é"), "{shown}");
        assert!(
            shown.ends_with("\", expected a map at line 1 column 2"),
            "{shown}"
        );
        assert!(shown.len() < 200, "{shown}");
    }
}
