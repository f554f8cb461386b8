//! A new version where memory does not bear two.

use super::*;

/// Less than any load takes.
const LITTLE: Option<u64> = Some(1 << 20);
const PLENTY: Option<u64> = Some(1 << 40);

impl Bench {
    /// How many models were in memory when each load began.
    fn alive_before(&self) -> Vec<usize> {
        self.seen.lock().unwrap().alive_before.clone()
    }

    /// A bench with so much memory, on which version 1 answers.
    async fn answering(mode: Reload, free: Option<u64>) -> (Self, Process) {
        let mut bench = Self::new(Ok(("1", b"model one")));
        (bench.mode, bench.free) = (mode, free);
        let reloader = bench.start();
        assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
        (bench, reloader)
    }
}

#[tokio::test]
async fn the_old_version_is_gone_before_the_load_where_memory_does_not_bear_both() {
    for (mode, free, alive) in [
        (Reload::Auto, LITTLE, 0),
        (Reload::Auto, PLENTY, 1),
        (Reload::Auto, None, 1),
        (Reload::Overlap, LITTLE, 1),
        (Reload::Replace, PLENTY, 0),
    ] {
        let (bench, reloader) = Bench::answering(mode, free).await;
        let first = bench.version(&reloader);
        bench.holds(Ok(("2", b"model two")));
        assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
        assert_eq!(bench.alive_before(), [0, alive], "{mode:?} {free:?}");
        assert_ne!(bench.version(&reloader), first);
        let status = reloader.shared.status.get(&bench.name).unwrap();
        assert_eq!(
            status.version.map(|version| version.to_string()),
            bench.named(&reloader)
        );
        assert_eq!(status.replaced_by, None);
    }
}

#[tokio::test]
async fn the_old_version_comes_back_from_its_file_when_the_new_one_is_bad() {
    let (bench, reloader) = Bench::answering(Reload::Auto, LITTLE).await;
    let first = bench.version(&reloader);
    bench.holds(Ok(("2", b"bad model")));
    reloader.check().await;
    assert_eq!(bench.version(&reloader), first);
    assert_eq!(bench.alive_before(), [0, 0, 0]);
    assert!(bench.problem(&reloader).unwrap().contains("not a model"));
    let status = reloader.shared.status.get(&bench.name).unwrap();
    let version = status.version.map(|version| version.to_string());
    assert_eq!(version, bench.named(&reloader));
    assert_eq!(status.replaced_by, None);
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(bench.transfers(), 2, "neither is fetched again");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_runs_for_too_long_keeps_the_old_version() {
    let (bench, reloader) = Bench::answering(Reload::Auto, LITTLE).await;
    let first = bench.version(&reloader);
    let running = reloader.shared.models.current(&bench.name).unwrap();
    bench.holds(Ok(("2", b"model two")));
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert_eq!(bench.version(&reloader), first);
    let problem = bench.problem(&reloader).unwrap();
    assert!(
        problem.contains("requests still run on version"),
        "{problem}"
    );
    let status = reloader.shared.status.get(&bench.name).unwrap();
    let version = status.version.map(|version| version.to_string());
    assert_eq!(version, bench.named(&reloader));
    // Once it is done, what was fetched is loaded.
    drop(running);
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_ne!(bench.version(&reloader), first);
    assert_eq!((bench.problem(&reloader), bench.transfers()), (None, 2));
}

#[tokio::test]
async fn without_a_file_to_return_to_it_is_done_only_where_the_operator_says_so() {
    for mode in [Reload::Auto, Reload::Replace] {
        let (bench, reloader) = Bench::answering(mode, LITTLE).await;
        let first = bench.version(&reloader);
        for file in std::fs::read_dir(bench.directory.path().join("files")).unwrap() {
            std::fs::remove_file(file.unwrap().path()).unwrap();
        }
        bench.holds(Ok(("2", b"model two")));
        let outcome = reloader.check().await;
        if mode == Reload::Replace {
            assert!(matches!(outcome, Outcome::Loaded(_)), "{outcome:?}");
            continue;
        }
        assert_eq!(outcome, Outcome::Failed);
        assert_eq!(bench.version(&reloader), first);
        let problem = bench.problem(&reloader).unwrap();
        assert!(problem.contains("nothing to return to"), "{problem}");
    }
}

#[tokio::test]
async fn a_file_to_return_to_goes_for_no_new_one_unless_the_operator_says_so() {
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
        let mut bench = Bench::new(Ok(("1", large("model one"))));
        (bench.mode, bench.free) = (mode, free);
        // The room of one and a half.
        bench.most = Some(16_000);
        let reloader = bench.start();
        reloader.check().await;
        let first = bench.version(&reloader);
        bench.holds(Ok(("2", large("model two"))));
        reloader.check().await;
        assert_eq!(bench.version(&reloader) != first, goes, "{mode:?} {free:?}");
        if !goes {
            let problem = bench.problem(&reloader).unwrap();
            assert!(
                problem.contains("not enough cache space for the model"),
                "{problem}"
            );
            assert!(
                problem.contains("MODEL_RELOAD=replace gives it up"),
                "{problem}"
            );
            assert_eq!(bench.files(), 1);
        }
    }
}

#[tokio::test]
async fn what_is_never_to_be_reloaded_is_not_asked_for_once_it_is_there() {
    let mut bench = Bench::new(Err("no route to S3"));
    bench.mode = Reload::Off;
    let reloader = bench.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    bench.holds(Ok(("1", b"model one")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    let first = bench.version(&reloader);
    bench.holds(Ok(("2", b"model two")));
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(bench.version(&reloader), first);
    assert_eq!(bench.transfers(), 1);
    // A new start takes what is there.
    let again = bench.start();
    again.check().await;
    assert_ne!(bench.version(&again), first);
}
