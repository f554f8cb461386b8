//! Location of a mistake in rows, searched only after a mistake was found.
//!
//! Elements are read in one pass that does not track rows, so its errors count elements. This module reads the rows
//! again, one by one, up to the invalid row.

use super::json_reader::JsonReader;
use super::{BadRequest, DecodeError, Decoding, array};
use crate::excerpt::Dimensions;
use crate::tensor::Datatype;

/// Maximum levels of nested rows that are searched, so that a request of a few million brackets does not cause as many
/// searches.
const MAX_LEVELS: usize = 4;

/// Returns the error of an array of rows at `path`, with the path of the row. `None` if the array is valid or the
/// mistake is not in a row.
pub(super) fn in_rows(
    text: &[u8],
    datatype: Datatype,
    path: &str,
    decoding: &mut Decoding<'_>,
) -> Option<DecodeError> {
    within(text, datatype, path, MAX_LEVELS, decoding)
}

/// Returns the error of a single value at `path`; `None` if it is valid.
pub(super) fn in_value(
    text: &[u8],
    datatype: Datatype,
    path: &str,
    decoding: &mut Decoding<'_>,
) -> Option<DecodeError> {
    shape(text, datatype, path, MAX_LEVELS, decoding).err()
}

/// Returns the error of a value whose shape differs from the first row's.
pub(super) fn differs(
    (path, shape): (&str, &[usize]),
    (first, expected): (&str, &[usize]),
) -> BadRequest {
    BadRequest(format!(
        "{path} has {}, {first} has {}",
        size(shape),
        size(expected)
    ))
}

/// Reads a value, drops it, and returns its shape.
fn shape(
    text: &[u8],
    datatype: Datatype,
    path: &str,
    levels: usize,
    decoding: &mut Decoding<'_>,
) -> Result<Vec<usize>, DecodeError> {
    let used = decoding.charge.used();
    let read = array::read(text, datatype, &path, None, decoding);
    decoding.charge.shrink(decoding.charge.used() - used);
    match read {
        Ok(array) => Ok(array.shape),
        Err(error) => Err(within(text, datatype, path, levels - 1, decoding).unwrap_or(error)),
    }
}

fn within(
    text: &[u8],
    datatype: Datatype,
    path: &str,
    levels: usize,
    decoding: &mut Decoding<'_>,
) -> Option<DecodeError> {
    // A flat row already counts its elements.
    if levels == 0 || !has_rows(text, path) {
        return None;
    }
    let mut first: Option<Vec<usize>> = None;
    let searched = JsonReader::new(text).array(path, |reader, index| {
        let item = reader.value(path)?;
        let at = format!("{path}[{index}]");
        let shape = shape(item, datatype, &at, levels, decoding).map_err(SearchEnd::Found)?;
        match &first {
            None => first = Some(shape),
            Some(expected) if *expected == shape => {}
            Some(expected) => {
                let first = format!("{path}[0]");
                let differs = differs((&at, &shape), (&first, expected));
                return Err(SearchEnd::Found(differs.into()));
            }
        }
        Ok(())
    });
    match searched {
        Err(SearchEnd::Found(error)) => Some(error),
        Ok(()) | Err(SearchEnd::Row | SearchEnd::Malformed) => None,
    }
}

/// Reason why a search ended before the end of the text.
enum SearchEnd {
    /// The mistake.
    Found(DecodeError),
    /// A row was found.
    Row,
    /// The text is not valid JSON.
    Malformed,
}

impl From<BadRequest> for SearchEnd {
    fn from(_: BadRequest) -> Self {
        SearchEnd::Malformed
    }
}

/// Returns `true` if an item of an array is an array.
fn has_rows(text: &[u8], path: &str) -> bool {
    let searched = JsonReader::new(text).array(path, |reader, _| {
        if reader.is_array() {
            return Err(SearchEnd::Row);
        }
        reader.value(path)?;
        Ok(())
    });
    matches!(searched, Err(SearchEnd::Row))
}

fn size(shape: &[usize]) -> String {
    match shape {
        [] => "a single value".to_owned(),
        [1] => "1 value".to_owned(),
        [count] => format!("{count} values"),
        shape => format!("shape {:?}", Dimensions(shape)),
    }
}
