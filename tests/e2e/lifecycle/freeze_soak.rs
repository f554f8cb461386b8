//! Short form of `make soak-freeze`: freezes and thaws under traffic, with every kind of clock.

use lab::lambda::Clock;
use lab::soak::cycles::Cycles;

/// Number of cycles; the cycles 7, 27 and 47 upload a new version.
const CYCLES: usize = 60;

async fn no_failure_and_no_leak(clock: Clock) {
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
        "CloudWatch has {} inferences of {}",
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
    // Each half contains every kind of cycle. Its minimum leaves out connections that are open by chance.
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
async fn real_clock() {
    no_failure_and_no_leak(Clock::Real).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jumping_clock() {
    no_failure_and_no_leak(Clock::Jumps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_clock() {
    no_failure_and_no_leak(Clock::StandsStill).await;
}
