//! Exact conversion of JSON scalars to elements of a tensor.
//!
//! A number becomes the nearest value of the element's type, ties to even as in IEEE 754; an integer must be whole.
//! Only valid JSON numbers are accepted.

mod decimal;
mod short;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::ops::Range;

use half::{bf16, f16};

use decimal::Decimal;
use short::ShortNumber;

/// A scalar that is not a number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scalar<'a> {
    /// Content of a string, unescaped.
    Text(&'a str),
    /// `true` or `false`.
    Boolean(bool),
    /// `null`.
    Null,
}

/// An element type of tensors.
pub(super) trait Element: Sized {
    /// Description of a valid scalar, for errors.
    const EXPECTED: &str;

    /// Returns the element for the number at the front of `text`, and the number's length; `None` if there is no
    /// element without loss.
    fn number(text: &[u8]) -> Option<(Self, usize)>;

    /// Returns the element for a scalar that is not a number.
    fn other(scalar: Scalar<'_>) -> Option<Self>;
}

macro_rules! integers {
    ($($element:ty, $expected:literal;)*) => {
        $(impl Element for $element {
            const EXPECTED: &str = $expected;

            fn number(text: &[u8]) -> Option<(Self, usize)> {
                let (value, length) = integer(text)?;
                Some((Self::try_from(value).ok()?, length))
            }

            fn other(_: Scalar<'_>) -> Option<Self> {
                None
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

/// Reads a whole number in any form: `5`, `5.0`, `5e0`.
fn integer(text: &[u8]) -> Option<(i128, usize)> {
    /// Number of digits that always fit in 64 bits.
    const MAX_DIGITS: usize = 18;
    if let Some(short) = ShortNumber::read(text).filter(|short| short.decimals == 0) {
        let value = i128::from(short.digits);
        return Some((if short.negative { -value } else { value }, short.length));
    }
    let whole = whole_part(text)?;
    if matches!(text.get(whole.end), Some(b'.' | b'e' | b'E')) || whole.len() > MAX_DIGITS {
        let (decimal, length) = Decimal::read(text)?;
        return Some((decimal.whole()?, length));
    }
    let mut value = 0_i64;
    for digit in &text[whole.clone()] {
        value = value * 10 + i64::from(digit - b'0');
    }
    let value = if whole.start == 1 { -value } else { value };
    Some((value.into(), whole.end))
}

/// Returns the length of the number at the front of `text`; `None` if it is not a JSON number.
pub(super) fn length(text: &[u8]) -> Option<usize> {
    Decimal::read(text).map(|(_, length)| length)
}

/// Returns the range of the digits before point and exponent; `None` if no JSON number begins here.
fn whole_part(text: &[u8]) -> Option<Range<usize>> {
    let start = usize::from(text.first() == Some(&b'-'));
    let digits = text.get(start..)?;
    let mut length = 0;
    while digits.get(length).is_some_and(u8::is_ascii_digit) {
        length += 1;
    }
    let has_leading_zero = digits.first() == Some(&b'0') && length > 1;
    let mut after = digits[length..].iter();
    let lacks_fraction =
        after.next() == Some(&b'.') && !after.next().is_some_and(u8::is_ascii_digit);
    (length > 0 && !has_leading_zero && !lacks_fraction).then_some(start..start + length)
}

/// A float type, converted by its nearest value.
trait Float: fast_float2::FastFloat {
    fn of(short: ShortNumber) -> Option<Self>;
}

impl Float for f32 {
    #[inline]
    fn of(short: ShortNumber) -> Option<Self> {
        short.to_f32()
    }
}

impl Float for f64 {
    #[inline]
    fn of(short: ShortNumber) -> Option<Self> {
        short.to_f64()
    }
}

#[expect(clippy::inline_always, reason = "its callers are inlined")]
#[inline(always)]
fn float<F: Float>(text: &[u8]) -> Option<(F, usize)> {
    if let Some(short) = ShortNumber::read(text)
        && let Some(value) = F::of(short)
    {
        return Some((value, short.length));
    }
    any_float(text)
}

#[inline(never)]
fn any_float<F: Float>(text: &[u8]) -> Option<(F, usize)> {
    whole_part(text)?;
    fast_float2::parse_partial(text).ok()
}

/// Returns a special value. JSON has no tokens for these: `null` is NaN, and all three may be strings.
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

            // Most of a large request's time is spent here.
            #[inline(always)]
            fn number(text: &[u8]) -> Option<(Self, usize)> {
                let (value, length): (Self, usize) = $number(text)?;
                value.is_finite().then_some((value, length))
            }

            fn other(scalar: Scalar<'_>) -> Option<Self> {
                special(scalar).map($special)
            }
        })*
    };
}

floats! {
    f32, "a number within the range of FP32, null or \"NaN\", \"Infinity\" or \"-Infinity\"",
        float, |value| value;
    f64, "a number within the range of FP64, null or \"NaN\", \"Infinity\" or \"-Infinity\"",
        float, f64::from;
    f16, "a number within the range of FP16, null or \"NaN\", \"Infinity\" or \"-Infinity\"",
        narrow, f16::from_f32;
    bf16, "a number within the range of BF16, null or \"NaN\", \"Infinity\" or \"-Infinity\"",
        narrow, bf16::from_f32;
}

/// A 16-bit float type.
trait HalfFloat {
    /// Bits of positive infinity.
    const INFINITY: u16;
    /// The value after the largest finite value, if the range were larger.
    const BEYOND: f64;

    fn of(bits: u16) -> Self;

    fn wide(bits: u16) -> f64;
}

impl HalfFloat for f16 {
    const INFINITY: u16 = f16::INFINITY.to_bits();
    const BEYOND: f64 = 65536.0;

    fn of(bits: u16) -> Self {
        Self::from_bits(bits)
    }

    fn wide(bits: u16) -> f64 {
        Self::from_bits(bits).to_f64()
    }
}

impl HalfFloat for bf16 {
    const INFINITY: u16 = bf16::INFINITY.to_bits();
    const BEYOND: f64 = 340_282_366_920_938_463_463_374_607_431_768_211_456.0;

    fn of(bits: u16) -> Self {
        Self::from_bits(bits)
    }

    fn wide(bits: u16) -> f64 {
        Self::from_bits(bits).to_f64()
    }
}

/// Returns the nearest 16-bit value. Conversion through 64 bits rounds twice, which matters if the first result is
/// exactly between two 16-bit values: then the decimal digits decide.
fn narrow<T: HalfFloat>(text: &[u8]) -> Option<(T, usize)> {
    let (wide, length) = float::<f64>(text)?;
    let magnitude = wide.abs();
    // Find the largest value that is not above, from zero to infinity: the bits are in the order of the values.
    let (mut below, mut above) = (0, T::INFINITY);
    while above - below > 1 {
        let middle = below.midpoint(above);
        if T::wide(middle) <= magnitude {
            below = middle;
        } else {
            above = middle;
        }
    }
    let upper = if above == T::INFINITY {
        T::BEYOND
    } else {
        T::wide(above)
    };
    // The middle needs one more bit, which 64 bits have.
    let middle = T::wide(below).midpoint(upper);
    let order = match magnitude.total_cmp(&middle) {
        Ordering::Equal => Decimal::read(&text[..length])?.0.compare(middle),
        order => order,
    };
    let bits = match order {
        Ordering::Less => below,
        Ordering::Greater => above,
        Ordering::Equal => below + (below & 1),
    };
    let sign = u16::from(wide.is_sign_negative()) << 15;
    Some((T::of(sign | bits), length))
}

impl Element for bool {
    const EXPECTED: &str = "true or false";

    fn number(text: &[u8]) -> Option<(Self, usize)> {
        match integer(text)? {
            (value @ (0 | 1), length) => Some((value == 1, length)),
            _ => None,
        }
    }

    fn other(scalar: Scalar<'_>) -> Option<Self> {
        match scalar {
            Scalar::Boolean(value) => Some(value),
            _ => None,
        }
    }
}
