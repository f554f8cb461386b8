//! A version whose runs fail, taken back.

use super::*;

const REASON: &str = "3 of its runs failed";

impl Bench {
    /// Withdraws what answers.
    async fn withdraw(&self, reloader: &Reloader) {
        let answering = reloader.shared.models.current(&self.name).unwrap();
        reloader.withdraw(&answering.digest, REASON).await;
    }
}

#[tokio::test]
async fn the_version_before_answers_again_and_stays_until_the_source_changes() {
    let bench = Bench::new(Ok(("1", b"model one")));
    let reloader = bench.start();
    reloader.check().await;
    let good = bench.version(&reloader);
    bench.holds(Ok(("2", b"fails two")));
    reloader.check().await;
    bench.withdraw(&reloader).await;
    assert_eq!(bench.version(&reloader), good);
    assert!(bench.problem(&reloader).unwrap().contains(REASON));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(bench.version(&reloader), good);
    assert!(bench.problem(&reloader).unwrap().contains(REASON));
    // So does the start that follows, and the same bytes uploaded again are no new version.
    let again = bench.start();
    again.check().await;
    assert_eq!(bench.version(&again), good);
    assert!(bench.problem(&again).unwrap().contains(REASON));
    assert_eq!(bench.transfers(), 2);
    bench.holds(Ok(("3", b"fails two")));
    assert_eq!(again.check().await, Outcome::Failed);
    assert_eq!(bench.version(&again), good);
    bench.holds(Ok(("4", b"model four")));
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.problem(&again), None);
}

#[tokio::test]
async fn a_version_with_none_before_it_stays() {
    let bench = Bench::new(Ok(("1", b"fails one")));
    let reloader = bench.start();
    reloader.check().await;
    let only = bench.version(&reloader);
    bench.withdraw(&reloader).await;
    assert_eq!(bench.version(&reloader), only);
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(bench.problem(&reloader), None);
}

#[tokio::test]
async fn what_answers_no_more_is_not_withdrawn() {
    let bench = Bench::new(Ok(("1", b"model one")));
    let reloader = bench.start();
    reloader.check().await;
    let old = reloader.shared.models.current(&bench.name).unwrap();
    bench.holds(Ok(("2", b"model two")));
    reloader.check().await;
    let new = bench.version(&reloader);
    reloader.withdraw(&old.digest, REASON).await;
    assert_eq!(bench.version(&reloader), new);
    assert_eq!(bench.problem(&reloader), None);
}
