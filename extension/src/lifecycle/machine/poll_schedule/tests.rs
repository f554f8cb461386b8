//! Spread of a fleet's polls by jitter, and backoff after failures.

use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn wine() -> ModelName {
    ModelName::parse("wine").unwrap()
}

fn wait(seed: u64, interval: Duration, is_first: bool, begun: u64) -> Duration {
    let last = LastCheck {
        begun: Timestamp(begun),
        is_first,
        failures: 0,
    };
    PollSchedule { interval, seed }.wait(&wine(), last)
}

/// Counts the times in each tenth of `from..=to`.
fn tenths(times: impl Iterator<Item = Duration>, from: Duration, to: Duration) -> [usize; 10] {
    let mut counts = [0; 10];
    for time in times {
        let ms = |time: Duration| time.as_millis() - from.as_millis();
        let share = ms(time) * 10 / ms(to);
        counts[usize::try_from(share).unwrap().min(9)] += 1;
    }
    counts
}

#[test]
fn jitter_spreads_a_fleet_over_half_an_interval_and_keeps_it_apart() {
    let spread = |is_first, from| {
        let waits = (0..1_000).map(|seed| wait(seed, MINUTE, is_first, 1_000));
        tenths(waits, from, MINUTE)
    };
    for counts in [spread(true, MINUTE / 2), spread(false, MINUTE * 9 / 10)] {
        // 100 on average; the probability of a failure is one in a million.
        assert!(
            counts.iter().all(|count| (50..=150).contains(count)),
            "{counts:?}"
        );
    }
}

#[test]
fn environments_of_one_snapshot_and_models_of_one_environment_diverge() {
    let waits = (0..1_000).map(|begun| wait(7, MINUTE, false, begun));
    let counts = tenths(waits, MINUTE * 9 / 10, MINUTE);
    assert!(
        counts.iter().all(|count| (50..=150).contains(count)),
        "{counts:?}"
    );
    let of = |model: &str| {
        let model = ModelName::parse(model).unwrap();
        let last = LastCheck {
            begun: Timestamp(0),
            is_first: true,
            failures: 0,
        };
        let poll_schedule = PollSchedule {
            interval: MINUTE,
            seed: 7,
        };
        poll_schedule.wait(&model, last)
    };
    assert_ne!(of("wine"), of("fraud"));
}

#[test]
fn an_interval_of_zero_grows_only_by_repeated_failures() {
    assert_eq!(wait(7, Duration::ZERO, true, 0), Duration::ZERO);
    let poll_schedule = PollSchedule {
        interval: Duration::ZERO,
        seed: 7,
    };
    let seconds: Vec<u64> = (0..8)
        .map(|n| poll_schedule.max_wait(n).as_secs())
        .collect();
    assert_eq!(seconds, [0, 0, 2, 4, 8, 10, 10, 10]);
}

proptest! {
    #[test]
    fn waits_are_limited_and_never_shortened_by_failures(
        ms in prop_oneof![0..5_000_u64, 0..10_000_000_u64, Just(u64::MAX)],
        seed: u64,
        begun: u64,
        is_first: bool,
    ) {
        let poll_schedule = PollSchedule { interval: Duration::from_millis(ms), seed };
        let unit = poll_schedule.interval.max(Duration::from_secs(1));
        let mut before = Duration::ZERO;
        for failures in (0..40).chain([u32::MAX]) {
            let longest = poll_schedule.max_wait(failures);
            prop_assert!(longest >= before && longest >= poll_schedule.interval);
            prop_assert!(longest <= unit.saturating_mul(10));
            prop_assert!(longest <= poll_schedule.interval.max(MAX_BACKOFF));
            let last = LastCheck { begun: Timestamp(begun), is_first, failures };
            let wait = poll_schedule.wait(&wine(), last);
            let shortest = longest.saturating_sub(longest / if is_first { 2 } else { 10 });
            prop_assert!(wait <= longest);
            prop_assert!(wait + Duration::from_millis(1) > shortest);
            before = longest;
        }
        prop_assert_eq!(poll_schedule.max_wait(1), poll_schedule.interval, "one failure changes nothing");
    }
}
