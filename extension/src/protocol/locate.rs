//! Where in rows that people write by hand something is wrong: only asked once something is.
//!
//! Elements are read in one pass that knows no rows, so its errors count elements. Here the rows are read once more, each
//! by itself, until the one that is wrong.

use serde_json::value::RawValue;

use super::{BadRequest, array};
use crate::tensor::Datatype;

/// Rows within rows are looked into so deep: a request of a few million brackets must not cost as many looks.
const DEEPEST: usize = 4;

/// What is wrong with an array of rows at `place`, with the place of the row; `None` where it has none.
pub(super) fn in_rows(text: &str, datatype: Datatype, place: &str) -> Option<BadRequest> {
    within(text, datatype, place, DEEPEST)
}

/// What is wrong with one of these rows, each at a place of its own.
pub(super) fn in_items<'a>(
    items: impl IntoIterator<Item = (String, &'a str)>,
    datatype: Datatype,
) -> Option<BadRequest> {
    among(items, datatype, DEEPEST)
}

fn within(text: &str, datatype: Datatype, place: &str, levels: usize) -> Option<BadRequest> {
    let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
    // Elements in a row by themselves are counted already.
    if levels == 0 || !items.iter().any(|item| item.get().starts_with('[')) {
        return None;
    }
    let items = items.iter().enumerate();
    let items = items.map(|(index, item)| (format!("{place}[{index}]"), item.get()));
    among(items, datatype, levels)
}

fn among<'a>(
    items: impl IntoIterator<Item = (String, &'a str)>,
    datatype: Datatype,
    levels: usize,
) -> Option<BadRequest> {
    let mut first: Option<(String, Vec<usize>)> = None;
    for (place, text) in items {
        let shape = match array::read(text, datatype, &place, 0) {
            Ok(array) => array.shape,
            Err(error) => {
                return Some(within(text, datatype, &place, levels - 1).unwrap_or(error));
            }
        };
        match &first {
            None => first = Some((place, shape)),
            Some((_, expected)) if *expected == shape => {}
            Some((other, expected)) => {
                return Some(BadRequest(format!(
                    "{place} has {}, {other} has {}",
                    size(&shape),
                    size(expected)
                )));
            }
        }
    }
    None
}

fn size(shape: &[usize]) -> String {
    match shape {
        [] => "a value alone".to_owned(),
        [1] => "1 value".to_owned(),
        [count] => format!("{count} values"),
        shape => format!("shape {shape:?}"),
    }
}
