//! Columns of inputs and outputs that a baseline describes, and the values of a request's rows in them.
//!
//! The rows of a tensor are its first dimension, and its columns the last. A tensor without dimensions is one row. A
//! tensor of one dimension is one row where a column is named, and otherwise has a row per element. A row contributes
//! one value to each histogram; if several of its elements are in the column, a random one of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::bins::Bins;
use super::draw::Draw;
use crate::manifest::Observed;
use crate::tensor::{Data, Datatype, Kind, Signature, Value};

/// Histogram of one column.
#[derive(Debug)]
pub(super) struct Column {
    /// Position in the baseline.
    pub(super) baseline: usize,
    /// Index in the last dimension; `None` for all elements together.
    pub(super) index: Option<usize>,
    pub(super) bins: Bins,
}

/// Input or output with the columns that are measured.
#[derive(Debug)]
pub(super) struct ObservedTensor {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// Position among the values of the last request. Most callers keep the order, so that no other name is compared.
    position: AtomicUsize,
}

/// Sample of one request: the choice of its rows, and the slots in which they count.
pub(super) struct Sample<'a> {
    /// Number of rows.
    pub(super) rows: usize,
    pub(super) draw: Draw,
    /// Edges of all histograms.
    pub(super) edges: &'a [f64],
    pub(super) slots: &'a mut Vec<u32>,
}

impl ObservedTensor {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            columns: Vec::new(),
            position: AtomicUsize::new(0),
        }
    }

    /// Adds the rows of a request to its sample. Does nothing for a value that is absent, or that is no tensor of
    /// numbers.
    pub(super) fn sample(&self, values: &[(String, Value)], sample: &mut Sample<'_>) {
        let tensor = match self.find(values) {
            Some(Value::Tensor(tensor)) => tensor,
            Some(Value::Maps(maps)) => maps.values(),
            _ => return,
        };
        let shape = tensor.shape();
        match tensor.data() {
            Data::Bool(elements) => self.add(elements, shape, |bit| u8::from(bit).into(), sample),
            Data::Uint8(elements) => self.add(elements, shape, f64::from, sample),
            Data::Uint16(elements) => self.add(elements, shape, f64::from, sample),
            Data::Uint32(elements) => self.add(elements, shape, f64::from, sample),
            Data::Uint64(elements) => self.add(elements, shape, unsigned, sample),
            Data::Int8(elements) => self.add(elements, shape, f64::from, sample),
            Data::Int16(elements) => self.add(elements, shape, f64::from, sample),
            Data::Int32(elements) => self.add(elements, shape, f64::from, sample),
            Data::Int64(elements) => self.add(elements, shape, signed, sample),
            Data::Fp16(elements) => self.add(elements, shape, f64::from, sample),
            Data::Bf16(elements) => self.add(elements, shape, f64::from, sample),
            Data::Fp32(elements) => self.add(elements, shape, f64::from, sample),
            Data::Fp64(elements) => self.add(elements, shape, f64::from, sample),
            Data::Bytes(_) => {}
        }
    }

    fn add<T: Copy>(
        &self,
        elements: &[T],
        shape: &[usize],
        number: impl Fn(T) -> f64,
        sample: &mut Sample<'_>,
    ) {
        // Most baselines name the columns of all tensors or of none.
        let (mut whole, mut named) = (None, None);
        for column in &self.columns {
            let (extent, offset) = match column.index {
                None => (
                    whole.get_or_insert_with(|| Extent::whole(elements.len(), shape)),
                    0,
                ),
                Some(index) => (
                    named.get_or_insert_with(|| Extent::named(elements.len(), shape)),
                    index,
                ),
            };
            // A named column that the tensor lacks; all elements together are one column.
            if offset >= extent.stride {
                continue;
            }
            let sampled = sample.rows.min(extent.rows);
            for row_number in 0..sampled {
                let row = sample.draw.position(row_number, sampled, extent.rows);
                let choose = || {
                    sample
                        .draw
                        .below(column.baseline, row_number, extent.choices)
                };
                let element = elements.get(extent.first_element(row, choose) + offset);
                if let Some(element) = element {
                    column
                        .bins
                        .add_slots(number(*element), sample.edges, sample.slots);
                }
            }
        }
    }

    fn find<'a>(&self, values: &'a [(String, Value)]) -> Option<&'a Value> {
        let position = self.position.load(Ordering::Relaxed);
        let found = values.get(position).filter(|(name, _)| *name == self.name);
        if let Some((_, value)) = found {
            return Some(value);
        }
        let position = values.iter().position(|(name, _)| *name == self.name)?;
        self.position.store(position, Ordering::Relaxed);
        values.get(position).map(|(_, value)| value)
    }
}

/// Places of a column's elements in a tensor.
struct Extent {
    rows: usize,
    /// Number of elements in a row.
    width: usize,
    /// Distance between the elements of a column in a row.
    stride: usize,
    /// Number of elements of a column in a row.
    choices: usize,
}

impl Extent {
    /// Returns the extent of all elements together in a tensor with `count` elements.
    fn whole(count: usize, shape: &[usize]) -> Self {
        let rows = shape.first().copied().unwrap_or(1);
        Self::of(count, rows, 1)
    }

    /// Returns the extent of each named column in a tensor with `count` elements.
    fn named(count: usize, shape: &[usize]) -> Self {
        match *shape {
            [] => Self::of(count, 1, 1),
            [columns] => Self::of(count, 1, columns),
            [rows, .., columns] => Self::of(count, rows, columns),
        }
    }

    /// An empty tensor has an extent without rows.
    fn of(count: usize, rows: usize, stride: usize) -> Self {
        // Divisions take longer than the rest of a sample, and most rows need none.
        let quotient = |all: usize, part: usize| match part {
            1 => all,
            part if part == all => 1,
            part => all.checked_div(part).unwrap_or(0),
        };
        let width = quotient(count, rows);
        Self {
            rows: if count == 0 { 0 } else { rows },
            width,
            stride,
            choices: quotient(width, stride),
        }
    }

    /// Returns the index of the first column's element in `row`; `choose` decides between several.
    fn first_element(&self, row: usize, choose: impl FnOnce() -> usize) -> usize {
        let choice = if self.choices > 1 { choose() } else { 0 };
        row * self.width + choice * self.stride
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "edges are 64-bit floats, and so are the values compared with them"
)]
fn unsigned(number: u64) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "edges are 64-bit floats, and so are the values compared with them"
)]
fn signed(number: i64) -> f64 {
    number as f64
}

/// Returns the reason for which a column cannot be measured on a model with this signature, if there is one.
pub(super) fn mismatch(
    of: &Observed,
    column: Option<usize>,
    signature: &Signature,
) -> Option<&'static str> {
    let (ports, name) = match of {
        Observed::Input(name) => (&signature.inputs, name),
        Observed::Output(name) => (&signature.outputs, name),
    };
    let Some(port) = ports.iter().find(|port| port.name == *name) else {
        return Some("the model has no such input or output");
    };
    match &port.kind {
        Kind::Tensor { datatype, .. } if *datatype == Datatype::Bytes => Some("it holds strings"),
        Kind::Tensor { shape, .. } => {
            let columns = shape.last().copied().unwrap_or(Some(1));
            let is_absent = columns.zip(column).is_some_and(|(all, index)| index >= all);
            is_absent.then_some("it has fewer columns")
        }
        kind if kind.is_sequence_of_maps() => None,
        _ => Some("it is not a tensor"),
    }
}
