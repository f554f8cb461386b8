//! Short form of `make soak-reload`: new versions under load, a third of them with a fault.

use std::time::{Duration, Instant};

use lab::soak::adder::Size;
use lab::soak::callers::{Ledger, Sample, backwards};
use lab::soak::swaps::Swaps;

/// Number of swaps; every kind of fault occurs in 20.
const SWAPS: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn swaps_with_faults_fail_no_request() {
    let mut swaps = Swaps::start(Size::SMALL, 1, Duration::ZERO).await.unwrap();
    for _ in 0..SWAPS {
        swaps.swap_with_fault().await.unwrap();
    }
    let (tally, ledger) = swaps.end().await.unwrap();
    let responses = ledger.samples.len();
    assert_eq!(ledger.failures, [""; 0], "with {responses} responses");
    assert_eq!(backwards(&ledger.samples), 0, "of {responses} responses");
    let last = ledger.last().unwrap().number;
    assert_eq!(last + 1, tally.good, "the newest version is active");
    // A version that was overwritten during its download need not have served.
    let versions = u32::try_from(ledger.versions()).unwrap();
    assert!(
        (tally.good - 2..=tally.good).contains(&versions),
        "{versions} of {}",
        tally.good
    );
    assert_eq!((tally.bad, tally.with_fault), (4, 14));
    // Each half contains every kind of fault. Its minimum leaves out what is open by chance.
    let (early, late) = tally.usages.split_at(SWAPS / 2);
    let [before, after] = [early, late].map(|half| {
        let descriptors = half.iter().map(|usage| usage.descriptors).min();
        (descriptors, half.iter().map(|usage| usage.threads).min())
    });
    assert!(after.0 <= before.0, "{:?}", tally.usages);
    // The runtime keeps as many threads for blocking calls as it once needed in parallel.
    assert!(
        after.1 <= before.1.map(|threads| threads + 2),
        "{:?}",
        tally.usages
    );
    // Files that are being written disappear.
    let [early, late] = [&tally.files[..SWAPS / 2], &tally.files[SWAPS / 2..]];
    assert!(late.iter().min() <= early.iter().max(), "{:?}", tally.files);
}

/// Samples with these times of request and response, in milliseconds, and these versions.
fn samples(spans: &[(u64, u64, u32)]) -> Vec<Sample> {
    let zero = Instant::now();
    let at = |ms| zero + Duration::from_millis(ms);
    let spans = spans.iter();
    let sample = |&(asked, answered, number)| Sample {
        asked: at(asked),
        answered: at(answered),
        number,
    };
    spans.map(sample).collect()
}

#[test]
fn overlapping_requests_may_be_served_in_any_order() {
    assert_eq!(backwards(&samples(&[(0, 9, 1), (1, 3, 2), (2, 8, 1)])), 0);
    assert_eq!(backwards(&samples(&[(0, 5, 2), (5, 9, 1)])), 0);
}

#[test]
fn a_later_request_served_by_an_older_version_is_counted() {
    assert_eq!(backwards(&samples(&[(0, 5, 2), (6, 9, 1)])), 1);
    // Across clients, and with other requests in between.
    let late = samples(&[(0, 1, 3), (2, 9, 3), (3, 4, 3), (5, 6, 2), (10, 11, 4)]);
    assert_eq!(backwards(&late), 1);
}

#[test]
fn two_versions_with_one_number_are_an_error() {
    let [one, two] = samples(&[(0, 1, 1), (0, 1, 2)]).try_into().unwrap();
    let mut ledger = Ledger::default();
    ledger.note("a", one).unwrap();
    ledger.note("a", one).unwrap();
    assert!(ledger.note("a", two).is_err());
    assert!(ledger.note("b", one).is_err());
    ledger.note("b", two).unwrap();
    assert_eq!((ledger.versions(), ledger.samples.len()), (2, 3));
}

#[test]
fn the_last_sample_is_that_of_the_last_request() {
    let mut ledger = Ledger::default();
    for sample in samples(&[(2, 3, 2), (4, 5, 2), (1, 6, 1)]) {
        let version = sample.number.to_string();
        ledger.note(&version, sample).unwrap();
    }
    assert_eq!(ledger.last().unwrap().number, 2);
}
