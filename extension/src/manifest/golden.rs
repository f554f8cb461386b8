//! Golden examples: inputs of a version with the expected outputs and their tolerance.

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{json, number};
use crate::tensor::{Datatype, element_count};

/// Golden example.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Inputs; empty for a model without inputs.
    #[serde(deserialize_with = "json::objects")]
    pub inputs: Vec<GoldenTensor>,
    /// Expected values of one or more outputs.
    #[serde(deserialize_with = "json::objects")]
    pub outputs: Vec<GoldenTensor>,
    #[serde(default, deserialize_with = "json::object")]
    tolerance: Tolerance,
    #[serde(default, deserialize_with = "json::object")]
    tolerance_on: TolerancesByArchitecture,
}

impl Golden {
    /// Returns the tolerance on an architecture, named as in [`std::env::consts::ARCH`].
    #[must_use]
    pub fn tolerance(&self, architecture: &str) -> Tolerance {
        let own = match architecture {
            "x86_64" => self.tolerance_on.x86_64,
            "aarch64" => self.tolerance_on.aarch64,
            _ => None,
        };
        own.unwrap_or(self.tolerance)
    }
}

/// Tensor in the form of the Open Inference Protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenTensor {
    /// Name of the model's input or output.
    pub name: String,
    /// Length of each dimension.
    #[serde(deserialize_with = "number::shape")]
    pub shape: Vec<usize>,
    /// Element type.
    #[serde(deserialize_with = "datatype")]
    pub datatype: Datatype,
    /// Elements as JSON text: a flat or nested array with the number of elements of `shape`. The values are
    /// checked against the datatype when they are decoded.
    #[serde(serialize_with = "json::as_json", deserialize_with = "json::array")]
    pub data: String,
}

impl GoldenTensor {
    /// Checks the number of elements against the shape.
    pub(super) fn check(&self) -> Result<(), String> {
        let ElementCount(given) =
            serde_json::from_str(&self.data).map_err(|error| error.to_string())?;
        match element_count(&self.shape) {
            Some(count) if count == given => Ok(()),
            count => Err(format!(
                "the shape {:?} has {} elements, but the data have {given}",
                self.shape,
                count.map_or_else(|| "2^64 or more".to_owned(), |count| count.to_string()),
            )),
        }
    }
}

/// Tolerance of floating-point numbers. Integers, booleans and strings must be equal.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Absolute difference that is allowed.
    #[serde(deserialize_with = "number::not_negative")]
    pub absolute: f64,
    /// Additional difference that is allowed, as a fraction of the expected number.
    #[serde(deserialize_with = "number::not_negative")]
    pub relative: f64,
}

impl Default for Tolerance {
    /// Covers differences between CPUs in the order of single-precision additions.
    fn default() -> Self {
        Self {
            absolute: 1e-5,
            relative: 1e-4,
        }
    }
}

impl Tolerance {
    /// Returns `true` if `got` is within the tolerance of `expected`. NaN and infinities must be equal.
    #[must_use]
    pub fn admits(self, expected: f64, got: f64) -> bool {
        if !expected.is_finite() || !got.is_finite() {
            return expected.to_bits() == got.to_bits() || (expected.is_nan() && got.is_nan());
        }
        (got - expected).abs() <= self.absolute + self.relative * expected.abs()
    }
}

/// Tolerances by architecture of Lambda.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct TolerancesByArchitecture {
    #[serde(default, deserialize_with = "json::optional_object")]
    x86_64: Option<Tolerance>,
    #[serde(default, deserialize_with = "json::optional_object")]
    aarch64: Option<Tolerance>,
}

fn datatype<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Datatype, D::Error> {
    json::parsed(deserializer, |name| {
        Datatype::from_name(name).ok_or_else(|| {
            let names: Vec<&str> = Datatype::ALL.iter().map(|known| known.name()).collect();
            format!("one of {}", names.join(", "))
        })
    })
}

/// Number of elements in a nested array.
struct ElementCount(usize);

impl<'de> Deserialize<'de> for ElementCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Count;
        impl<'de> Visitor<'de> for Count {
            type Value = ElementCount;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("numbers, truth values, strings or null, or arrays of them")
            }

            fn visit_bool<E>(self, _: bool) -> Result<ElementCount, E> {
                Ok(ElementCount(1))
            }

            fn visit_u64<E>(self, _: u64) -> Result<ElementCount, E> {
                Ok(ElementCount(1))
            }

            fn visit_i64<E>(self, _: i64) -> Result<ElementCount, E> {
                Ok(ElementCount(1))
            }

            fn visit_f64<E>(self, _: f64) -> Result<ElementCount, E> {
                Ok(ElementCount(1))
            }

            fn visit_str<E>(self, _: &str) -> Result<ElementCount, E> {
                Ok(ElementCount(1))
            }

            fn visit_unit<E>(self) -> Result<ElementCount, E> {
                Ok(ElementCount(1))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut inner: A) -> Result<ElementCount, A::Error> {
                let mut count = 0;
                while let Some(ElementCount(more)) = inner.next_element()? {
                    count += more;
                }
                Ok(ElementCount(count))
            }
        }
        deserializer.deserialize_any(Count)
    }
}
