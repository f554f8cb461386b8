//! Excerpts of request data for error messages.
//!
//! An error names the invalid field, name or value, and a caller may have sent megabytes of it. An excerpt shows at
//! most [`MAX_SHOWN`] bytes, so that an error with two excerpts stays below 200 bytes.

use std::fmt;

/// Maximum number of bytes that an excerpt shows.
pub const MAX_SHOWN: usize = 80;

/// Beginning of a text, followed by the length of the text if it is longer. `{:?}` adds quotes.
#[derive(Clone, Copy)]
pub struct Excerpt<'a>(pub &'a str);

impl<'a> Excerpt<'a> {
    /// Returns the part that is shown, and `true` if that is the whole text.
    fn shown(self) -> (&'a str, bool) {
        let end = self.0.floor_char_boundary(MAX_SHOWN);
        (&self.0[..end], end == self.0.len())
    }

    fn write_length(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "… ({} bytes)", self.0.len())
    }
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shown() {
            (all, true) => f.write_str(all),
            (beginning, false) => {
                f.write_str(beginning)?;
                self.write_length(f)
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
                self.write_length(f)
            }
        }
    }
}

/// Beginning and end of a message that quotes request data in its middle, as the messages of parsers do.
pub struct Quoting<T>(pub T);

impl<T: fmt::Display> fmt::Display for Quoting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Number of bytes that are shown of the end: more than a parser writes after a value.
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

/// Shape of a tensor, of which the first dimensions are shown.
#[derive(Clone, Copy)]
pub struct Dimensions<'a>(pub &'a [usize]);

impl fmt::Debug for Dimensions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Number of dimensions that are shown: enough for common models, and few enough at 20 digits each.
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
    fn a_short_text_is_shown_unchanged() {
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
    fn a_long_text_is_shown_as_its_beginning_and_length() {
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
        // Characters are never split.
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
    fn a_long_message_is_shown_as_its_beginning_and_end() {
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
