//! Inputs and outputs of a model, and the compatibility of a model's signature with its callers.
//!
//! Callers rely on the signature that they were written for. So an input may accept more than before, and an output may
//! return less. A fixed length may become free in an input, and a free length may become fixed in an output, never the
//! reverse. Inputs are given by name, so their order does not matter. Outputs are also read by position, so existing
//! outputs come first, in their order, and new outputs follow.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Kind;

/// One input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Name in the graph.
    pub name: String,
    /// Kind of value.
    pub kind: Kind,
}

/// The inputs and outputs of a model, in the graph's order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Inputs.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
}

/// Direction of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// An input.
    Input,
    /// An output.
    Output,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Input => "input",
            Side::Output => "output",
        })
    }
}

/// Incompatibility of a signature with an expected signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incompatible {
    /// An expected port is missing.
    #[error("{side} {name:?} is missing, expected {expected}")]
    Missing {
        /// Input or output.
        side: Side,
        /// Name of the port.
        name: String,
        /// Expected kind.
        expected: Kind,
    },
    /// A port is not expected.
    #[error("{side} {name:?} is {is}, expected no {side} of that name")]
    Unexpected {
        /// Input or output.
        side: Side,
        /// Name of the port.
        name: String,
        /// Actual kind.
        is: Kind,
    },
    /// A port accepts less or returns more than expected.
    #[error("{side} {name:?} is {is}, expected {expected}")]
    Changed {
        /// Input or output.
        side: Side,
        /// Name of the port.
        name: String,
        /// Actual kind.
        is: Kind,
        /// Expected kind.
        expected: Kind,
    },
    /// An output has a different position among the outputs.
    #[error("output {name:?} is at position {is} of the outputs, expected position {expected}")]
    Moved {
        /// Name of the output.
        name: String,
        /// Actual position, from 1.
        is: usize,
        /// Expected position, from 1.
        expected: usize,
    },
}

impl Signature {
    /// Returns the input with this name.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<&Port> {
        self.inputs.iter().find(|port| port.name == name)
    }

    /// Returns the inputs that a run requires.
    pub fn required(&self) -> impl Iterator<Item = &Port> {
        let required = |port: &&Port| !matches!(port.kind, Kind::Optional(_));
        self.inputs.iter().filter(required)
    }

    /// Returns the number of rows of a run, if the model accepts no other number. The first dimension of every required
    /// input is fixed to it, and each output may have a row per input row.
    #[must_use]
    pub fn fixed_batch(&self) -> Option<usize> {
        let first = |port: &Port| match &port.kind {
            Kind::Tensor { shape, .. } => shape.first().copied().flatten(),
            _ => None,
        };
        let mut inputs = self.required().map(first);
        let batch = inputs.next().flatten().filter(|batch| *batch > 0)?;
        let by_row = |port: &Port| match &port.kind {
            Kind::Tensor { shape, .. } => match shape.first() {
                Some(first) => first.is_none_or(|first| first == batch),
                None => false,
            },
            kind => matches!(kind, Kind::Sequence(_)),
        };
        (inputs.all(|other| other == Some(batch)) && self.outputs.iter().all(by_row))
            .then_some(batch)
    }

    /// Returns the signature as the metadata shows it (see [`Kind::published`]).
    #[must_use]
    pub fn published(&self) -> Signature {
        let published = |ports: &[Port]| {
            let ports = ports.iter().map(|port| Port {
                name: port.name.clone(),
                kind: port.kind.published(),
            });
            ports.collect()
        };
        Signature {
            inputs: published(&self.inputs),
            outputs: published(&self.outputs),
        }
    }

    /// Checks that callers of a model with the signature `before` can call a model with this signature. The error names
    /// the first incompatibility. New outputs and new optional inputs are compatible.
    pub fn serves_callers_of(&self, before: &Signature) -> Result<(), Incompatible> {
        all_fit(Side::Input, &self.inputs, &before.inputs)?;
        let mut required = self.required();
        if let Some(new) = required.find(|port| before.input(&port.name).is_none()) {
            return Err(unexpected(Side::Input, new));
        }
        all_fit(Side::Output, &self.outputs, &before.outputs)?;
        let places = before.outputs.iter().enumerate();
        for (expected, port) in places {
            let place =
                |outputs: &[Port]| outputs.iter().position(|output| output.name == port.name);
            if let Some(is) = place(&self.outputs).filter(|is| *is != expected) {
                return Err(Incompatible::Moved {
                    name: port.name.clone(),
                    is: is + 1,
                    expected: expected + 1,
                });
            }
        }
        Ok(())
    }

    /// Checks that a model of this signature conforms to the `declared` signature, which is in the form of
    /// [`Self::published`]. Ports that are not declared are errors, except optional inputs.
    pub fn conforms_to(&self, declared: &Signature) -> Result<(), Incompatible> {
        let mut published = self.published();
        let is_required = |name: &str| self.required().any(|port| port.name == name);
        published
            .inputs
            .retain(|port| declared.input(&port.name).is_some() || is_required(&port.name));
        published.serves_callers_of(declared)?;
        for (side, ports, declared) in [
            (Side::Input, &published.inputs, &declared.inputs),
            (Side::Output, &published.outputs, &declared.outputs),
        ] {
            if let Some(more) = ports
                .iter()
                .find(|port| find(declared, &port.name).is_none())
            {
                return Err(unexpected(side, more));
            }
        }
        Ok(())
    }
}

fn find<'a>(ports: &'a [Port], name: &str) -> Option<&'a Port> {
    ports.iter().find(|port| port.name == name)
}

fn unexpected(side: Side, port: &Port) -> Incompatible {
    Incompatible::Unexpected {
        side,
        name: port.name.clone(),
        is: port.kind.clone(),
    }
}

/// Checks that each expected port exists and is compatible.
fn all_fit(side: Side, ports: &[Port], expected: &[Port]) -> Result<(), Incompatible> {
    for expected in expected {
        let name = expected.name.clone();
        let Some(port) = find(ports, &name) else {
            return Err(Incompatible::Missing {
                side,
                name,
                expected: expected.kind.clone(),
            });
        };
        if !fits(side, &port.kind, &expected.kind) {
            return Err(Incompatible::Changed {
                side,
                name,
                is: port.kind.clone(),
                expected: expected.kind.clone(),
            });
        }
    }
    Ok(())
}

fn fits(side: Side, is: &Kind, expected: &Kind) -> bool {
    match (is, expected) {
        (
            Kind::Tensor { datatype, shape },
            Kind::Tensor {
                datatype: expected_datatype,
                shape: expected_shape,
            },
        ) => {
            let fits = |(is, expected): (&Option<usize>, &Option<usize>)| {
                let freer = match side {
                    Side::Input => is,
                    Side::Output => expected,
                };
                freer.is_none() || is == expected
            };
            datatype == expected_datatype
                && shape.len() == expected_shape.len()
                && shape.iter().zip(expected_shape).all(fits)
        }
        (Kind::Sequence(is), Kind::Sequence(expected))
        | (Kind::Optional(is), Kind::Optional(expected)) => fits(side, is, expected),
        (is, expected) => is == expected,
    }
}

#[cfg(test)]
mod tests;
