//! Fast path for common numbers: few digits, an optional point, no exponent.
//!
//! Eight bytes are read at a time, so that the time does not depend on branch predictions of the number of digits.
//! Other numbers take the general path.

/// A number of at most `u64::MAX`, divided by a power of ten.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShortNumber {
    /// `true` for a minus sign.
    pub(super) negative: bool,
    /// All digits as an integer.
    pub(super) digits: u64,
    /// Number of digits after the point.
    pub(super) decimals: usize,
    /// Length in bytes.
    pub(super) length: usize,
}

/// Powers of ten that are exact in 64-bit floating point.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Returns the value and the number of the digits at the front of eight bytes.
#[inline]
fn eight(text: &[u8]) -> Option<(u64, usize)> {
    let bytes = u64::from_le_bytes(*text.first_chunk()?);
    // Digits become their values, and other bytes more than nine.
    let values = bytes ^ 0x3030_3030_3030_3030;
    let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
    let count = others.trailing_zeros() / 8;
    // Pad with leading zeros to eight digits. Two shifts, since one may not shift by all 64 bits.
    let half = 32 - count * 4;
    let eight = values << half << half;
    let pairs = eight.wrapping_mul(10).wrapping_add(eight >> 8);
    let mask = 0x0000_00ff_0000_00ff;
    let upper = (pairs & mask).wrapping_mul(0x000f_4240_0000_0064);
    let lower = ((pairs >> 16) & mask).wrapping_mul(0x0000_2710_0000_0001);
    Some((upper.wrapping_add(lower) >> 32, count as usize))
}

const TENS: [u64; 9] = [
    1,
    10,
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

impl ShortNumber {
    /// Reads the number at the front of `text`, if it is of this form and more text follows.
    #[expect(clippy::inline_always, reason = "its parts stay in registers")]
    #[inline(always)]
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let negative = text.first() == Some(&b'-');
        let start = usize::from(negative);
        let (mut digits, count) = eight(text.get(start..)?)?;
        let mut length = start + count;
        if !(1..8).contains(&count) || (count > 1 && text[start] == b'0') {
            return None;
        }
        let mut decimals = 0;
        if text.get(length) == Some(&b'.') {
            let after = text.get(length + 1..)?;
            let (first, count) = eight(after)?;
            // The number of digits after the point is unpredictable, and a wrong prediction costs more than reading
            // eight more bytes.
            let (second, more) = eight(&after[8..])?;
            let (second, more) = if count == 8 { (second, more) } else { (0, 0) };
            digits = (digits * TENS[count] + first)
                .checked_mul(TENS[more])?
                .checked_add(second)?;
            decimals = count + more;
            if decimals == 16 {
                let (third, rest) = eight(&after[16..])?;
                digits = digits.checked_mul(TENS[rest])?.checked_add(third)?;
                decimals += rest;
                (rest < 8).then_some(())?;
            }
            if decimals == 0 {
                return None;
            }
            length += 1 + decimals;
        }
        let short = Self {
            negative,
            digits,
            decimals,
            length,
        };
        (!matches!(text.get(length), Some(b'e' | b'E'))).then_some(short)
    }

    /// Returns the nearest value, if the digits determine it.
    #[inline]
    pub(super) fn to_f64(self) -> Option<f64> {
        /// Maximum exact integer, so that only the division rounds.
        const EXACT: u64 = 1 << 53;
        (self.digits <= EXACT).then_some(())?;
        self.quotient()
    }

    /// Returns the nearest value, if the 64-bit value determines it.
    #[inline]
    pub(super) fn to_f32(self) -> Option<f32> {
        /// The bits that are rounded away.
        const LOW: u64 = (1 << 29) - 1;
        /// The middle between two 32-bit values.
        const MIDDLE: u64 = 1 << 28;
        /// Digits and quotient are rounded once each, together by less than two units of 64 bits. At this distance from
        /// the middle, the rounded and the exact quotient are on the same side.
        const SAFE: u64 = 4;
        let wide = self.quotient()?;
        let is_normal = (f64::from(f32::MIN_POSITIVE)..1e38).contains(&wide.abs());
        let is_safe = (wide.to_bits() & LOW).abs_diff(MIDDLE) > SAFE;
        if (is_normal && is_safe) || self.digits == 0 {
            #[expect(clippy::cast_possible_truncation, reason = "to the nearest")]
            return Some(wide as f32);
        }
        None
    }

    #[inline]
    fn quotient(self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "to the nearest")]
        let value = self.digits as f64 / POWERS.get(self.decimals)?;
        // Without a branch, since the sign is unpredictable.
        Some(f64::from_bits(
            value.to_bits() | u64::from(self.negative) << 63,
        ))
    }
}
