//! The object around a request's values: one of two fields holds them, and the others say nothing.
//!
//! The values are read where they stand, in the order of the text, so that a mistake in them ends the reading.

use super::json::Reader;
use super::{BadRequest, DecodeError, Decoding, Result, malformed};

/// The names of a request's fields and its texts.
pub(super) struct Envelope {
    /// The kind of request, for errors.
    pub(super) what: &'static str,
    /// The fields that hold values.
    pub(super) fields: [&'static str; 2],
    /// The error where both are given.
    pub(super) both: &'static str,
}

impl Envelope {
    /// Reads a request, whose values `values` reads from the field that it is told; `None` where the request has none.
    pub(super) fn read<T>(
        &self,
        body: &[u8],
        decoding: &mut Decoding<'_>,
        mut values: impl FnMut(&mut Reader<'_>, &'static str, &mut Decoding<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let wrong = |problem: String| BadRequest(format!("not {} request: {problem}", self.what));
        // All of it, also what is skipped.
        let text = std::str::from_utf8(body);
        let text = text.map_err(|error| wrong(malformed::no_text(body, error)))?;
        let mut reader = Reader::new(body);
        if reader.is_array() {
            return Err(wrong("an object is expected, not an array".to_owned()).into());
        }
        if !reader.is_object() {
            let words = malformed::of(text);
            let words = words.unwrap_or_else(|| "an object is expected".to_owned());
            return Err(wrong(words).into());
        }
        let mut read = None;
        let mut is_given = [false; 2];
        let whole = reader.object(self.what, |reader, name| {
            let Some(which) = self.fields.iter().position(|field| *field == name) else {
                return Ok(reader.skip(name)?);
            };
            let field = self.fields[which];
            if std::mem::replace(&mut is_given[which], true) {
                return Err(wrong(format!("duplicate field `{field}`")).into());
            }
            if reader.null() {
                return Ok(());
            }
            if read.is_some() {
                return Err(BadRequest(self.both.to_owned()).into());
            }
            read = Some(values(reader, field, decoding)?);
            Ok(())
        });
        let whole = whole.and_then(|()| Ok(reader.end(self.what)?));
        match whole {
            Ok(()) => Ok(read),
            // Of what is not JSON, serde_json says the most.
            Err(DecodeError::Invalid(error)) if reader.is_malformed() || decoding.is_malformed => {
                let words = malformed::of(text).map_or(error, wrong);
                Err(words.into())
            }
            Err(error) => Err(error),
        }
    }
}
