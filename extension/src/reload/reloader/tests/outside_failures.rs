//! Loads that fail for a reason outside the version.

use std::path::Path;

use super::*;
use crate::clock::wall::Wall;
use crate::engine::OutOfMemory;

/// A fixture whose clock a test advances, with an active version, and the next one in the source.
async fn fixture() -> (Fixture, Arc<Wall>, Process) {
    let wall = Wall::new();
    let mut fixture = Fixture::new(Ok(("1", b"model one")));
    fixture.clock = Arc::clone(&wall) as _;
    let reloader = fixture.start();
    reloader.check().await;
    fixture.holds(Ok(("2", b"model two")));
    (fixture, wall, reloader)
}

impl Fixture {
    /// Makes loads fail.
    fn fail(&self, fails: impl FnMut(&Path, &[u8]) -> Option<EngineError> + Send + 'static) {
        self.seen.lock().unwrap().fails = Some(Box::new(fails));
    }

    /// Makes loads fail only for the content of their file.
    fn heal(&self) {
        self.seen.lock().unwrap().fails = None;
    }

    /// Number of loads that have begun.
    fn loads_begun(&self) -> usize {
        self.seen.lock().unwrap().alive_before.len()
    }
}

fn no_memory() -> EngineError {
    EngineError::Memory(OutOfMemory {
        requested: None,
        limit: None,
    })
}

fn unreadable() -> EngineError {
    EngineError::File {
        reason: "system error number 24".to_owned(),
        is_missing: false,
    }
}

fn missing() -> EngineError {
    EngineError::File {
        reason: "External data path does not exist".to_owned(),
        is_missing: true,
    }
}

#[tokio::test]
async fn without_memory_the_version_is_tried_again_with_backoff_and_never_rejected() {
    let (fixture, wall, reloader) = fixture().await;
    let before = fixture.loads_begun();
    fixture.fail(|_, _| Some(no_memory()));
    let mut loads = Vec::new();
    let now = wall.now();
    for _ in 0..16 {
        reloader.check().await;
        assert_eq!(fixture.wanted_since(&reloader), Some(now));
        loads.push(fixture.loads_begun() - before);
        let problem = fixture.problem(&reloader).unwrap();
        assert!(problem.contains("not enough memory"), "{problem}");
        wall.pass(Duration::from_millis(500));
    }
    // A poll each half second, and a load after 1, 2 and 4 s.
    assert_eq!(loads, [1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4]);
    assert_eq!(fixture.active_content(), b"model one");
    fixture.heal();
    wall.pass(Duration::from_secs(8));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model two");
    assert_eq!(fixture.problem(&reloader), None);
    assert_eq!(fixture.wanted_since(&reloader), None);
    assert_eq!(fixture.transfers(), 2);
}

#[tokio::test]
async fn another_version_does_not_wait_for_one_that_had_no_memory() {
    let (fixture, _, reloader) = fixture().await;
    fixture.fail(|_, bytes| bytes.ends_with(b"two").then(no_memory));
    assert_eq!(reloader.check().await, Outcome::Failed);
    fixture.holds(Ok(("3", b"model three")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model three");
    assert_eq!(fixture.problem(&reloader), None);
}

#[tokio::test]
async fn a_start_whose_newest_version_has_no_memory_takes_the_last_good_one() {
    let (fixture, wall, _) = fixture().await;
    fixture.fail(|_, bytes| bytes.ends_with(b"two").then(no_memory));
    let again = fixture.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model one");
    let problem = fixture.problem(&again).unwrap();
    assert!(problem.contains("not enough memory"), "{problem}");
    fixture.heal();
    wall.pass(Duration::from_secs(1));
    again.check().await;
    assert_eq!(fixture.active_content(), b"model two");
}

#[tokio::test]
async fn an_unreadable_file_is_tried_again_immediately_and_later() {
    let (fixture, wall, reloader) = fixture().await;
    let before = fixture.loads_begun();
    let mut once = Some(unreadable());
    fixture.fail(move |_, _| once.take());
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(
        (fixture.active_content(), fixture.loads_begun() - before),
        (b"model two".to_vec(), 2)
    );

    fixture.holds(Ok(("3", b"model three")));
    fixture.fail(|_, _| Some(unreadable()));
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(fixture.loads_begun() - before, 4);
    fixture.heal();
    wall.pass(Duration::from_secs(1));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(
        (fixture.active_content(), fixture.transfers()),
        (b"model three".to_vec(), 3)
    );
}

#[tokio::test]
async fn a_version_that_lacks_a_file_it_refers_to_is_rejected() {
    let (fixture, wall, reloader) = fixture().await;
    fixture.fail(|_, _| Some(missing()));
    assert_eq!(reloader.check().await, Outcome::Failed);
    let loads = fixture.loads_begun();
    wall.pass(Duration::from_secs(3_600));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(fixture.loads_begun(), loads);
    let problem = fixture.problem(&reloader).unwrap();
    assert!(
        problem.contains("cannot read a file of the model"),
        "{problem}"
    );
}

#[tokio::test]
async fn a_version_whose_file_is_damaged_or_gone_when_it_is_loaded_is_fetched_again() {
    let faults: [fn(&Path) -> EngineError; 3] = [
        |file| {
            std::fs::write(file, b"torn").unwrap();
            EngineError::Load("Protobuf parsing failed".to_owned())
        },
        |file| {
            std::fs::remove_file(file).unwrap();
            missing()
        },
        |file| {
            std::fs::write(file, b"torn").unwrap();
            unreadable()
        },
    ];
    for fault in faults {
        let (fixture, wall, reloader) = fixture().await;
        let mut once = Some(fault);
        fixture.fail(move |file, _| once.take().map(|fault| fault(file)));
        assert_eq!(reloader.check().await, Outcome::Failed);
        wall.pass(Duration::from_secs(1));
        assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
        assert_eq!(fixture.active_content(), b"model two");
        assert_eq!(fixture.transfers(), 3);
    }
}

#[tokio::test]
async fn once_the_process_ends_no_load_begins() {
    let (fixture, _, reloader) = fixture().await;
    let loads = fixture.loads_begun();
    reloader.shared.cache.close_loads();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(fixture.loads_begun(), loads);
    // The version is not rejected.
    assert!(matches!(fixture.start().check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.active_content(), b"model two");
}
