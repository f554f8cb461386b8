//! Rows as objects, read straight into columns.
//!
//! `[{"age": 39, "job": "x"}, …]`: each value goes into the column of its input as it is read, and nothing is kept of a
//! row. A row that lacks a field, has one that the model has not, or has one twice is the last that is read.

use super::array::{self, Column, Unfit};
use super::inputs::Inputs;
use super::json::Reader;
use super::predict::fit_column;
use super::{BadRequest, Decoding, Result, containers, locate, names};
use crate::tensor::{Datatype, Kind, Port, Signature, Value};

/// What the rows have given for an input so far.
enum Given {
    /// The elements of a tensor.
    Column(Column, Datatype),
    /// A sequence or a map, of which there is one row.
    Value(Value),
}

/// Reads the array of objects that begins here, at `place`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    place: &str,
    signature: &Signature,
    decoding: &mut Decoding<'_>,
) -> Result<Vec<(String, Value)>> {
    let mut rows = Rows {
        place,
        inputs: Inputs::new(signature),
        last_row: vec![None; signature.inputs.len()],
        order: Vec::new(),
    };
    reader.array(place, |reader, index| {
        decoding.charge.check()?;
        rows.row(reader, index, decoding)
    })?;
    rows.inputs.into_values(|port, given| match given {
        Given::Column(column, _) => {
            let array = column.finish(decoding)?;
            let place = format!("{place}.{}", port.name);
            fit_column(port, array, &place, signature, decoding)
        }
        Given::Value(value) => Ok(value),
    })
}

struct Rows<'a> {
    place: &'a str,
    inputs: Inputs<'a, Given>,
    /// The last row that had each input.
    last_row: Vec<Option<usize>>,
    /// The inputs in the order of the first row's fields, in which those of the others are likely to stand.
    order: Vec<usize>,
}

impl Rows<'_> {
    fn row(
        &mut self,
        reader: &mut Reader<'_>,
        index: usize,
        decoding: &mut Decoding<'_>,
    ) -> Result<()> {
        if !reader.is_object() {
            let place = self.at(index);
            let value = reader.value(&place)?;
            return Err(super::json::unexpected(value, &place, "an object").into());
        }
        let mut count = 0;
        reader.object(self.place, |reader, name| {
            let guess = self.order.get(count).copied().unwrap_or(usize::MAX);
            let at = self.inputs.find(name, guess, || self.at(index))?;
            let port = self.inputs.port(at);
            if self.last_row[at].replace(index) == Some(index) {
                let place = self.at(index);
                return Err(BadRequest(format!("{place}: {:?} is given twice", port.name)).into());
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
                let (place, missing) = (self.at(0), names(&missing));
                return Err(BadRequest(format!("{place}: missing input: {missing}")).into());
            }
        }
        if count == self.order.len() {
            return Ok(());
        }
        let mut names = self.inputs.names();
        let lacking = names.find(|(at, _)| self.last_row[*at] != Some(index));
        let name = lacking.map_or("", |(_, name)| name);
        let (row, first) = (self.at(index), self.at(0));
        Err(BadRequest(format!("{row} lacks {name:?}, which {first} has")).into())
    }

    /// Reads the value that begins here as that of the input at `at` of the signature.
    fn value(
        &mut self,
        reader: &mut Reader<'_>,
        index: usize,
        at: usize,
        decoding: &mut Decoding<'_>,
    ) -> Result<()> {
        let port = self.inputs.port(at);
        let (text, position) = reader.here();
        if self.inputs.get_mut(at).is_none() {
            if index > 0 {
                let (row, first) = (self.at(index), self.at(0));
                let name = &port.name;
                return Err(BadRequest(format!("{row} has {name:?}, which {first} lacks")).into());
            }
            let Kind::Tensor { datatype, .. } = containers::given(&port.kind) else {
                let place = format!("{}.{}", self.at(index), port.name);
                let value = reader.value(&place)?;
                let value = containers::read(value, &port.kind, &place, decoding)?;
                self.inputs.set(at, Given::Value(value));
                return Ok(());
            };
            let column = Column::new(*datatype, position);
            self.inputs.set(at, Given::Column(column, *datatype));
        }
        let (datatype, shape) = match self.inputs.get_mut(at) {
            Some(Given::Column(column, datatype)) => match column.row(text, position, decoding)? {
                Ok(position) => {
                    reader.go_to(position);
                    return Ok(());
                }
                Err(Unfit) => (*datatype, column.shape().to_vec()),
            },
            _ => {
                return Err(BadRequest(format!(
                    "{} is another row, but input {:?} is a {}, of which one is given at a time: send one row",
                    self.at(index),
                    port.name,
                    port.kind
                ))
                .into());
            }
        };
        Err(self.unfit(reader, index, port, (datatype, &shape), decoding))
    }

    /// The reason why a column does not take the value that begins here.
    #[cold]
    fn unfit(
        &self,
        reader: &mut Reader<'_>,
        index: usize,
        port: &Port,
        (datatype, expected): (Datatype, &[usize]),
        decoding: &mut Decoding<'_>,
    ) -> super::DecodeError {
        let place = format!("{}.{}", self.at(index), port.name);
        let value = match reader.value(&place) {
            Ok(value) => value,
            Err(error) => return error.into(),
        };
        if let Some(error) = locate::in_value(value, datatype, &place, decoding) {
            return error;
        }
        match array::read(value, datatype, &place, None, decoding) {
            Ok(array) => {
                let first = format!("{}.{}", self.at(0), port.name);
                locate::differs((&place, &array.shape), (&first, expected)).into()
            }
            Err(error) => error,
        }
    }

    fn at(&self, index: usize) -> String {
        format!("{}[{index}]", self.place)
    }
}
