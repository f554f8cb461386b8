//! Numbers as they mostly are: a few digits, perhaps a point, no exponent.
//!
//! Read eight bytes at a time, so that the time does not depend on guesses of how many digits come. What is not read
//! here is left to those who can read any number.

/// A number that is at most `u64::MAX` divided by a power of ten.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short {
    /// Whether it has a minus sign.
    pub(super) negative: bool,
    /// All of its digits.
    pub(super) digits: u64,
    /// How many of them stand behind the point.
    pub(super) behind: usize,
    /// How many bytes it has.
    pub(super) length: usize,
}

/// The powers of ten that 64 bits of floating point have exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Up to eight digits at the beginning of eight bytes: their value, and how many there are.
#[inline]
fn eight(text: &[u8]) -> Option<(u64, usize)> {
    let bytes = u64::from_le_bytes(*text.first_chunk()?);
    // Each digit becomes its value, and whatever else is more than nine.
    let values = bytes ^ 0x3030_3030_3030_3030;
    let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
    let count = others.trailing_zeros() / 8;
    // As eight digits, with zeros in front. In two steps, since none may be all of the bits.
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

impl Short {
    /// The number at the beginning of `text`, if it is of this kind, and more of the text follows.
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
        let mut behind = 0;
        if text.get(length) == Some(&b'.') {
            let after = text.get(length + 1..)?;
            let (first, count) = eight(after)?;
            // Whether eight digits or fewer follow the point is chance, and to guess it wrong costs more than to look
            // at eight more bytes in any case.
            let (second, more) = eight(&after[8..])?;
            let (second, more) = if count == 8 { (second, more) } else { (0, 0) };
            digits = (digits * TENS[count] + first)
                .checked_mul(TENS[more])?
                .checked_add(second)?;
            behind = count + more;
            if behind == 16 {
                let (third, rest) = eight(&after[16..])?;
                digits = digits.checked_mul(TENS[rest])?.checked_add(third)?;
                behind += rest;
                (rest < 8).then_some(())?;
            }
            if behind == 0 {
                return None;
            }
            length += 1 + behind;
        }
        let short = Self {
            negative,
            digits,
            behind,
            length,
        };
        (!matches!(text.get(length), Some(b'e' | b'E'))).then_some(short)
    }

    /// The nearest value, where it is found without more digits than it has.
    #[inline]
    pub(super) fn to_f64(self) -> Option<f64> {
        /// Up to here integers are exact, so that the one division is all that is rounded.
        const EXACT: u64 = 1 << 53;
        (self.digits <= EXACT).then_some(())?;
        self.quotient()
    }

    /// The nearest value, where the way over 64 bits shows it.
    #[inline]
    pub(super) fn to_f32(self) -> Option<f32> {
        /// The bits that are rounded away.
        const LOW: u64 = (1 << 29) - 1;
        /// In the middle between two values of 32 bits.
        const MIDDLE: u64 = 1 << 28;
        /// The digits and the quotient are rounded once each, which in all is less than two units of 64 bits: so far from
        /// the middle, the rounded quotient is on the same side of it as the true one.
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
        let value = self.digits as f64 / POWERS.get(self.behind)?;
        // Not by a branch: what sign comes next is chance.
        Some(f64::from_bits(
            value.to_bits() | u64::from(self.negative) << 63,
        ))
    }
}
