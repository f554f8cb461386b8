//! Inputs of a request by name; each is an input of the model and is given once.

use super::{BadRequest, Result, no_input};
use crate::tensor::{Kind, Port, Signature, Value};

/// Values for the inputs of a model, in the order of its signature.
pub(super) struct NamedInputs<'a, T> {
    signature: &'a Signature,
    values: Vec<Option<T>>,
    /// Indices of the inputs in the signature, sorted by name.
    sorted: Vec<usize>,
}

impl<'a, T> NamedInputs<'a, T> {
    /// Creates a list without values.
    pub(super) fn new(signature: &'a Signature) -> Self {
        let name = |index: &usize| signature.inputs[*index].name.as_str();
        let mut sorted: Vec<usize> = (0..signature.inputs.len()).collect();
        sorted.sort_unstable_by(|one, other| name(one).cmp(name(other)));
        Self {
            signature,
            values: signature.inputs.iter().map(|_| None).collect(),
            sorted,
        }
    }

    /// Returns the index of the input with this name, probably `guess`. The error has the path of the field and lists
    /// the inputs.
    pub(super) fn find(
        &self,
        name: &str,
        guess: usize,
        path: impl Fn() -> String,
    ) -> Result<usize, BadRequest> {
        let inputs = &self.signature.inputs;
        if inputs.get(guess).is_some_and(|port| port.name == name) {
            return Ok(guess);
        }
        let found = self
            .sorted
            .binary_search_by(|&at| inputs[at].name.as_str().cmp(name));
        match found {
            Ok(at) => Ok(self.sorted[at]),
            Err(_) => Err(no_input(self.signature, name, &path())),
        }
    }

    /// Returns the input at `index` of the signature.
    pub(super) fn port(&self, index: usize) -> &'a Port {
        &self.signature.inputs[index]
    }

    /// Returns the value of the input at `index`.
    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.values[index].as_mut()
    }

    /// Sets the value of the input at `index`.
    pub(super) fn set(&mut self, index: usize, values: T) {
        self.values[index] = Some(values);
    }

    /// Returns the indices and names of the given inputs, in the order of the signature.
    pub(super) fn names(&self) -> impl Iterator<Item = (usize, &'a str)> {
        let inputs = self.signature.inputs.iter().zip(&self.values).enumerate();
        inputs.filter_map(|(index, (port, values))| {
            values.as_ref().map(|_| (index, port.name.as_str()))
        })
    }

    /// Returns the required inputs without a value.
    pub(super) fn missing(&self) -> Vec<Port> {
        let inputs = self.signature.inputs.iter().zip(&self.values);
        let missing = inputs
            .filter(|(port, values)| values.is_none() && !matches!(port.kind, Kind::Optional(_)));
        missing.map(|(port, _)| port.clone()).collect()
    }

    /// Converts the given inputs to values with `value`.
    pub(super) fn into_values(
        self,
        mut value: impl FnMut(&'a Port, T) -> Result<Value>,
    ) -> Result<Vec<(String, Value)>> {
        let inputs = self.signature.inputs.iter().zip(self.values);
        let values = inputs.filter_map(|(port, values)| values.map(|values| (port, values)));
        values
            .map(|(port, values)| Ok((port.name.clone(), value(port, values)?)))
            .collect()
    }
}
