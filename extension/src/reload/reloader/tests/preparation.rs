//! Preparation of weights while a file arrives.

use super::*;

/// Content of a file that is large enough.
fn large(first: u8) -> &'static [u8] {
    Box::leak(vec![first; 1024 * 1024].into_boxed_slice())
}

impl Fixture {
    /// Returns the first byte of each file that was prepared.
    fn prepared(&self) -> Vec<u8> {
        let seen = self.seen.lock().unwrap();
        seen.prepared.iter().map(|bytes| bytes[0]).collect()
    }
}

#[tokio::test]
async fn the_first_version_is_prepared_and_a_reload_is_not() {
    let fixture = Fixture::new(Ok(("1", large(1))));
    let reloader = fixture.start();
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.prepared(), [1]);
    fixture.holds(Ok(("2", large(2))));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.prepared(), [1]);
}

#[tokio::test]
async fn a_fetch_that_breaks_ends_the_preparation() {
    let fixture = Fixture::new(Ok(("1", large(1))));
    fixture.source.breaks.store(100, Ordering::Relaxed);
    let reloader = fixture.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert!(fixture.prepared().is_empty());
}

#[tokio::test]
async fn a_small_file_is_not_prepared() {
    let fixture = Fixture::new(Ok(("1", &large(1)[1..])));
    assert!(matches!(fixture.start().check().await, Outcome::Loaded(_)));
    assert!(fixture.prepared().is_empty());
}

#[tokio::test]
async fn a_restart_does_not_prepare() {
    let fixture = Fixture::new(Ok(("1", large(1))));
    fixture.start().check().await;
    fixture.holds(Ok(("2", large(2))));
    assert!(matches!(fixture.start().check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.prepared(), [1]);
}

#[tokio::test]
async fn an_environment_without_memory_does_not_prepare() {
    let mut fixture = Fixture::new(Ok(("1", large(1))));
    // The expansion takes four times the file, and a load up to 3.5 times that.
    fixture.free = Some(14 * 1024 * 1024);
    assert!(matches!(fixture.start().check().await, Outcome::Loaded(_)));
    assert!(fixture.prepared().is_empty());
}
