//! Loads that fail for a reason outside of the version.

use std::path::Path;

use super::*;
use crate::clock::wall::Wall;
use crate::engine::OutOfMemory;

/// A bench whose clock goes on when a test says so, with a version that answers, and the next one in the source.
async fn bench() -> (Bench, Arc<Wall>, Process) {
    let wall = Wall::new();
    let mut bench = Bench::new(Ok(("1", b"model one")));
    bench.clock = Arc::clone(&wall) as _;
    let reloader = bench.start();
    reloader.check().await;
    bench.holds(Ok(("2", b"model two")));
    (bench, wall, reloader)
}

impl Bench {
    /// From here on loads fail so.
    fn fail(&self, fails: impl FnMut(&Path, &[u8]) -> Option<EngineError> + Send + 'static) {
        self.seen.lock().unwrap().fails = Some(Box::new(fails));
    }

    /// From here on loads fail only for what is in the file.
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
async fn without_memory_the_version_is_tried_again_with_backoff_and_never_refused() {
    let (bench, wall, reloader) = bench().await;
    let before = bench.loads_begun();
    bench.fail(|_, _| Some(no_memory()));
    let mut loads = Vec::new();
    for _ in 0..16 {
        reloader.check().await;
        loads.push(bench.loads_begun() - before);
        let problem = bench.problem(&reloader).unwrap();
        assert!(problem.contains("not enough memory"), "{problem}");
        wall.pass(Duration::from_millis(500));
    }
    // A poll each half second, and a load after 1, 2 and 4 s.
    assert_eq!(loads, [1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4]);
    assert_eq!(bench.answers(), b"model one");
    bench.heal();
    wall.pass(Duration::from_secs(8));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model two");
    assert_eq!(bench.problem(&reloader), None);
    assert_eq!(bench.transfers(), 2);
}

#[tokio::test]
async fn another_version_does_not_wait_for_one_that_had_no_memory() {
    let (bench, _, reloader) = bench().await;
    bench.fail(|_, bytes| bytes.ends_with(b"two").then(no_memory));
    assert_eq!(reloader.check().await, Outcome::Failed);
    bench.holds(Ok(("3", b"model three")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model three");
    assert_eq!(bench.problem(&reloader), None);
}

#[tokio::test]
async fn a_start_whose_newest_version_has_no_memory_takes_the_last_good_one() {
    let (bench, wall, _) = bench().await;
    bench.fail(|_, bytes| bytes.ends_with(b"two").then(no_memory));
    let again = bench.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model one");
    let problem = bench.problem(&again).unwrap();
    assert!(problem.contains("not enough memory"), "{problem}");
    bench.heal();
    wall.pass(Duration::from_secs(1));
    again.check().await;
    assert_eq!(bench.answers(), b"model two");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_tried_once_more_at_once_and_later_again() {
    let (bench, wall, reloader) = bench().await;
    let before = bench.loads_begun();
    let mut once = Some(unreadable());
    bench.fail(move |_, _| once.take());
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(
        (bench.answers(), bench.loads_begun() - before),
        (b"model two".to_vec(), 2)
    );

    bench.holds(Ok(("3", b"model three")));
    bench.fail(|_, _| Some(unreadable()));
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(bench.loads_begun() - before, 4);
    bench.heal();
    wall.pass(Duration::from_secs(1));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(
        (bench.answers(), bench.transfers()),
        (b"model three".to_vec(), 3)
    );
}

#[tokio::test]
async fn a_version_that_refers_to_a_file_which_it_does_not_have_is_refused() {
    let (bench, wall, reloader) = bench().await;
    bench.fail(|_, _| Some(missing()));
    assert_eq!(reloader.check().await, Outcome::Failed);
    let loads = bench.loads_begun();
    wall.pass(Duration::from_secs(3_600));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(bench.loads_begun(), loads);
    let problem = bench.problem(&reloader).unwrap();
    assert!(problem.contains("cannot be read"), "{problem}");
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
        let (bench, wall, reloader) = bench().await;
        let mut once = Some(fault);
        bench.fail(move |file, _| once.take().map(|fault| fault(file)));
        assert_eq!(reloader.check().await, Outcome::Failed);
        wall.pass(Duration::from_secs(1));
        assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
        assert_eq!(bench.answers(), b"model two");
        assert_eq!(bench.transfers(), 3);
    }
}

#[tokio::test]
async fn once_the_process_ends_no_load_begins() {
    let (bench, _, reloader) = bench().await;
    let loads = bench.loads_begun();
    reloader.shared.cache.close_loads();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(bench.loads_begun(), loads);
    // Nothing is held against the version.
    assert!(matches!(bench.start().check().await, Outcome::Loaded(_)));
    assert_eq!(bench.answers(), b"model two");
}
