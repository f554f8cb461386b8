//! Deserialization of numbers, with errors in the terms of JSON instead of Rust.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// Non-negative integer, written without point and exponent.
struct Whole(u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DigitsVisitor;
        impl Visitor<'_> for DigitsVisitor {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, not negative")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(number))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Whole, E> {
                let number = u64::try_from(number)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))?;
                Ok(Whole(number))
            }
        }
        deserializer.deserialize_u64(DigitsVisitor)
    }
}

/// Finite number. JSON has no NaN and no infinities.
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DecimalVisitor;
        impl Visitor<'_> for DecimalVisitor {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
                Ok(Number(number))
            }

            #[expect(
                clippy::cast_precision_loss,
                reason = "the same as for a number with a point"
            )]
            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }

            #[expect(
                clippy::cast_precision_loss,
                reason = "the same as for a number with a point"
            )]
            fn visit_i64<E>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number as f64))
            }
        }
        deserializer.deserialize_f64(DecimalVisitor)
    }
}

/// Deserializes the size of a file.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match Whole::deserialize(deserializer)?.0 {
        0 => Err(D::Error::invalid_value(
            Unexpected::Unsigned(0),
            &"a number of bytes, at least 1",
        )),
        size => Ok(size),
    }
}

/// Deserializes a list of counts.
pub(super) fn counts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    let counts = Vec::<Whole>::deserialize(deserializer)?;
    Ok(counts.into_iter().map(|Whole(count)| count).collect())
}

/// Deserializes a count.
pub(super) fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Whole::deserialize(deserializer).map(|Whole(count)| count)
}

/// Deserializes an index that may be missing.
pub(super) fn index<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    Whole::deserialize(deserializer).and_then(usable).map(Some)
}

/// Deserializes the lengths of a tensor's dimensions.
pub(super) fn shape<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
    let lengths = Vec::<Whole>::deserialize(deserializer)?;
    lengths.into_iter().map(usable).collect()
}

/// Length of a dimension; `None` for -1.
struct WrittenDimension(Option<usize>);

impl<'de> Deserialize<'de> for WrittenDimension {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DigitsVisitor;
        impl Visitor<'_> for DigitsVisitor {
            type Value = WrittenDimension;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, or -1 for any length")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<WrittenDimension, E> {
                usable(Whole(number)).map(|length| WrittenDimension(Some(length)))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<WrittenDimension, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) if number == -1 => Ok(WrittenDimension(None)),
                    Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
                }
            }
        }
        deserializer.deserialize_i64(DigitsVisitor)
    }
}

/// Deserializes the lengths of dimensions; -1 stands for any length.
pub(super) fn dimensions<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Option<usize>>, D::Error> {
    let lengths = Vec::<WrittenDimension>::deserialize(deserializer)?;
    Ok(lengths
        .into_iter()
        .map(|WrittenDimension(length)| length)
        .collect())
}

fn usable<E: Error>(Whole(number): Whole) -> Result<usize, E> {
    usize::try_from(number).map_err(|_| {
        E::invalid_value(
            Unexpected::Unsigned(number),
            &"a number that fits this machine's memory",
        )
    })
}

/// Finite number with the value of its decimal digits, correctly rounded. The parser of [`Number`] may differ in the
/// last bit.
struct ExactNumber(f64);

impl<'de> Deserialize<'de> for ExactNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        match fast_float2::parse::<f64, _>(text) {
            Ok(number) if is_number && number.is_finite() => Ok(Self(number)),
            _ if is_number => Err(D::Error::custom("number out of range")),
            _ => {
                let value: Value = serde_json::from_str(text).map_err(D::Error::custom)?;
                let Number(number) = Number::deserialize(value).map_err(D::Error::custom)?;
                Ok(Self(number))
            }
        }
    }
}

/// Deserializes a list of numbers, each with the exact value of its digits.
pub(super) fn exact_numbers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<f64>, D::Error> {
    let numbers = Vec::<ExactNumber>::deserialize(deserializer)?;
    let numbers = numbers.into_iter();
    Ok(numbers.map(|ExactNumber(number)| number).collect())
}

/// Deserializes a non-negative number.
pub(super) fn not_negative<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let Number(number) = Number::deserialize(deserializer)?;
    if number < 0.0 {
        return Err(D::Error::invalid_value(
            Unexpected::Float(number),
            &"a number that is not negative",
        ));
    }
    Ok(number)
}

/// Deserializes a percentage.
pub(super) fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let Number(number) = Number::deserialize(deserializer)?;
    if !(0.0..=100.0).contains(&number) {
        return Err(D::Error::invalid_value(
            Unexpected::Float(number),
            &"a number from 0 to 100",
        ));
    }
    Ok(number)
}
