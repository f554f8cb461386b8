//! The inputs of a request by name, each of which is one of the model's and is given once.

use super::{BadRequest, Result, no_input};
use crate::tensor::{Kind, Port, Signature, Value};

/// Inputs of a model, in the order of its signature.
pub(super) struct Inputs<'a, T> {
    signature: &'a Signature,
    given: Vec<Option<T>>,
    /// The places of the inputs in the signature, in the order of their names.
    by_name: Vec<usize>,
}

impl<'a, T> Inputs<'a, T> {
    /// None of these inputs.
    pub(super) fn new(signature: &'a Signature) -> Self {
        let name = |place: &usize| signature.inputs[*place].name.as_str();
        let mut by_name: Vec<usize> = (0..signature.inputs.len()).collect();
        by_name.sort_unstable_by(|one, other| name(one).cmp(name(other)));
        Self {
            signature,
            given: signature.inputs.iter().map(|_| None).collect(),
            by_name,
        }
    }

    /// The place of the input of this name, likely the one at `guess`. Otherwise an error at `place`, which lists the inputs
    /// that there are.
    pub(super) fn find(
        &self,
        name: &str,
        guess: usize,
        place: impl Fn() -> String,
    ) -> Result<usize, BadRequest> {
        let inputs = &self.signature.inputs;
        if inputs.get(guess).is_some_and(|port| port.name == name) {
            return Ok(guess);
        }
        let found = self
            .by_name
            .binary_search_by(|&at| inputs[at].name.as_str().cmp(name));
        match found {
            Ok(at) => Ok(self.by_name[at]),
            Err(_) => Err(no_input(self.signature, name, &place())),
        }
    }

    /// The input at `place` of the signature.
    pub(super) fn port(&self, place: usize) -> &'a Port {
        &self.signature.inputs[place]
    }

    /// What was given for the input at `place`.
    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.given[place].as_mut()
    }

    /// Takes what is given for the input at `place`.
    pub(super) fn set(&mut self, place: usize, given: T) {
        self.given[place] = Some(given);
    }

    /// The names of the inputs that were given, in the order of the signature.
    pub(super) fn names(&self) -> impl Iterator<Item = (usize, &'a str)> {
        let inputs = self.signature.inputs.iter().zip(&self.given).enumerate();
        inputs.filter_map(|(place, (port, given))| {
            given.as_ref().map(|_| (place, port.name.as_str()))
        })
    }

    /// The inputs that must be given and were not.
    pub(super) fn missing(&self) -> Vec<Port> {
        let inputs = self.signature.inputs.iter().zip(&self.given);
        let missing = inputs
            .filter(|(port, given)| given.is_none() && !matches!(port.kind, Kind::Optional(_)));
        missing.map(|(port, _)| port.clone()).collect()
    }

    /// The inputs as values, each of which `value` makes.
    pub(super) fn into_values(
        self,
        mut value: impl FnMut(&'a Port, T) -> Result<Value>,
    ) -> Result<Vec<(String, Value)>> {
        let inputs = self.signature.inputs.iter().zip(self.given);
        let given = inputs.filter_map(|(port, given)| given.map(|given| (port, given)));
        given
            .map(|(port, given)| Ok((port.name.clone(), value(port, given)?)))
            .collect()
    }
}
