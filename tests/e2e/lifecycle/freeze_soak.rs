//! A short form of `make soak-freeze`: freezes and thaws under traffic, by every kind of clock.

use lab::lambda::Clock;
use lab::soak::cycles::Cycles;

/// New versions come in the cycles 7, 27 and 47.
const CYCLES: usize = 60;

async fn nothing_fails_and_nothing_stays_open(clock: Clock) {
    let mut running = Cycles::start(clock).await.unwrap();
    for number in 0..CYCLES {
        running.cycle(number).await.unwrap();
    }
    let ended = running.end().await.unwrap();
    let tally = &ended.tally;
    assert_eq!(tally.failures, [""; 0], "of {} requests", tally.requests);
    assert_eq!(tally.bumps, 3);
    assert!(
        ended.counted >= f64::from(tally.requests),
        "CloudWatch was told of {} inferences, and there were {}",
        ended.counted,
        tally.requests
    );
    assert!(
        ended.answered.iter().all(|count| *count > CYCLES / 4),
        "{ended:?}"
    );
    assert!(
        ended.connections.iter().all(|count| *count > CYCLES / 10),
        "{ended:?}"
    );
    // By half of it every kind of cycle has been. A connection more or less is chance: what stays open is the fewest.
    let (early, late) = tally.usages.split_at(CYCLES / 2);
    for place in 0..2 {
        let [before, after] = [early, late].map(|half| {
            let open = half.iter().map(|both| both[place].descriptors);
            open.min()
        });
        assert!(after <= before, "{:?}", tally.usages);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machines_clock() {
    nothing_fails_and_nothing_stays_open(Clock::Real).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps() {
    nothing_fails_and_nothing_stays_open(Clock::Jumps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_stands_still() {
    nothing_fails_and_nothing_stays_open(Clock::StandsStill).await;
}
