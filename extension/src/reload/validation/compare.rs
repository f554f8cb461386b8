//! Comparison of a tensor with the expected one, within a tolerance for floating-point numbers.

use std::fmt;

use crate::manifest::{Tolerance, printable};
use crate::tensor::{Data, Datatype, Tensor};

/// First difference between a tensor and the expected one. Its text follows the tensor's name.
#[derive(Debug, PartialEq)]
pub(super) enum Difference {
    /// Another datatype.
    Datatype { expected: Datatype, got: Datatype },
    /// Another shape.
    Shape {
        expected: Vec<usize>,
        got: Vec<usize>,
    },
    /// Elements that differ.
    Elements {
        /// Index of the first element that differs.
        index: Vec<usize>,
        expected: String,
        got: String,
        /// Tolerance that applied; `None` unless the elements are floating-point numbers.
        tolerance: Option<Tolerance>,
        /// Number of elements that differ.
        differing: usize,
        /// Number of elements.
        of: usize,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Datatype { expected, got } => {
                write!(f, " is of {got}, and {expected} is expected")
            }
            Difference::Shape { expected, got } => {
                write!(f, " has shape {got:?}, and {expected:?} is expected")
            }
            Difference::Elements {
                index,
                expected,
                got,
                tolerance,
                differing,
                of,
            } => {
                if !index.is_empty() {
                    write!(f, "{index:?}")?;
                }
                write!(
                    f,
                    " is {}, and {} is expected",
                    printable(got),
                    printable(expected)
                )?;
                if let Some(Tolerance { absolute, relative }) = tolerance {
                    write!(
                        f,
                        " (tolerance: absolute {absolute:e}, relative {relative:e})"
                    )?;
                }
                write!(f, "; {differing} of {of} elements differ")
            }
        }
    }
}

/// Compares `got` with `expected`: floating-point numbers within the tolerance, other elements for equality.
pub(super) fn compare(
    expected: &Tensor,
    got: &Tensor,
    tolerance: Tolerance,
) -> Result<(), Difference> {
    if expected.datatype() != got.datatype() {
        return Err(Difference::Datatype {
            expected: expected.datatype(),
            got: got.datatype(),
        });
    }
    if expected.shape() != got.shape() {
        return Err(Difference::Shape {
            expected: expected.shape().to_vec(),
            got: got.shape().to_vec(),
        });
    }
    let Some(first) = Differing::of(expected.data(), got.data(), tolerance) else {
        return Ok(());
    };
    Err(Difference::Elements {
        index: index(first.position, expected.shape()),
        expected: first.expected,
        got: first.got,
        tolerance: first.is_float.then_some(tolerance),
        differing: first.count,
        of: expected.data().len(),
    })
}

/// First element that differs, and the number of elements that do.
struct Differing {
    position: usize,
    expected: String,
    got: String,
    is_float: bool,
    count: usize,
}

impl Differing {
    fn of(expected: &Data, got: &Data, tolerance: Tolerance) -> Option<Self> {
        macro_rules! table {
            (near: $($near:ident)*; equal: $($equal:ident)*) => {
                match (expected, got) {
                    $((Data::$near(expected), Data::$near(got)) => {
                        let is_near = |expected: &_, got: &_| {
                            tolerance.admits(f64::from(*expected), f64::from(*got))
                        };
                        Self::among(expected, got, is_near, true)
                    })*
                    $((Data::$equal(expected), Data::$equal(got)) => {
                        Self::among(expected, got, PartialEq::eq, false)
                    })*
                    (Data::Bytes(expected), Data::Bytes(got)) => {
                        let (expected, got): (Vec<_>, Vec<_>) =
                            (expected.iter().collect(), got.iter().collect());
                        Self::among(&expected, &got, PartialEq::eq, false)
                    }
                    // Unreachable: the datatypes were compared before.
                    _ => Self::among(&[expected], &[got], |_, _| false, false),
                }
            };
        }
        table! {
            near: Fp16 Bf16 Fp32 Fp64;
            equal: Bool Uint8 Uint16 Uint32 Uint64 Int8 Int16 Int32 Int64
        }
    }

    fn among<T: fmt::Debug>(
        expected: &[T],
        got: &[T],
        same: impl Fn(&T, &T) -> bool,
        is_float: bool,
    ) -> Option<Self> {
        let pairs = expected.iter().zip(got).enumerate();
        let mut differing = pairs.filter(|(_, (expected, got))| !same(expected, got));
        let (position, (expected, got)) = differing.next()?;
        Some(Self {
            position,
            expected: format!("{expected:?}"),
            got: format!("{got:?}"),
            is_float,
            count: 1 + differing.count(),
        })
    }
}

/// Returns the index of the element at `position` in row-major order.
fn index(position: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = position;
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&length| {
            let along = rest % length.max(1);
            rest /= length.max(1);
            along
        })
        .collect();
    index.reverse();
    index
}

#[cfg(test)]
mod tests;
