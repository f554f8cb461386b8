//! Triton's classification extension: the highest values of an output, each with its index and its label.
//!
//! Specification:
//! <https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md>. An element
//! of the response is `"value:index"`, or `"value:index:label"` if the model names its classes. Equal values are
//! ordered by index, and NaN comes last.

use std::cmp::Reverse;
use std::fmt::Display;

use crate::protocol::BadRequest;
use crate::tensor::{Data, Datatype, Kind, Port, Tensor, element_count};

/// Ranking of an output.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranking {
    /// Maximum number of classes.
    count: usize,
    /// `true` if the first dimension counts rows, which are ranked separately.
    by_rows: bool,
}

impl Ranking {
    /// Creates the ranking of the `count` highest values of an output, requested at `path`.
    pub(super) fn of(port: &Port, count: usize, path: &dyn Display) -> Result<Self, BadRequest> {
        let by_rows = match &port.kind {
            kind if kind.is_sequence_of_maps() => Some(true),
            Kind::Tensor { datatype, shape } => {
                let is_number = !matches!(datatype, Datatype::Bool | Datatype::Bytes);
                // A single dimension of a fixed length holds the classes of one row.
                let first_is_free = matches!(shape.first(), Some(None));
                is_number.then_some(shape.len() > 1 || first_is_free)
            }
            _ => None,
        };
        match by_rows {
            Some(by_rows) => Ok(Self { count, by_rows }),
            None => Err(BadRequest(format!(
                "{path}.parameters.classification is {count}, but output {:?} is {}, which has no numbers to rank",
                port.name, port.kind
            ))),
        }
    }

    /// Returns the classes of a tensor, of shape `[rows, count]` or `[count]`.
    pub(super) fn rank(self, tensor: &Tensor, labels: Option<&Data>) -> Option<Tensor> {
        let (rows, row) = match tensor.shape().split_first() {
            Some((&rows, row)) if self.by_rows => (Some(rows), element_count(row)?),
            _ => (None, tensor.data().len()),
        };
        let count = self.count.min(row);
        let mut ranked = Vec::with_capacity(rows.unwrap_or(1) * count);
        let keys = keys(tensor.data());
        // Rows without elements have no classes.
        for (index, keys) in keys.chunks(row.max(1)).enumerate() {
            let mut indices: Vec<usize> = (0..keys.len()).collect();
            indices
                .sort_unstable_by_key(|&index_in_row| (Reverse(keys[index_in_row]), index_in_row));
            for &index_in_row in indices.iter().take(count) {
                let value = text(tensor.data(), index * row + index_in_row);
                ranked.push(match labels.filter(|labels| index_in_row < labels.len()) {
                    Some(labels) => {
                        format!("{value}:{index_in_row}:{}", text(labels, index_in_row))
                    }
                    None => format!("{value}:{index_in_row}"),
                });
            }
        }
        let shape = rows.into_iter().chain([count]).collect();
        Tensor::new(shape, ranked).ok()
    }
}

/// Returns sort keys for the elements.
fn keys(data: &Data) -> Vec<i128> {
    macro_rules! table {
        (whole: $($whole:ident)*; float: $($float:ident)*) => {
            match data {
                $(Data::$whole(all) => all.iter().map(|&value| i128::from(value)).collect(),)*
                $(Data::$float(all) => all.iter().map(|&value| key(f64::from(value))).collect(),)*
                Data::Bool(_) | Data::Bytes(_) => vec![0; data.len()],
            }
        };
    }
    table! {
        whole: Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64;
        float: Fp16 Bf16 Fp32 Fp64
    }
}

/// Returns the sort key of a float: its bits are in the order of its magnitude.
fn key(value: f64) -> i128 {
    let magnitude = i128::from(value.abs().to_bits());
    if value.is_nan() {
        i128::MIN
    } else if value < 0.0 {
        -magnitude
    } else {
        magnitude
    }
}

/// Formats an element; a number has the fewest digits that read back as the same number.
fn text(data: &Data, index: usize) -> String {
    macro_rules! table {
        ($($variant:ident)*) => {
            match data {
                $(Data::$variant(all) => all[index].to_string(),)*
            }
        };
    }
    table! {
        Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Fp16 Bf16 Fp32 Fp64 Bytes
    }
}
