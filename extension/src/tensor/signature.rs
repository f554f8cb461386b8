//! What goes into a model and comes out of it, and when one such signature can take another's place.
//!
//! Whoever calls a model relies on what it took and gave before. So an input may take more than it did, and an output may
//! give less: a length that was fixed may become free in an input, and a free one fixed in an output, and never the other
//! way. Inputs are given by name, so their order is nobody's business; outputs are read by their place as well, so those
//! that there were come first, in their order, and new ones follow.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Kind;

/// One input or output of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// What it takes or gives.
    pub kind: Kind,
}

/// The inputs and outputs of a model, in the graph's order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// What must be given.
    pub inputs: Vec<Port>,
    /// What comes out.
    pub outputs: Vec<Port>,
}

/// Inputs or outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What is given.
    Input,
    /// What comes out.
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

/// What a signature lacks to be what was promised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incompatible {
    /// A port that was promised is not there.
    #[error("{side} {name:?} is not there, where {promised} was promised")]
    Missing {
        /// Which side it is on.
        side: Side,
        /// Its name.
        name: String,
        /// What was promised.
        promised: Kind,
    },
    /// A port is there that was not promised.
    #[error("{side} {name:?} is {is}, where nothing of that name was promised")]
    Unpromised {
        /// Which side it is on.
        side: Side,
        /// Its name.
        name: String,
        /// What it is.
        is: Kind,
    },
    /// A port takes less or gives more than was promised.
    #[error("{side} {name:?} is {is}, where {promised} was promised")]
    Changed {
        /// Which side it is on.
        side: Side,
        /// Its name.
        name: String,
        /// What it is.
        is: Kind,
        /// What was promised.
        promised: Kind,
    },
    /// An output has another place among the outputs.
    #[error(
        "output {name:?} has place {is} among the outputs, where place {promised} was promised"
    )]
    Moved {
        /// The output's name.
        name: String,
        /// Its place, from 1.
        is: usize,
        /// The place that was promised, from 1.
        promised: usize,
    },
}

impl Signature {
    /// The input of this name.
    #[must_use]
    pub fn input(&self, name: &str) -> Option<&Port> {
        self.inputs.iter().find(|port| port.name == name)
    }

    /// The inputs without which there is no run.
    pub fn required(&self) -> impl Iterator<Item = &Port> {
        let required = |port: &&Port| !matches!(port.kind, Kind::Optional(_));
        self.inputs.iter().filter(required)
    }

    /// How many rows the model takes at a time, where it takes no other number: the first dimension of every input that
    /// must be given is fixed to it, and an output may have a row for each as far as the signature tells.
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

    /// The signature as the metadata shows it ([`Kind::published`]).
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

    /// Whether whoever calls a model of the signature `before` can go on with one of this signature. The error is about
    /// the first thing in the way. New outputs are not, nor are new inputs that may be left out.
    pub fn serves_callers_of(&self, before: &Signature) -> Result<(), Incompatible> {
        all_fit(Side::Input, &self.inputs, &before.inputs)?;
        let mut required = self.required();
        if let Some(new) = required.find(|port| before.input(&port.name).is_none()) {
            return Err(unpromised(Side::Input, new));
        }
        all_fit(Side::Output, &self.outputs, &before.outputs)?;
        let places = before.outputs.iter().enumerate();
        for (promised, port) in places {
            let place =
                |outputs: &[Port]| outputs.iter().position(|output| output.name == port.name);
            if let Some(is) = place(&self.outputs).filter(|is| *is != promised) {
                return Err(Incompatible::Moved {
                    name: port.name.clone(),
                    is: is + 1,
                    promised: promised + 1,
                });
            }
        }
        Ok(())
    }

    /// Whether a model of this signature keeps what `declared` promises to callers, and has no inputs and outputs beside,
    /// but for inputs that may be left out. `declared` is in the form of [`Self::published`].
    pub fn keeps(&self, declared: &Signature) -> Result<(), Incompatible> {
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
                return Err(unpromised(side, more));
            }
        }
        Ok(())
    }
}

fn find<'a>(ports: &'a [Port], name: &str) -> Option<&'a Port> {
    ports.iter().find(|port| port.name == name)
}

fn unpromised(side: Side, port: &Port) -> Incompatible {
    Incompatible::Unpromised {
        side,
        name: port.name.clone(),
        is: port.kind.clone(),
    }
}

/// Whether each port that was promised is there, and keeps its promise.
fn all_fit(side: Side, ports: &[Port], promised: &[Port]) -> Result<(), Incompatible> {
    for promised in promised {
        let name = promised.name.clone();
        let Some(port) = find(ports, &name) else {
            return Err(Incompatible::Missing {
                side,
                name,
                promised: promised.kind.clone(),
            });
        };
        if !fits(side, &port.kind, &promised.kind) {
            return Err(Incompatible::Changed {
                side,
                name,
                is: port.kind.clone(),
                promised: promised.kind.clone(),
            });
        }
    }
    Ok(())
}

fn fits(side: Side, is: &Kind, promised: &Kind) -> bool {
    match (is, promised) {
        (
            Kind::Tensor { datatype, shape },
            Kind::Tensor {
                datatype: promised_datatype,
                shape: promised_shape,
            },
        ) => {
            let fits = |(is, promised): (&Option<usize>, &Option<usize>)| {
                let freer = match side {
                    Side::Input => is,
                    Side::Output => promised,
                };
                freer.is_none() || is == promised
            };
            datatype == promised_datatype
                && shape.len() == promised_shape.len()
                && shape.iter().zip(promised_shape).all(fits)
        }
        (Kind::Sequence(is), Kind::Sequence(promised))
        | (Kind::Optional(is), Kind::Optional(promised)) => fits(side, is, promised),
        (is, promised) => is == promised,
    }
}

#[cfg(test)]
mod tests;
