//! The object around a request's values: one of two fields holds them, and the others say nothing.
//!
//! The values are read where they stand, in the order of the text, so that a mistake in them ends the reading.

use super::json::Reader;
use super::{BadRequest, DecodeError, Decoding, Result, malformed};
use crate::excerpt::Excerpt;

/// The names of a request's fields and its texts.
pub(super) struct Envelope {
    /// The kind of request, for errors, as in "a prediction request".
    pub(super) what: &'static str,
    /// The fields that hold values.
    pub(super) fields: [&'static str; 2],
    /// The fields in words, for the error where none is given.
    pub(super) missing: &'static str,
    /// The error where both are given.
    pub(super) both: &'static str,
}

impl Envelope {
    /// Reads a request, whose values `values` reads from the field that it is told. Inside, the error of a request that
    /// has none of the fields.
    pub(super) fn read<T>(
        &self,
        body: &[u8],
        decoding: &mut Decoding<'_>,
        mut values: impl FnMut(&mut Reader<'_>, &'static str, &mut Decoding<'_>) -> Result<T>,
    ) -> Result<Result<T, BadRequest>> {
        malformed::check_object(body, self.what)?;
        let mut reader = Reader::of_request(body);
        let mut read = None;
        let mut is_given = [false; 2];
        let whole = reader.object(self.what, |reader, name| {
            let Some(which) = self.fields.iter().position(|field| *field == name) else {
                return Ok(reader.skip(self.what)?);
            };
            let field = self.fields[which];
            if std::mem::replace(&mut is_given[which], true) {
                let problem = format!("not {}: duplicate field `{field}`", self.what);
                return Err(BadRequest(problem).into());
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
            Ok(()) => Ok(read.ok_or_else(|| self.neither(body))),
            // Of what is not JSON, serde_json says the most.
            Err(DecodeError::Invalid(error)) if reader.is_malformed() || decoding.is_malformed => {
                Err(malformed::of(body, self.what).unwrap_or(error).into())
            }
            Err(error) => Err(error),
        }
    }

    /// The error of a request without values, which may have another field.
    #[cold]
    fn neither(&self, body: &[u8]) -> BadRequest {
        let mut other = String::new();
        let mut reader = Reader::of_request(body);
        // The request was read to its end before.
        let _ = reader.object(self.what, |reader, name| {
            if other.is_empty() && !self.fields.contains(&name) {
                other = format!("; the request has {:?}, which is not read", Excerpt(name));
            }
            reader.skip(self.what)
        });
        BadRequest(format!("missing required field: {}{other}", self.missing))
    }
}
