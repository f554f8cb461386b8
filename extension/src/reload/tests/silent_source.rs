//! A source that does not answer, as where packets to it are dropped.

use super::*;

/// Longer than the source is waited for.
const LONG: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn a_start_with_a_version_in_the_cache_waits_a_second_and_asks_again_later() {
    let bench = Bench::new(Ok(("1", b"model one")));
    bench.start().check().await;
    bench.holds(Ok(("2", b"model two")));
    bench.shelf.is_silent.store(true, Ordering::Relaxed);
    let again = bench.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    // The load is on a thread, and the paused clock does not wait for it.
    let waited = bench.shelf.given_up_after.lock().unwrap().unwrap();
    assert!(waited < MAX_WAIT_FOR_SOURCE * 2, "{waited:?}");
    assert_eq!(bench.answers(), b"model one");
    assert_eq!(bench.problem(&again), None, "nothing has failed yet");
    let status = again.shared.status.get(&bench.name).unwrap();
    assert_eq!((status.checked_at, status.failures), (None, 0));
    // With a version that answers it is waited for as long as it takes.
    let silent = tokio::time::timeout(LONG, again.check()).await;
    assert!(silent.is_err());
    bench.shelf.is_silent.store(false, Ordering::Relaxed);
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model two");
}

#[tokio::test(start_paused = true)]
async fn a_start_without_a_version_that_can_be_loaded_waits_for_the_source() {
    let nothing = Bench::new(Ok(("1", b"model one")));
    let lost = Bench::new(Ok(("1", b"model one")));
    lost.start().check().await;
    std::fs::remove_dir_all(lost.directory.path().join("files")).unwrap();
    for bench in [nothing, lost] {
        bench.shelf.is_silent.store(true, Ordering::Relaxed);
        let reloader = bench.start();
        let check = tokio::time::timeout(LONG, reloader.check()).await;
        assert!(check.is_err(), "it is waited for");
        assert_eq!(bench.shelf.unanswered.load(Ordering::Relaxed), 1);
    }
}
