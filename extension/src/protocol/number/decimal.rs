//! Decimal digits of a number, for values that no floating-point number represents exactly.

use std::cmp::Ordering;

use super::whole_part;

/// Digits and exponent of a JSON number.
#[derive(Debug)]
pub(super) struct Decimal<'a> {
    negative: bool,
    before: &'a [u8],
    after: &'a [u8],
    exponent: i64,
}

impl<'a> Decimal<'a> {
    /// Reads the number at the front of `text`, and returns its length.
    pub(super) fn read(text: &'a [u8]) -> Option<(Self, usize)> {
        let whole = whole_part(text)?;
        let digits = |from: usize| {
            let rest = text.get(from..).unwrap_or_default();
            let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            &rest[..length]
        };
        let before = &text[whole.clone()];
        let mut end = whole.end;
        let mut after: &[u8] = &[];
        if text.get(end) == Some(&b'.') {
            after = digits(end + 1);
            end += 1 + after.len();
        }
        let mut exponent = 0_i64;
        if matches!(text.get(end), Some(b'e' | b'E')) {
            let sign = text.get(end + 1).copied();
            let start = end + 1 + usize::from(matches!(sign, Some(b'-' | b'+')));
            let figures = digits(start);
            if figures.is_empty() {
                return None;
            }
            for figure in figures {
                exponent = exponent
                    .saturating_mul(10)
                    .saturating_add(i64::from(figure - b'0'));
            }
            if sign == Some(b'-') {
                exponent = -exponent;
            }
            end = start + figures.len();
        }
        let decimal = Self {
            negative: whole.start == 1,
            before,
            after,
            exponent,
        };
        Some((decimal, end))
    }

    /// Returns the digits from the first to the last nonzero digit, their number, and the number of them, or of
    /// following zeros, before the point.
    fn significant(&self) -> (impl Iterator<Item = u8> + Clone, usize, i64) {
        let all = || self.before.iter().chain(self.after).copied();
        let zeros = all().take_while(|digit| *digit == b'0').count();
        let total = self.before.len() + self.after.len();
        let last = all().rev().take_while(|digit| *digit == b'0').count();
        let length = total.saturating_sub(zeros + last);
        let to_i64 = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        let point = (to_i64(self.before.len()) - to_i64(zeros)).saturating_add(self.exponent);
        (all().skip(zeros).take(length), length, point)
    }

    /// Returns the number if it is whole.
    pub(super) fn whole(&self) -> Option<i128> {
        let (digits, length, point) = self.significant();
        if length == 0 {
            return Some(0);
        }
        let zeros = point.checked_sub(i64::try_from(length).ok()?)?;
        if zeros < 0 {
            return None;
        }
        let mut value = 0_i128;
        for digit in digits {
            value = value
                .checked_mul(10)?
                .checked_add(i128::from(digit - b'0'))?;
        }
        for _ in 0..zeros {
            value = value.checked_mul(10)?;
        }
        Some(if self.negative { -value } else { value })
    }

    /// Compares the magnitude with a positive number of at most 160 digits.
    pub(super) fn compare(&self, other: f64) -> Ordering {
        let other = format!("{other:.160e}");
        let Some((other, _)) = Decimal::read(other.as_bytes()) else {
            return Ordering::Equal;
        };
        let ((mine, _, point), (others, length, their_point)) =
            (self.significant(), other.significant());
        debug_assert!(length > 0);
        point.cmp(&their_point).then_with(|| mine.cmp(others))
    }
}
