//! The place of a mistake in rows that people write by hand, looked for only once there is a mistake.
//!
//! Elements are read in one pass that knows no rows, so its errors count elements. Here the rows are read once more, each
//! by itself, until the one that is wrong.

use super::json::Reader;
use super::{BadRequest, DecodeError, Decoding, array};
use crate::excerpt::Dimensions;
use crate::tensor::Datatype;

/// Levels of rows within rows that are searched: a request of a few million brackets must not cost as many searches.
const DEEPEST: usize = 4;

/// The problem of an array of rows at `place`, with the place of the row; `None` where it has none, or where it is not in
/// a row.
pub(super) fn in_rows(
    text: &[u8],
    datatype: Datatype,
    place: &str,
    decoding: &mut Decoding<'_>,
) -> Option<DecodeError> {
    within(text, datatype, place, DEEPEST, decoding)
}

/// The problem of one value at `place`; `None` where it has none.
pub(super) fn in_value(
    text: &[u8],
    datatype: Datatype,
    place: &str,
    decoding: &mut Decoding<'_>,
) -> Option<DecodeError> {
    shape(text, datatype, place, DEEPEST, decoding).err()
}

/// The problem of a value whose shape is not that of the first row's.
pub(super) fn differs(
    (place, shape): (&str, &[usize]),
    (first, expected): (&str, &[usize]),
) -> BadRequest {
    BadRequest(format!(
        "{place} has {}, {first} has {}",
        size(shape),
        size(expected)
    ))
}

/// The shape of a value, which is read and dropped.
fn shape(
    text: &[u8],
    datatype: Datatype,
    place: &str,
    levels: usize,
    decoding: &mut Decoding<'_>,
) -> Result<Vec<usize>, DecodeError> {
    let used = decoding.charge.used();
    let read = array::read(text, datatype, place, None, decoding);
    decoding.charge.shrink(decoding.charge.used() - used);
    match read {
        Ok(array) => Ok(array.shape),
        Err(error) => Err(within(text, datatype, place, levels - 1, decoding).unwrap_or(error)),
    }
}

fn within(
    text: &[u8],
    datatype: Datatype,
    place: &str,
    levels: usize,
    decoding: &mut Decoding<'_>,
) -> Option<DecodeError> {
    // Elements in a row by themselves are counted already.
    if levels == 0 || !has_rows(text, place) {
        return None;
    }
    let mut first: Option<Vec<usize>> = None;
    let searched = Reader::new(text).array(place, |reader, index| {
        let item = reader.value(place)?;
        let at = format!("{place}[{index}]");
        let shape = shape(item, datatype, &at, levels, decoding).map_err(End::Found)?;
        match &first {
            None => first = Some(shape),
            Some(expected) if *expected == shape => {}
            Some(expected) => {
                let first = format!("{place}[0]");
                let differs = differs((&at, &shape), (&first, expected));
                return Err(End::Found(differs.into()));
            }
        }
        Ok(())
    });
    match searched {
        Err(End::Found(error)) => Some(error),
        Ok(()) | Err(End::Row | End::Malformed) => None,
    }
}

/// The end of a search before the end of the text.
enum End {
    /// The mistake was found.
    Found(DecodeError),
    /// There is a row.
    Row,
    /// The text is not JSON.
    Malformed,
}

impl From<BadRequest> for End {
    fn from(_: BadRequest) -> Self {
        End::Malformed
    }
}

/// Returns true if one of the items of an array is an array.
fn has_rows(text: &[u8], place: &str) -> bool {
    let searched = Reader::new(text).array(place, |reader, _| {
        if reader.is_array() {
            return Err(End::Row);
        }
        reader.value(place)?;
        Ok(())
    });
    matches!(searched, Err(End::Row))
}

fn size(shape: &[usize]) -> String {
    match shape {
        [] => "a value alone".to_owned(),
        [1] => "1 value".to_owned(),
        [count] => format!("{count} values"),
        shape => format!("shape {:?}", Dimensions(shape)),
    }
}
