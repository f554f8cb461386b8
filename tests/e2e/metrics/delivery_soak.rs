//! Short form of `make soak-metrics`: metrics under faults are what clients counted.

use lab::soak::deliveries::Deliveries;
use lab::soak::deliveries::counts::Counts;

/// Rounds with every fault of `CloudWatch`, and members with every event.
const ROUNDS: usize = 12;
const MEMBERS: usize = 4;
const REQUESTS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_what_clients_counted() {
    let mut fleet = Deliveries::start(MEMBERS).await.unwrap();
    for round in 1..=ROUNDS {
        fleet.round(REQUESTS, round == ROUNDS).await.unwrap();
    }
    let totals = fleet.end().await.unwrap();
    assert_eq!(totals.failures(), [""; 0]);
    for metric in Counts::names() {
        let balance = totals.balance(metric);
        assert!(
            balance.missing < 0.5 && balance.surplus < 0.5,
            "{metric}: {balance:?}"
        );
    }
    assert!(
        totals.balance("Inferences").log > 0.0,
        "no metrics in the log"
    );
    for loss in totals.losses() {
        assert!(loss.lost <= loss.since_delivery, "{loss:?}");
    }
}
