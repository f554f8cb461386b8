//! Columns of inputs and outputs that a baseline describes, and the values of a request's rows in them.
//!
//! The rows of a tensor are its first dimension, and its columns the last. A tensor without dimensions is one row. A
//! tensor of one dimension is one row where a column is named, and otherwise has a row per element. A row contributes
//! one value to each histogram; if several of its elements are in the column, a random one of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use super::bins::{Bins, NO_SLOT};
use super::draw::Draw;
use crate::manifest::Observed;
use crate::tensor::{Data, Datatype, Kind, Signature, Value};

/// Histogram of one column.
#[derive(Debug)]
pub(super) struct Column {
    /// Position in the baseline.
    pub(super) baseline: u32,
    /// Index in the last dimension; 0 for all elements together.
    index: u32,
    pub(super) bins: Bins,
}

/// Inputs or outputs with the columns that are measured.
///
/// A request with many inputs mostly waits for memory. So the names and the columns of all tensors are stored together,
/// in the order of the tensors, and have small fields.
#[derive(Debug, Default)]
pub(super) struct ObservedTensors {
    names: Vec<u8>,
    tensors: Vec<ObservedTensor>,
    columns: Vec<Column>,
}

/// Columns of one input or output: the ones that are named, or the one of all elements.
#[derive(Debug)]
struct ObservedTensor {
    /// Length of the name in bytes.
    name: u32,
    /// Number of columns.
    columns: u32,
    /// Position among the values of the last request. Most callers keep the order, so that no other name is compared.
    position: AtomicU32,
    /// `true` if the columns are named by their index.
    is_named: bool,
}

/// Column with the tensor that it is of.
pub(super) struct ColumnOf {
    pub(super) tensor: String,
    /// Position in the baseline.
    pub(super) baseline: u32,
    /// Index in the last dimension; `None` for all elements together.
    pub(super) index: Option<u32>,
    pub(super) bins: Bins,
}

/// Sample of one request: the choice of its rows, and the slots in which they count.
pub(super) struct Sample<'a> {
    /// Number of rows.
    pub(super) rows: usize,
    pub(super) draw: Draw,
    /// Bounds of all histograms.
    pub(super) bounds: &'a [f64],
    pub(super) slots: &'a mut Vec<u32>,
}

impl ObservedTensors {
    /// Creates the tensors of these columns.
    pub(super) fn new(columns: impl IntoIterator<Item = ColumnOf>) -> Self {
        let mut numbers: BTreeMap<(String, bool), usize> = BTreeMap::new();
        let mut groups: Vec<Vec<Column>> = Vec::new();
        for column in columns {
            let key = (column.tensor, column.index.is_some());
            let number = *numbers.entry(key).or_insert(groups.len());
            if number == groups.len() {
                groups.push(Vec::new());
            }
            groups[number].push(Column {
                baseline: column.baseline,
                index: column.index.unwrap_or(0),
                bins: column.bins,
            });
        }
        let mut keys: Vec<_> = numbers.into_iter().collect();
        // In the order of the baseline, which is most likely the order of the requests.
        keys.sort_by_key(|(_, number)| *number);
        let mut all = Self::default();
        for (((name, is_named), _), columns) in keys.into_iter().zip(groups) {
            all.tensors.push(ObservedTensor {
                name: u32::try_from(name.len()).unwrap_or(u32::MAX),
                columns: u32::try_from(columns.len()).unwrap_or(u32::MAX),
                position: AtomicU32::new(0),
                is_named,
            });
            all.names.extend(name.into_bytes());
            all.columns.extend(columns);
        }
        all
    }

    /// Returns all columns.
    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Adds the rows of a request to its sample. Omits a value that is absent, or that is no tensor of numbers.
    pub(super) fn sample(&self, values: &[(String, Value)], sample: &mut Sample<'_>) {
        let (mut names, mut columns) = (&self.names[..], &self.columns[..]);
        for tensor in &self.tensors {
            let (name, other_names) = names.split_at(tensor.name as usize);
            let (of_tensor, other_columns) = columns.split_at(tensor.columns as usize);
            if let Some(value) = tensor.find(name, values) {
                sample.add(value, tensor.is_named, of_tensor);
            }
            (names, columns) = (other_names, other_columns);
        }
    }
}

impl ObservedTensor {
    fn find<'a>(&self, name: &[u8], values: &'a [(String, Value)]) -> Option<&'a Value> {
        let position = self.position.load(Ordering::Relaxed);
        if let Some((found, value)) = values.get(position as usize)
            && found.as_bytes() == name
        {
            return Some(value);
        }
        let position = values
            .iter()
            .position(|(other, _)| other.as_bytes() == name)?;
        self.position
            .store(u32::try_from(position).unwrap_or(0), Ordering::Relaxed);
        values.get(position).map(|(_, value)| value)
    }
}

impl Sample<'_> {
    fn add(&mut self, value: &Value, is_named: bool, columns: &[Column]) {
        let tensor = match value {
            Value::Tensor(tensor) => tensor,
            Value::Maps(maps) => maps.values(),
            _ => return,
        };
        let shape = tensor.shape();
        let extent = |count| Extent::new(count, shape, is_named);
        match tensor.data() {
            Data::Bool(all) => self.add_elements(columns, all, extent, |bit| u8::from(bit).into()),
            Data::Uint8(all) => self.add_elements(columns, all, extent, f64::from),
            Data::Uint16(all) => self.add_elements(columns, all, extent, f64::from),
            Data::Uint32(all) => self.add_elements(columns, all, extent, f64::from),
            Data::Uint64(all) => self.add_elements(columns, all, extent, unsigned),
            Data::Int8(all) => self.add_elements(columns, all, extent, f64::from),
            Data::Int16(all) => self.add_elements(columns, all, extent, f64::from),
            Data::Int32(all) => self.add_elements(columns, all, extent, f64::from),
            Data::Int64(all) => self.add_elements(columns, all, extent, signed),
            Data::Fp16(all) => self.add_elements(columns, all, extent, f64::from),
            Data::Bf16(all) => self.add_elements(columns, all, extent, f64::from),
            Data::Fp32(all) => self.add_elements(columns, all, extent, f64::from),
            Data::Fp64(all) => self.add_elements(columns, all, extent, f64::from),
            Data::Bytes(_) => {}
        }
    }

    fn add_elements<T: Copy>(
        &mut self,
        columns: &[Column],
        elements: &[T],
        extent: impl Fn(usize) -> Extent,
        number: impl Fn(T) -> f64,
    ) {
        let extent = extent(elements.len());
        let (draw, bounds) = (self.draw, self.bounds);
        let sampled = self.rows.min(extent.rows);
        for row_number in 0..sampled {
            let row = draw.position(row_number, sampled, extent.rows) * extent.width;
            self.slots.extend(columns.iter().map(|column| {
                let index = column.index as usize;
                // A column that the tensor lacks.
                if index >= extent.stride {
                    return NO_SLOT;
                }
                let mut place = row + index;
                if extent.choices > 1 {
                    let histogram = column.baseline as usize;
                    place += draw.below(histogram, row_number, extent.choices) * extent.stride;
                }
                match elements.get(place) {
                    Some(element) => column.bins.slot(number(*element), bounds),
                    None => NO_SLOT,
                }
            }));
        }
    }
}

/// Places of a column's elements in a tensor.
#[derive(Clone, Copy)]
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
    /// Returns the extent of each named column, or of all elements together, in a tensor with `count` elements. An
    /// empty tensor has an extent without rows.
    fn new(count: usize, shape: &[usize], is_named: bool) -> Self {
        // The shape is elsewhere in memory, and has one element only.
        if count == 1 {
            return Self {
                rows: 1,
                width: 1,
                stride: 1,
                choices: 1,
            };
        }
        let (rows, stride) = match (is_named, shape) {
            (false, shape) => (shape.first().copied().unwrap_or(1), 1),
            (true, []) => (1, 1),
            (true, &[columns]) => (1, columns),
            (true, &[rows, .., columns]) => (rows, columns),
        };
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
