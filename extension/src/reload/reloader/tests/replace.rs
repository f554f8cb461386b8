//! New versions where memory does not hold two.

use super::*;

/// Less than any load takes.
const LITTLE: Option<u64> = Some(1 << 20);
const PLENTY: Option<u64> = Some(1 << 40);

impl Fixture {
    /// Number of models in memory at the beginning of each load.
    fn alive_before(&self) -> Vec<usize> {
        self.seen.lock().unwrap().alive_before.clone()
    }

    /// A fixture with `free` bytes of memory, on which version 1 is active.
    async fn serving(mode: Reload, free: Option<u64>) -> (Self, Process) {
        let mut fixture = Self::new(Ok(("1", b"model one")));
        (fixture.mode, fixture.free) = (mode, free);
        let reloader = fixture.start();
        assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
        (fixture, reloader)
    }
}

#[tokio::test]
async fn the_old_version_leaves_memory_before_the_load_where_memory_does_not_hold_both() {
    for (mode, free, alive) in [
        (Reload::Auto, LITTLE, 0),
        (Reload::Auto, PLENTY, 1),
        (Reload::Auto, None, 1),
        (Reload::Overlap, LITTLE, 1),
        (Reload::Replace, PLENTY, 0),
    ] {
        let (fixture, reloader) = Fixture::serving(mode, free).await;
        let first = fixture.version(&reloader);
        fixture.holds(Ok(("2", b"model two")));
        assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
        assert_eq!(fixture.alive_before(), [0, alive], "{mode:?} {free:?}");
        assert_ne!(fixture.version(&reloader), first);
        let status = reloader.shared.status.get(&fixture.name).unwrap();
        assert_eq!(
            status.version.map(|version| version.to_string()),
            fixture.named(&reloader)
        );
        assert_eq!(status.replaced_by, None);
    }
}

#[tokio::test]
async fn the_old_version_comes_back_from_its_file_when_the_new_one_is_bad() {
    let (fixture, reloader) = Fixture::serving(Reload::Auto, LITTLE).await;
    let first = fixture.version(&reloader);
    fixture.holds(Ok(("2", b"bad model")));
    reloader.check().await;
    assert_eq!(fixture.version(&reloader), first);
    assert_eq!(fixture.alive_before(), [0, 0, 0]);
    assert!(fixture.problem(&reloader).unwrap().contains("not a model"));
    let status = reloader.shared.status.get(&fixture.name).unwrap();
    let version = status.version.map(|version| version.to_string());
    assert_eq!(version, fixture.named(&reloader));
    assert_eq!(status.replaced_by, None);
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(fixture.transfers(), 2, "neither is fetched again");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_runs_for_too_long_keeps_the_old_version() {
    let (fixture, reloader) = Fixture::serving(Reload::Auto, LITTLE).await;
    let first = fixture.version(&reloader);
    let running = reloader.shared.models.current(&fixture.name).unwrap();
    fixture.holds(Ok(("2", b"model two")));
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(fixture.version(&reloader), first);
    let problem = fixture.problem(&reloader).unwrap();
    assert!(problem.contains("requests still run on it"), "{problem}");
    let status = reloader.shared.status.get(&fixture.name).unwrap();
    let version = status.version.map(|version| version.to_string());
    assert_eq!(version, fixture.named(&reloader));
    // The fetched version is loaded once the running request has ended.
    drop(running);
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_ne!(fixture.version(&reloader), first);
    assert_eq!((fixture.problem(&reloader), fixture.transfers()), (None, 2));
}

#[tokio::test]
async fn without_a_file_to_return_to_only_replace_loads_the_new_version() {
    for mode in [Reload::Auto, Reload::Replace] {
        let (fixture, reloader) = Fixture::serving(mode, LITTLE).await;
        let first = fixture.version(&reloader);
        for file in std::fs::read_dir(fixture.directory.path().join("files")).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        fixture.holds(Ok(("2", b"model two")));
        let outcome = reloader.check().await;
        if mode == Reload::Replace {
            assert!(matches!(outcome, Outcome::Loaded(_)), "{outcome:?}");
            continue;
        }
        assert_eq!(outcome, Outcome::Failed);
        assert_eq!(fixture.version(&reloader), first);
        let problem = fixture.problem(&reloader).unwrap();
        assert!(problem.contains("nothing to return to"), "{problem}");
    }
}

#[tokio::test]
async fn the_file_to_return_to_is_evicted_only_with_replace() {
    for (mode, free, goes) in [
        (Reload::Auto, LITTLE, false),
        (Reload::Auto, PLENTY, true),
        (Reload::Replace, LITTLE, true),
    ] {
        let large = |beginning: &str| -> &'static [u8] {
            let mut bytes = beginning.as_bytes().to_vec();
            bytes.resize(9_000, b'.');
            bytes.leak()
        };
        let mut fixture = Fixture::new(Ok(("1", large("model one"))));
        (fixture.mode, fixture.free) = (mode, free);
        // Space for one and a half models.
        fixture.most = Some(16_000);
        let reloader = fixture.start();
        reloader.check().await;
        let first = fixture.version(&reloader);
        fixture.holds(Ok(("2", large("model two"))));
        reloader.check().await;
        assert_eq!(
            fixture.version(&reloader) != first,
            goes,
            "{mode:?} {free:?}"
        );
        if !goes {
            let problem = fixture.problem(&reloader).unwrap();
            assert!(
                problem.contains("not enough cache space for the model"),
                "{problem}"
            );
            assert!(
                problem.contains("MODEL_RELOAD=replace evicts it"),
                "{problem}"
            );
            assert_eq!(fixture.files(), 1);
        }
    }
}

#[tokio::test]
async fn without_reloads_the_source_is_not_checked_once_a_version_is_active() {
    let mut fixture = Fixture::new(Err("no route to S3"));
    fixture.mode = Reload::Off;
    let reloader = fixture.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    fixture.holds(Ok(("1", b"model one")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    let first = fixture.version(&reloader);
    fixture.holds(Ok(("2", b"model two")));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(fixture.version(&reloader), first);
    assert_eq!(fixture.transfers(), 1);
    // A new start loads the cached version.
    let again = fixture.start();
    again.check().await;
    assert_ne!(fixture.version(&again), first);
}
