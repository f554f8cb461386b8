//! Triton's classification extension: the highest values of an output, each with its place and its label.
//!
//! Specification:
//! <https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md>. An element
//! of the answer is `"value:index"`, or `"value:index:label"` where the model names its classes. Equal values stand in
//! the order of their places, and NaN comes last.

use std::cmp::Reverse;

use crate::protocol::BadRequest;
use crate::tensor::{Data, Datatype, Kind, Port, Tensor, element_count};

/// How an output is ranked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ranking {
    /// How many classes are wanted, at most as many as there are.
    count: usize,
    /// Whether the first dimension counts rows, each of which is ranked for itself.
    by_rows: bool,
}

impl Ranking {
    /// The `count` highest values of this output, which is asked for at `place`.
    pub(super) fn of(port: &Port, count: usize, place: &str) -> Result<Self, BadRequest> {
        let by_rows = match &port.kind {
            kind if kind.is_sequence_of_maps() => Some(true),
            Kind::Tensor { datatype, shape } => {
                let is_number = !matches!(datatype, Datatype::Bool | Datatype::Bytes);
                // One dimension of a fixed length has the classes of the only row.
                let first_is_free = matches!(shape.first(), Some(None));
                is_number.then_some(shape.len() > 1 || first_is_free)
            }
            _ => None,
        };
        match by_rows {
            Some(by_rows) => Ok(Self { count, by_rows }),
            None => Err(BadRequest(format!(
                "{place}.parameters.classification is {count}, but output {:?} is {}, which has no numbers to rank",
                port.name, port.kind
            ))),
        }
    }

    /// The classes of a tensor, of shape `[rows, count]` or `[count]`.
    pub(super) fn rank(self, tensor: &Tensor, labels: Option<&Data>) -> Option<Tensor> {
        let (rows, row) = match tensor.shape().split_first() {
            Some((&rows, row)) if self.by_rows => (Some(rows), element_count(row)?),
            _ => (None, tensor.data().len()),
        };
        let count = self.count.min(row);
        let mut ranked = Vec::with_capacity(rows.unwrap_or(1) * count);
        let keys = keys(tensor.data());
        // Rows without an element have no class.
        for (index, keys) in keys.chunks(row.max(1)).enumerate() {
            let mut places: Vec<usize> = (0..keys.len()).collect();
            places.sort_unstable_by_key(|&place| (Reverse(keys[place]), place));
            for &place in places.iter().take(count) {
                let value = text(tensor.data(), index * row + place);
                ranked.push(match labels.filter(|labels| place < labels.len()) {
                    Some(labels) => format!("{value}:{place}:{}", text(labels, place)),
                    None => format!("{value}:{place}"),
                });
            }
        }
        let shape = rows.into_iter().chain([count]).collect();
        Tensor::new(shape, ranked).ok()
    }
}

/// Numbers in the order of the elements.
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

/// The bits of a float are in the order of its magnitude.
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

/// One element as text: a number with the fewest digits that are the same number.
fn text(data: &Data, place: usize) -> String {
    macro_rules! table {
        ($($variant:ident)*) => {
            match data {
                $(Data::$variant(all) => all[place].to_string(),)*
            }
        };
    }
    table! {
        Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64 Fp16 Bf16 Fp32 Fp64 Bytes
    }
}
