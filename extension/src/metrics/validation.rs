//! Local validation of metric data: CloudWatch rejects a whole request for one datum outside its limits.
//!
//! Source: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html>.

use std::time::Duration;

use super::datum::Datum;
use crate::clock::Timestamp;

/// Maximum age of a datum: two weeks, minus the time of a delivery.
const MAX_AGE: Duration = Duration::from_secs((14 * 24 - 1) * 3600);
/// Maximum distance of a datum into the future, which a clock that is set back leads to.
const MAX_AHEAD: Duration = Duration::from_secs(2 * 3600 - 60);
/// Maximum exponent of a value, to the base of 2.
const MAX_EXPONENT: i32 = 360;

/// Removes values that CloudWatch rejects. The error is the reason why the datum must be dropped.
pub(super) fn validate(datum: &mut Datum, now: Timestamp) -> Result<(), &'static str> {
    if now.since(datum.minute) > MAX_AGE {
        return Err("older than two weeks");
    }
    if datum.minute.since(now) > MAX_AHEAD {
        return Err("more than two hours ahead of the clock");
    }
    let limit = 2f64.powi(MAX_EXPONENT);
    let is_valid =
        |(value, count): &(f64, f64)| value.abs() <= limit && count.is_finite() && *count > 0.0;
    datum.values.retain(is_valid);
    if datum.values.is_empty() {
        return Err("no value between -2^360 and 2^360");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::defs;

    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    fn datum(minute: u64, values: Vec<(f64, f64)>) -> Datum {
        Datum {
            metric: defs::find(defs::INFERENCE_LATENCY).unwrap(),
            model: None,
            version: None,
            minute: Timestamp(minute),
            values,
        }
    }

    #[test]
    fn a_datum_from_two_weeks_ago_or_hours_ahead_is_invalid() {
        let hour = 3_600_000;
        for (minute, is_valid) in [
            (NOW.0, true),
            (NOW.0 - 13 * 24 * hour, true),
            (NOW.0 - 14 * 24 * hour, false),
            (NOW.0 + hour, true),
            (NOW.0 + 2 * hour, false),
        ] {
            let mut datum = datum(minute, vec![(1.0, 1.0)]);
            assert_eq!(validate(&mut datum, NOW).is_ok(), is_valid, "{minute}");
        }
    }

    #[test]
    fn values_outside_the_range_are_removed() {
        let values = vec![
            (f64::NAN, 1.0),
            (1.5, 2.0),
            (f64::NEG_INFINITY, 1.0),
            (1e300, 1.0),
        ];
        let mut some = datum(NOW.0, values);
        assert_eq!(validate(&mut some, NOW), Ok(()));
        assert_eq!(some.values, [(1.5, 2.0)]);
        let mut none = datum(NOW.0, vec![(f64::INFINITY, 1.0)]);
        assert!(validate(&mut none, NOW).is_err());
    }
}
