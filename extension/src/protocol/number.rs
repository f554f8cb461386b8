//! One JSON scalar as an element of a tensor, exactly.

use half::{bf16, f16};

/// A scalar as it stands in JSON text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar<'a> {
    /// The text of a number.
    Number(&'a str),
    /// The content of a string, without escapes.
    Text(&'a str),
    /// `true` or `false`.
    Truth(bool),
    /// `null`.
    Null,
}

/// An element type of tensors.
pub(super) trait Element: Sized {
    /// What a scalar must be, for the error.
    const EXPECTED: &str;

    /// The element that a scalar stands for; `None` when there is none without loss.
    fn read(scalar: Scalar<'_>) -> Option<Self>;
}

/// Integers up to here are exact in a 64-bit float, so a text such as `1e3` or `5.0` is read without loss.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn integer<T: std::str::FromStr + TryFrom<i64>>(scalar: Scalar<'_>) -> Option<T> {
    let Scalar::Number(text) = scalar else {
        return None;
    };
    if let Ok(value) = text.parse() {
        return Some(value);
    }
    let value: f64 = fast_float2::parse(text).ok()?;
    if value.fract() != 0.0 || value.abs() > EXACT {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a whole number of at most 2^53"
    )]
    T::try_from(value as i64).ok()
}

macro_rules! integers {
    ($($element:ty, $expected:literal;)*) => {
        $(impl Element for $element {
            const EXPECTED: &str = $expected;

            fn read(scalar: Scalar<'_>) -> Option<Self> {
                integer(scalar)
            }
        })*
    };
}

integers! {
    u8, "a whole number from 0 to 255";
    u16, "a whole number from 0 to 65535";
    u32, "a whole number from 0 to 4294967295";
    u64, "a whole number from 0 to 18446744073709551615";
    i8, "a whole number from -128 to 127";
    i16, "a whole number from -32768 to 32767";
    i32, "a whole number from -2147483648 to 2147483647";
    i64, "a whole number from -9223372036854775808 to 9223372036854775807";
}

/// JSON has no form for the three special values: `null` is NaN, and all three may come as strings.
fn special(scalar: Scalar<'_>) -> Option<f32> {
    match scalar {
        Scalar::Null | Scalar::Text("NaN") => Some(f32::NAN),
        Scalar::Text("Infinity") => Some(f32::INFINITY),
        Scalar::Text("-Infinity") => Some(f32::NEG_INFINITY),
        _ => None,
    }
}

macro_rules! floats {
    ($($element:ty, $expected:literal, $number:expr, $special:expr;)*) => {
        $(impl Element for $element {
            const EXPECTED: &str = $expected;

            fn read(scalar: Scalar<'_>) -> Option<Self> {
                let Scalar::Number(text) = scalar else { return special(scalar).map($special) };
                let value: Self = $number(text)?;
                value.is_finite().then_some(value)
            }
        })*
    };
}

floats! {
    f32, "a number within the range of FP32, null or \"NaN\", \"Infinity\" or \"-Infinity\"",
        |text| fast_float2::parse(text).ok(), |value| value;
    f64, "a number within the range of FP64, null or \"NaN\", \"Infinity\" or \"-Infinity\"",
        |text| fast_float2::parse(text).ok(), f64::from;
    f16, "a number within the range of FP16, null or \"NaN\", \"Infinity\" or \"-Infinity\"",
        |text| fast_float2::parse(text).ok().map(f16::from_f64), f16::from_f32;
    bf16, "a number within the range of BF16, null or \"NaN\", \"Infinity\" or \"-Infinity\"",
        |text| fast_float2::parse(text).ok().map(bf16::from_f64), bf16::from_f32;
}

impl Element for bool {
    const EXPECTED: &str = "true or false";

    fn read(scalar: Scalar<'_>) -> Option<Self> {
        match scalar {
            Scalar::Truth(value) => Some(value),
            Scalar::Number("0") => Some(false),
            Scalar::Number("1") => Some(true),
            _ => None,
        }
    }
}

impl Element for String {
    const EXPECTED: &str = "a string";

    fn read(scalar: Scalar<'_>) -> Option<Self> {
        match scalar {
            Scalar::Text(text) => Some(text.to_owned()),
            _ => None,
        }
    }
}
