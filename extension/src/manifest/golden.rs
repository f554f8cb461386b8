//! Golden examples: what must come out of a version for what goes in, and how nearly.

use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::{number, written};
use crate::tensor::{Datatype, element_count};

/// One example.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// What goes in. A model without inputs has none.
    #[serde(deserialize_with = "written::objects")]
    pub inputs: Vec<GoldenTensor>,
    /// What must come out: one or more of the model's outputs.
    #[serde(deserialize_with = "written::objects")]
    pub outputs: Vec<GoldenTensor>,
    #[serde(default, deserialize_with = "written::object")]
    tolerance: Tolerance,
    #[serde(default, deserialize_with = "written::object")]
    tolerance_on: ByArchitecture,
}

impl Golden {
    /// How nearly the outputs must be met on this architecture, by its name in [`std::env::consts::ARCH`].
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

/// One tensor, as the Open Inference Protocol writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenTensor {
    /// The name of the model's input or output.
    pub name: String,
    /// The length of each dimension.
    #[serde(deserialize_with = "number::shape")]
    pub shape: Vec<usize>,
    /// The element type.
    #[serde(deserialize_with = "datatype")]
    pub datatype: Datatype,
    /// The elements as JSON text: an array, flat or nested, of as many elements as `shape` holds. Whether each fits
    /// the datatype shows when it is read.
    #[serde(
        serialize_with = "written::as_json",
        deserialize_with = "written::array"
    )]
    pub data: String,
}

impl GoldenTensor {
    /// Holds the number of elements against the shape.
    pub(super) fn check(&self) -> Result<(), String> {
        let Elements(given) =
            serde_json::from_str(&self.data).map_err(|error| error.to_string())?;
        match element_count(&self.shape) {
            Some(count) if count == given => Ok(()),
            count => Err(format!(
                "shape {:?} holds {} elements, the data has {given}",
                self.shape,
                count.map_or_else(|| "2^64 or more".to_owned(), |count| count.to_string()),
            )),
        }
    }
}

/// How far a number may be from the one that is expected. Integers, truth values and strings must be equal.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// By this much, whatever the number.
    #[serde(deserialize_with = "number::not_negative")]
    pub absolute: f64,
    /// And by this part of the number that is expected.
    #[serde(deserialize_with = "number::not_negative")]
    pub relative: f64,
}

impl Default for Tolerance {
    /// What another CPU's order of single-precision additions may change.
    fn default() -> Self {
        Self {
            absolute: 1e-5,
            relative: 1e-4,
        }
    }
}

impl Tolerance {
    /// Whether `got` will do where `expected` should be. NaN and the infinities are met by themselves alone.
    #[must_use]
    pub fn admits(self, expected: f64, got: f64) -> bool {
        if !expected.is_finite() || !got.is_finite() {
            return expected.to_bits() == got.to_bits() || (expected.is_nan() && got.is_nan());
        }
        (got - expected).abs() <= self.absolute + self.relative * expected.abs()
    }
}

/// The architectures of Lambda, each with a tolerance of its own or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ByArchitecture {
    #[serde(default, deserialize_with = "written::given_object")]
    x86_64: Option<Tolerance>,
    #[serde(default, deserialize_with = "written::given_object")]
    aarch64: Option<Tolerance>,
}

fn datatype<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Datatype, D::Error> {
    written::parsed(deserializer, |name| {
        Datatype::from_name(name).ok_or_else(|| {
            let names: Vec<&str> = Datatype::ALL.iter().map(|known| known.name()).collect();
            format!("one of {}", names.join(", "))
        })
    })
}

/// The number of elements in an array, however deep it is nested.
struct Elements(usize);

impl<'de> Deserialize<'de> for Elements {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Count;
        impl<'de> Visitor<'de> for Count {
            type Value = Elements;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("numbers, truth values, strings or null, or arrays of them")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Elements, E> {
                Ok(Elements(1))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Elements, E> {
                Ok(Elements(1))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Elements, E> {
                Ok(Elements(1))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Elements, E> {
                Ok(Elements(1))
            }

            fn visit_str<E>(self, _: &str) -> Result<Elements, E> {
                Ok(Elements(1))
            }

            fn visit_unit<E>(self) -> Result<Elements, E> {
                Ok(Elements(1))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut inner: A) -> Result<Elements, A::Error> {
                let mut count = 0;
                while let Some(Elements(more)) = inner.next_element()? {
                    count += more;
                }
                Ok(Elements(count))
            }
        }
        deserializer.deserialize_any(Count)
    }
}
