//! Dense form of scikit-learn's probabilities.
//!
//! skl2onnx's `ZipMap` returns a sequence of maps, one per row, from class to probability. No protocol supports this
//! type, so the response has an FP32 tensor `[N, C]` and the names of the classes.

use std::borrow::Cow;
use std::sync::Arc;

use crate::tensor::{Data, Maps, Strings, Tensor, Value};

/// Returns the dense form of a sequence of maps from class to number; `None` for any other value. Columns are in the
/// order in which the classes first appear (sorted, for `ZipMap`); a missing class is NaN.
pub(super) fn dense(value: &Value) -> Option<Cow<'_, Maps>> {
    match value {
        Value::Maps(maps) => Some(Cow::Borrowed(maps)),
        Value::Sequence(rows) => of_sequence(rows).map(Cow::Owned),
        _ => None,
    }
}

/// Returns the tensor of a value, or its dense form with the class of each column; any other value is returned as an
/// error.
pub(super) fn into_tensor(value: Value) -> Result<(Tensor, Option<Arc<Data>>), Value> {
    let maps = match value {
        Value::Tensor(tensor) => return Ok((tensor, None)),
        Value::Maps(maps) => maps,
        Value::Sequence(rows) => of_sequence(&rows).ok_or(Value::Sequence(rows))?,
        other @ Value::Map { .. } => return Err(other),
    };
    let (classes, probabilities) = maps.into_parts();
    Ok((probabilities, Some(classes)))
}

fn of_sequence(rows: &[Value]) -> Option<Maps> {
    let rows = rows
        .iter()
        .map(|row| match row {
            Value::Map { keys, values } => Some((keys, numbers(values)?)),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()?;
    let (first, _) = rows.first()?;
    match first {
        Data::Int64(_) => fill::<_, _, Vec<i64>>(&rows, |keys| match keys {
            Data::Int64(keys) => Some(keys.iter().copied()),
            _ => None,
        }),
        Data::Bytes(_) => fill::<_, _, Strings>(&rows, |keys| match keys {
            Data::Bytes(keys) => Some(keys.iter()),
            _ => None,
        }),
        _ => None,
    }
}

fn fill<'a, K: Copy + PartialEq, Keys: Iterator<Item = K>, Classes>(
    rows: &'a [(&Data, Vec<f32>)],
    keys: impl Fn(&'a Data) -> Option<Keys>,
) -> Option<Maps>
where
    Classes: FromIterator<K>,
    Data: From<Classes>,
{
    let mut classes: Vec<K> = Vec::new();
    for (row, _) in rows {
        for key in keys(row)? {
            if !classes.contains(&key) {
                classes.push(key);
            }
        }
    }
    let mut cells = vec![f32::NAN; rows.len() * classes.len()];
    for (line, (row, values)) in cells.chunks_mut(classes.len().max(1)).zip(rows) {
        for (position, (key, value)) in keys(row)?.zip(values).enumerate() {
            // Rows of `ZipMap` have the same classes in the same order, so the first lookup succeeds.
            let column = match classes.get(position) {
                Some(class) if *class == key => position,
                _ => classes.iter().position(|class| *class == key)?,
            };
            line[column] = *value;
        }
    }
    let probabilities = Tensor::new(vec![rows.len(), classes.len()], cells).ok()?;
    let classes: Classes = classes.into_iter().collect();
    Maps::new(Arc::new(classes.into()), probabilities)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the dense form is FP32 by definition"
)]
fn numbers(values: &Data) -> Option<Vec<f32>> {
    match values {
        Data::Fp32(values) => Some(values.to_vec()),
        Data::Fp64(values) => Some(values.iter().map(|&value| value as f32).collect()),
        Data::Int64(values) => Some(values.iter().map(|&value| value as f32).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(keys: &[&str], values: &[f32]) -> Value {
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        Value::Map {
            keys: keys.into(),
            values: values.to_vec().into(),
        }
    }

    #[test]
    fn rows_keep_their_classes_in_any_order() {
        let rows = Value::Sequence(vec![
            map(&["a", "b"], &[0.25, 0.75]),
            map(&["b", "a"], &[0.5, 0.125]),
        ]);
        let maps = dense(&rows).unwrap();
        let classes = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(**maps.keys(), classes.into());
        assert_eq!(
            *maps.values(),
            Tensor::new(vec![2, 2], vec![0.25_f32, 0.75, 0.125, 0.5]).unwrap()
        );
    }

    #[test]
    fn a_sequence_of_tensors_has_no_dense_form() {
        let tensor = Value::Tensor(Tensor::new(vec![1], vec![1.0_f32]).unwrap());
        assert_eq!(dense(&Value::Sequence(vec![tensor])), None);
    }
}
