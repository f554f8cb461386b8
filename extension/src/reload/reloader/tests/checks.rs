//! Checks of a model's file: new, bad, cached and unreachable versions.

use super::*;
use crate::models::LoadSteps;
use crate::reload::Timings;

#[tokio::test]
async fn a_new_version_is_active_and_the_old_file_stays() {
    let fixture = Fixture::new(Ok(("1", b"model one")));
    let reloader = fixture.start();
    assert!(matches!(
        reloader.check().await,
        Outcome::Loaded(Timings {
            steps: LoadSteps { fetch: Some(_), .. },
            bytes: 9,
            ..
        })
    ));
    let first = fixture.version(&reloader).unwrap();
    assert_eq!(reloader.check().await, Outcome::Current);
    fixture.holds(Ok(("2", b"model two")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_ne!(fixture.version(&reloader).unwrap(), first);
    assert_eq!((fixture.transfers(), fixture.files()), (2, 2));
    fixture.holds(Ok(("1", b"model one")));
    assert!(matches!(
        reloader.check().await,
        Outcome::Loaded(Timings { bytes: 9, .. })
    ));
    assert_eq!(fixture.version(&reloader).unwrap(), first);
}

#[tokio::test]
async fn a_bad_version_changes_nothing_and_is_fetched_once() {
    let fixture = Fixture::new(Ok(("1", b"model one")));
    let reloader = fixture.start();
    reloader.check().await;
    assert_eq!(fixture.wanted_since(&reloader), None);
    let first = fixture.version(&reloader);
    fixture.holds(Ok(("2", b"bad model")));
    assert_eq!(reloader.check().await, Outcome::Failed);
    let since = fixture.wanted_since(&reloader);
    assert!(since.is_some());
    assert_eq!(reloader.check().await, Outcome::Current);
    assert_eq!(fixture.wanted_since(&reloader), since);
    assert_eq!(fixture.version(&reloader), first);
    assert!(
        fixture.problem(&reloader).unwrap().contains("not a model"),
        "the status still says why"
    );
    assert_eq!((fixture.transfers(), fixture.files()), (2, 1));
    // The same bytes uploaded again are not a new version; other bytes are.
    fixture.holds(Ok(("3", b"bad model")));
    assert_eq!(reloader.check().await, Outcome::Failed);
    fixture.holds(Ok(("4", b"model four")));
    assert_eq!(fixture.wanted_since(&reloader), since);
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.problem(&reloader), None);
    assert_eq!(fixture.wanted_since(&reloader), None);
}

#[tokio::test]
async fn a_second_start_fetches_nothing() {
    let fixture = Fixture::new(Ok(("1", b"model one")));
    fixture.start().check().await;
    let again = fixture.start();
    assert!(matches!(
        again.check().await,
        Outcome::Loaded(Timings {
            steps: LoadSteps { fetch: None, .. },
            ..
        })
    ));
    assert_eq!(fixture.transfers(), 1);
}

#[tokio::test]
async fn a_start_without_the_source_takes_the_cache_and_one_without_both_reports_why() {
    let fixture = Fixture::new(Ok(("1", b"model one")));
    fixture.start().check().await;
    fixture.holds(Err("no route to S3"));
    let again = fixture.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert!(fixture.version(&again).is_some());

    let fixture = Fixture::new(Err("no route to S3"));
    let reloader = fixture.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert!(
        fixture
            .problem(&reloader)
            .unwrap()
            .contains("no route to S3")
    );
    fixture.holds(Ok(("1", b"model one")));
    assert!(matches!(reloader.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.problem(&reloader), None);
}

#[tokio::test]
async fn a_start_after_a_bad_version_still_finds_the_good_one_in_the_cache_when_the_source_is_away()
{
    let fixture = Fixture::new(Ok(("1", b"model one")));
    let reloader = fixture.start();
    reloader.check().await;
    let good = fixture.version(&reloader);
    fixture.holds(Ok(("2", b"bad model")));
    reloader.check().await;
    fixture.holds(Err("no route to S3"));
    let again = fixture.start();
    again.check().await;
    assert_eq!(fixture.version(&again), good);
}

#[tokio::test]
async fn a_start_at_which_the_source_holds_a_bad_version_takes_the_last_good_one() {
    let fixture = Fixture::new(Ok(("1", b"model one")));
    let reloader = fixture.start();
    reloader.check().await;
    let good = fixture.version(&reloader);
    fixture.holds(Ok(("2", b"bad model")));
    let again = fixture.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.version(&again), good);
    assert!(fixture.problem(&again).unwrap().contains("not a model"));
    // Later starts neither fetch nor load a rejected version.
    let third = fixture.start();
    assert!(matches!(third.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.version(&third), good);
    assert!(fixture.problem(&third).unwrap().contains("not a model"));
    assert!(fixture.wanted_since(&third).is_some());
    assert_eq!(fixture.transfers(), 2);
    // The restored good version causes no transfer, and ends the problem.
    fixture.holds(Ok(("1", b"model one")));
    assert_eq!(third.check().await, Outcome::Current);
    assert_eq!(fixture.problem(&third), None);
    assert_eq!(fixture.wanted_since(&third), None);
    let again = fixture.start();
    again.check().await;
    assert_eq!(fixture.version(&again), good);
}

#[tokio::test]
async fn a_version_whose_load_killed_the_process_is_not_loaded_again() {
    let fixture = Fixture::new(Ok(("1", b"model one")));
    let reloader = fixture.start();
    reloader.check().await;
    let good = fixture.version(&reloader);
    fixture.holds(Ok(("2", b"hang model")));
    let stuck = fixture.start();
    let check = tokio::spawn(async move { stuck.check().await });
    fixture.loading().await;
    // Dropped in the middle of the load, as the process is by a SIGKILL.
    check.abort();
    let _ = check.await;
    let again = fixture.start();
    assert!(matches!(again.check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.version(&again), good);
    assert!(
        fixture
            .problem(&again)
            .unwrap()
            .contains("the process ended while it loaded")
    );
    assert_eq!(fixture.transfers(), 2);
}

#[tokio::test]
async fn a_file_that_the_cache_has_lost_is_fetched_again() {
    let fixture = Fixture::new(Ok(("1", b"model one")));
    fixture.start().check().await;
    for file in std::fs::read_dir(fixture.directory.path().join("files")).unwrap() {
        std::fs::write(file.unwrap().path(), b"torn").unwrap();
    }
    let again = fixture.start();
    assert!(matches!(
        again.check().await,
        Outcome::Loaded(Timings {
            steps: LoadSteps { fetch: Some(_), .. },
            ..
        })
    ));
    assert_eq!((fixture.transfers(), fixture.files()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_broken_transfer_continues_while_it_makes_progress() {
    let fixture = Fixture::new(Ok(("1", b"model one")));
    fixture.source.breaks.store(2, Ordering::Relaxed);
    assert!(matches!(fixture.start().check().await, Outcome::Loaded(_)));
    assert_eq!(fixture.transfers(), 3);

    let fixture = Fixture::new(Ok(("1", b"model one")));
    fixture.source.breaks.store(usize::MAX, Ordering::Relaxed);
    let reloader = fixture.start();
    assert_eq!(reloader.check().await, Outcome::Failed);
    assert!(
        fixture
            .problem(&reloader)
            .unwrap()
            .contains("connection reset")
    );
    // The transfers deliver 4, 2, 1 and 1 of 9 bytes, and each further attempt delivers nothing.
    assert_eq!((fixture.transfers(), fixture.files()), (4 + 4, 0));
}

#[tokio::test]
async fn concurrent_checks_are_one() {
    let fixture = Fixture::new(Ok(("1", b"model one")));
    let reloader = Arc::new(fixture.start());
    let checks: Vec<_> = (0..5)
        .map(|_| {
            let reloader = Arc::clone(&reloader);
            tokio::spawn(async move { reloader.check().await })
        })
        .collect();
    for check in checks {
        check.await.unwrap();
    }
    assert_eq!(fixture.transfers(), 1);
    assert_eq!(
        reloader
            .shared
            .status
            .get(&fixture.name)
            .unwrap()
            .checks_ended,
        1
    );
}
