//! A source that does not respond, as if packets to it were dropped.

use super::*;
use crate::reload::reloader::source_check::MAX_WAIT_FOR_SOURCE;

/// Longer than the maximum wait for the source.
const LONG: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn a_start_with_a_cached_version_waits_a_second_and_checks_again_later() {
    let fixture = Fixture::new(Ok(("1", b"model one")));
    fixture.start().check().await;
    fixture.holds(Ok(("2", b"model two")));
    fixture.source.is_silent.store(true, Ordering::Relaxed);
    let again = fixture.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    // The load is on a thread, and the paused clock does not wait for it.
    let waited = fixture.source.given_up_after.lock().unwrap().unwrap();
    assert!(waited < MAX_WAIT_FOR_SOURCE * 2, "{waited:?}");
    assert_eq!(fixture.active_content(), b"model one");
    assert_eq!(fixture.problem(&again), None, "nothing has failed yet");
    let status = again.shared.status.get(&fixture.name).unwrap();
    assert_eq!((status.checked_at, status.failures), (None, 0));
    // While a version is active, a check waits for the source without a limit.
    let silent = tokio::time::timeout(LONG, again.check()).await;
    assert!(silent.is_err());
    fixture.source.is_silent.store(false, Ordering::Relaxed);
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model two");
}

#[tokio::test(start_paused = true)]
async fn a_start_without_a_cached_version_waits_for_the_source() {
    let nothing = Fixture::new(Ok(("1", b"model one")));
    let lost = Fixture::new(Ok(("1", b"model one")));
    lost.start().check().await;
    std::fs::remove_dir_all(lost.directory.path().join("files")).unwrap();
    for fixture in [nothing, lost] {
        fixture.source.is_silent.store(true, Ordering::Relaxed);
        let reloader = fixture.start();
        let check = tokio::time::timeout(LONG, reloader.check()).await;
        assert!(check.is_err(), "it is waited for");
        assert_eq!(fixture.source.unanswered.load(Ordering::Relaxed), 1);
    }
}
