//! The object around a request's values: one of two fields holds the values, and other fields are ignored.
//!
//! The values are read in place, in the order of the text, so that reading ends at the first mistake in them.

use super::json_reader::JsonReader;
use super::{BadRequest, DecodeError, Decoding, Result, malformed};
use crate::excerpt::Excerpt;

/// Field names and error texts of a request.
pub(super) struct Envelope {
    /// Kind of request, for errors, as in "a prediction request".
    pub(super) what: &'static str,
    /// Fields that may hold the values.
    pub(super) fields: [&'static str; 2],
    /// Text for the error of a request without values.
    pub(super) missing: &'static str,
    /// Error of a request with both fields.
    pub(super) both: &'static str,
}

impl Envelope {
    /// Reads a request; `values` reads the values of the given field. The inner result is the error of a request with
    /// neither field.
    pub(super) fn read<T>(
        &self,
        body: &[u8],
        decoding: &mut Decoding<'_>,
        mut values: impl FnMut(&mut JsonReader<'_>, &'static str, &mut Decoding<'_>) -> Result<T>,
    ) -> Result<Result<T, BadRequest>> {
        malformed::check_object(body, self.what)?;
        let mut reader = JsonReader::of_request(body);
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
            // serde_json describes invalid JSON in most detail.
            Err(DecodeError::Invalid(error)) if reader.is_malformed() || decoding.is_malformed => {
                Err(malformed::of(body, self.what).unwrap_or(error).into())
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the error of a request without values, which may have another field.
    #[cold]
    fn neither(&self, body: &[u8]) -> BadRequest {
        let mut other = String::new();
        let mut reader = JsonReader::of_request(body);
        // The request was read to its end before, so this cannot fail.
        let _ = reader.object(self.what, |reader, name| {
            if other.is_empty() && !self.fields.contains(&name) {
                other = format!("; the request has {:?}, which is ignored", Excerpt(name));
            }
            reader.skip(self.what)
        });
        BadRequest(format!("missing required field: {}{other}", self.missing))
    }
}
