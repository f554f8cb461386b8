use std::fmt::{Debug, Display};
use std::str::FromStr;

use half::{bf16, f16};
use proptest::prelude::*;

use super::*;

/// Reads all of a text as a number, both at the end of a text and before further text, which are two code paths.
fn read<T: Element + PartialEq + Debug>(text: &str) -> Option<T> {
    let all =
        |text: &str, length: usize| T::number(text.as_bytes()).filter(|(_, read)| *read == length);
    let alone = all(text, text.len()).map(|(value, _)| value);
    let longer = format!("{text}, -12345678.12345678901234567890123");
    let before = all(&longer, text.len()).map(|(value, _)| value);
    assert_eq!(alone, before, "{text}");
    alone
}

/// Reads a number with the standard library.
fn expect<T: Element + FromStr + PartialEq + Display + Debug>(
    text: &str,
) -> Result<(), TestCaseError> {
    let expected: Option<T> = text.parse().ok();
    prop_assert_eq!(read::<T>(text), expected, "{}", text);
    Ok(())
}

proptest! {
    #[test]
    fn a_float_is_the_nearest_value(
        bits in any::<u32>(),
        wide in any::<u64>(),
        digits in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?",
    ) {
        let (single, double) = (f32::from_bits(bits), f64::from_bits(wide));
        for text in [
            digits,
            single.to_string(),
            format!("{single:e}"),
            f64::from(single).to_string(),
            double.to_string(),
            format!("{double:e}"),
        ] {
            if text.contains(['N', 'i']) {
                prop_assert_eq!(read::<f32>(&text), None);
                continue;
            }
            let (single, double): (f32, f64) = (text.parse().unwrap(), text.parse().unwrap());
            prop_assert_eq!(read::<f32>(&text).map(f32::to_bits), single.is_finite().then_some(single.to_bits()), "{}", &text);
            prop_assert_eq!(read::<f64>(&text).map(f64::to_bits), double.is_finite().then_some(double.to_bits()), "{}", &text);
        }
    }

    /// A number close to the middle between two values is rounded by its digits, however many follow the point.
    #[test]
    fn a_number_next_to_the_middle_is_rounded_to_the_nearer_value(bits in any::<u32>(), half in any::<u16>(), zeros in 0..60_usize) {
        let single = f32::from_bits(bits & 0x7fff_ffff);
        let next = f32::from_bits((bits & 0x7fff_ffff) + 1);
        if next.is_finite() && next > 1e-30 {
            let middle = f64::from(single).midpoint(f64::from(next));
            let even = if bits & 1 == 0 { single } else { next };
            around_middle(middle, zeros, single, even, next)?;
        }
        macro_rules! narrow {
            ($type:ty) => {
                let bits = half & 0x7fff;
                let (value, next) = (<$type>::from_bits(bits), <$type>::from_bits(bits + 1));
                if next.is_finite() && value.is_finite() {
                    let middle = value.to_f64().midpoint(next.to_f64());
                    around_middle(middle, zeros, value, if bits & 1 == 0 { value } else { next }, next)?;
                }
            };
        }
        narrow!(f16);
        narrow!(bf16);
    }

    #[test]
    fn an_integer_is_exact_or_none(value in any::<i64>(), small in -300_i64..300, point in 0..4_usize) {
        for value in [value, small] {
            let text = value.to_string();
            expect::<i64>(&text)?;
            expect::<u64>(&text)?;
            expect::<i8>(&text)?;
            expect::<u8>(&text)?;
            expect::<i32>(&text)?;
            for text in [format!("{value}.{}", "0".repeat(point + 1)), format!("{value}e0"), format!("{value}.000E+00")] {
                prop_assert_eq!(read::<i64>(&text), Some(value), "{}", text);
            }
            let shifted = format!("{value}000E-3");
            prop_assert_eq!(read::<i64>(&shifted), (value != 0).then_some(value), "{}", shifted);
            for text in [format!("{value}.{}1", "0".repeat(point * 10)), format!("{value}1e-1")] {
                prop_assert_eq!(read::<i64>(&text), None, "{}", text);
            }
        }
    }
}

/// Returns the middle between two values, and numbers just below and just above it.
fn around_middle<T: Element + PartialEq + Debug>(
    middle: f64,
    zeros: usize,
    below: T,
    even: T,
    above: T,
) -> Result<(), TestCaseError> {
    // All digits of the middle.
    let exact = format!("{middle:.1100}");
    prop_assert_eq!(read::<T>(&exact), Some(even), "{}", middle);
    let more = format!("{exact}{}1", "0".repeat(zeros));
    prop_assert_eq!(read::<T>(&more), Some(above), "{}", middle);
    let digits = exact.trim_end_matches('0').trim_end_matches('.');
    let (rest, last) = digits.split_at(digits.len() - 1);
    let point = if digits.contains('.') { "" } else { "." };
    let less: u8 = last.parse().unwrap();
    if less > 0 {
        let less = format!("{rest}{}{point}9{}", less - 1, "9".repeat(zeros));
        prop_assert_eq!(read::<T>(&less), Some(below), "{}", middle);
    }
    Ok(())
}

#[test]
fn text_that_is_not_a_json_number_is_rejected() {
    for text in [
        "", "-", "+1", "01", "-01", ".5", "1.", "1.e5", "-.5", "inf", "nan", "Infinity", "--1",
        "0x1", "1e", "1e+",
    ] {
        assert_eq!(read::<f32>(text), None, "{text}");
        assert_eq!(read::<f16>(text), None, "{text}");
        assert_eq!(read::<i32>(text), None, "{text}");
        assert_eq!(read::<bool>(text), None, "{text}");
    }
    for text in ["1e39", "-1e39", "3.4028236e38"] {
        assert_eq!(read::<f32>(text), None, "{text}");
    }
    assert_eq!(read::<f64>("1e400"), None);
    assert_eq!(
        read::<f16>("65520"),
        None,
        "just between the largest and what would follow"
    );
    assert_eq!(read::<f16>("65519.99999999999999999999999"), Some(f16::MAX));
    assert_eq!(read::<bf16>("3.3961775292304602e38"), None);
    // Conversion through 64-bit floats would change these integers.
    assert_eq!(
        read::<i64>("9007199254740993.0"),
        Some(9_007_199_254_740_993)
    );
    assert_eq!(read::<i64>("0.99999999999999999999"), None);
    assert_eq!(read::<u64>("18446744073709551615e0"), Some(u64::MAX));
    assert_eq!(read::<u64>("18446744073709551616"), None);
    assert_eq!(read::<u64>("0e999999999999999999999"), Some(0));
    assert_eq!(read::<u64>("1e999999999999999999999"), None);
    assert_eq!(read::<u64>("1e-999999999999999999999"), None);
    assert_eq!(read::<bool>("1.0"), Some(true));
    assert_eq!(read::<bool>("2"), None);
}
