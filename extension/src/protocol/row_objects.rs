//! Rows as objects, read directly into columns.
//!
//! `[{"age": 39, "job": "x"}, …]`: each value goes to the column of its input as it is read, and nothing else of a row
//! is kept. Reading ends at the first row that lacks a field, has an unknown field, or has a duplicate field.

use super::array::{self, Column, Mismatch};
use super::json_reader::JsonReader;
use super::named_inputs::NamedInputs;
use super::rows::fit_column;
use super::{BadRequest, Decoding, Result, containers, error_location, names};
use crate::tensor::{Datatype, Kind, Port, Signature, Value};

/// Values of an input from the rows read so far.
enum InputValues {
    /// Elements of a tensor.
    Column(Column, Datatype),
    /// A sequence or a map, for which there is one row.
    Value(Value),
}

/// Reads the array of objects that begins here, at `path`.
pub(super) fn read(
    reader: &mut JsonReader<'_>,
    path: &str,
    signature: &Signature,
    decoding: &mut Decoding<'_>,
) -> Result<Vec<(String, Value)>> {
    let mut rows = RowObjects {
        path,
        inputs: NamedInputs::new(signature),
        last_row: vec![None; signature.inputs.len()],
        order: Vec::new(),
    };
    reader.array(path, |reader, index| {
        decoding.charge.check()?;
        rows.row(reader, index, decoding)
    })?;
    rows.inputs.into_values(|port, given| match given {
        InputValues::Column(column, _) => {
            let array = column.finish(decoding)?;
            let path = format!("{path}.{}", port.name);
            fit_column(port, array, &path, signature, decoding)
        }
        InputValues::Value(value) => Ok(value),
    })
}

struct RowObjects<'a> {
    path: &'a str,
    inputs: NamedInputs<'a, InputValues>,
    /// Index of the last row that had each input.
    last_row: Vec<Option<usize>>,
    /// Indices of the inputs in the order of the first row's fields, which other rows probably share.
    order: Vec<usize>,
}

impl RowObjects<'_> {
    fn row(
        &mut self,
        reader: &mut JsonReader<'_>,
        index: usize,
        decoding: &mut Decoding<'_>,
    ) -> Result<()> {
        if !reader.is_object() {
            let path = self.row_path(index);
            let value = reader.value(&path)?;
            return Err(super::json_reader::unexpected(value, &path, "an object").into());
        }
        let mut count = 0;
        reader.object(self.path, |reader, name| {
            let guess = self.order.get(count).copied().unwrap_or(usize::MAX);
            let at = self.inputs.find(name, guess, || self.row_path(index))?;
            let port = self.inputs.port(at);
            if self.last_row[at].replace(index) == Some(index) {
                let path = self.row_path(index);
                return Err(BadRequest(format!("{path}: {:?} is given twice", port.name)).into());
            }
            if index == 0 {
                self.order.push(at);
            }
            count += 1;
            self.value(reader, index, at, decoding)
        })?;
        if index == 0 {
            let missing = self.inputs.missing();
            if !missing.is_empty() {
                let (path, missing) = (self.row_path(0), names(&missing));
                return Err(BadRequest(format!("{path}: missing input: {missing}")).into());
            }
        }
        if count == self.order.len() {
            return Ok(());
        }
        let mut names = self.inputs.names();
        let lacking = names.find(|(at, _)| self.last_row[*at] != Some(index));
        let name = lacking.map_or("", |(_, name)| name);
        let (row, first) = (self.row_path(index), self.row_path(0));
        Err(BadRequest(format!("{row} lacks {name:?}, which {first} has")).into())
    }

    /// Reads the value that begins here for the input `at` of the signature.
    fn value(
        &mut self,
        reader: &mut JsonReader<'_>,
        index: usize,
        at: usize,
        decoding: &mut Decoding<'_>,
    ) -> Result<()> {
        let port = self.inputs.port(at);
        let (text, position) = reader.here();
        if self.inputs.get_mut(at).is_none() {
            if index > 0 {
                let (row, first) = (self.row_path(index), self.row_path(0));
                let name = &port.name;
                return Err(BadRequest(format!("{row} has {name:?}, which {first} lacks")).into());
            }
            let Kind::Tensor { datatype, .. } = containers::given(&port.kind) else {
                let path = format!("{}.{}", self.row_path(index), port.name);
                let value = reader.value(&path)?;
                let value = containers::read(value, &port.kind, &path, decoding)?;
                self.inputs.set(at, InputValues::Value(value));
                return Ok(());
            };
            let column = Column::new(*datatype, position);
            self.inputs.set(at, InputValues::Column(column, *datatype));
        }
        let (datatype, shape) = match self.inputs.get_mut(at) {
            Some(InputValues::Column(column, datatype)) => {
                match column.row(text, position, decoding)? {
                    Ok(position) => {
                        reader.go_to(position);
                        return Ok(());
                    }
                    Err(Mismatch) => (*datatype, column.shape().to_vec()),
                }
            }
            _ => {
                return Err(BadRequest(format!(
                    "{}: input {:?} is a {}, which takes one row per request: send one row",
                    self.row_path(index),
                    port.name,
                    port.kind
                ))
                .into());
            }
        };
        Err(self.mismatch_error(reader, index, port, (datatype, &shape), decoding))
    }

    /// Returns the reason why a column does not accept the value that begins here.
    #[cold]
    fn mismatch_error(
        &self,
        reader: &mut JsonReader<'_>,
        index: usize,
        port: &Port,
        (datatype, expected): (Datatype, &[usize]),
        decoding: &mut Decoding<'_>,
    ) -> super::DecodeError {
        let path = format!("{}.{}", self.row_path(index), port.name);
        let value = match reader.value(&path) {
            Ok(value) => value,
            Err(error) => return error.into(),
        };
        if let Some(error) = error_location::in_value(value, datatype, &path, decoding) {
            return error;
        }
        match array::read(value, datatype, &path, None, decoding) {
            Ok(array) => {
                let first = format!("{}.{}", self.row_path(0), port.name);
                error_location::differs((&path, &array.shape), (&first, expected)).into()
            }
            Err(error) => error,
        }
    }

    fn row_path(&self, index: usize) -> String {
        format!("{}[{index}]", self.path)
    }
}
