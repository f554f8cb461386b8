//! Faults of the source and the disk, stalls and freezes.

use super::*;

#[tokio::test(start_paused = true)]
async fn bytes_with_a_wrong_checksum_are_fetched_once_more() {
    let source = ScriptedSource::new(b"damaged!!", []);
    let crc32 = |value: &str| {
        Some(Checksum {
            algorithm: ChecksumAlgorithm::Crc32,
            value: value.to_owned(),
        })
    };
    *lock(&source.0.checksum) = crc32("y/Q5Jg==");
    let environment = TestEnvironment::new();
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("Crc32 checksum"), "{error}");
    assert!(!error.is_transient());
    assert_eq!(
        source.take_requests(),
        [SourceRequest::Open(None), SourceRequest::Open(None)]
    );
    assert_eq!(environment.partials(), 0);

    source.set_object("1", b"123456789");
    let (_, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!(bytes, b"123456789");

    // The bytes of an earlier process are verified too.
    let environment = TestEnvironment::new();
    let source = ScriptedSource::new(b"damaged!!", [ScriptedEvent::Killed(4)]);
    *lock(&source.0.checksum) = crc32("y/Q5Jg==");
    environment.fetch_killed(&source).await;
    source.set_object("1", b"123456789");
    let (fetched, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!(
        (bytes.as_slice(), fetched.transferred),
        (&b"123456789"[..], 5 + 9)
    );
}

#[tokio::test(start_paused = true)]
async fn attempts_without_a_byte_are_limited_and_received_bytes_are_kept() {
    let events = [ScriptedEvent::Breaks(4)]
        .into_iter()
        .chain([ScriptedEvent::Fails; 20]);
    let source = ScriptedSource::new(b"0123456789", events);
    let environment = TestEnvironment::new();
    let started = tokio::time::Instant::now();
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "status 503");
    let longest = Duration::from_millis(100 + 200 + 400 + 800);
    assert!(error.is_transient());
    assert!(started.elapsed() <= longest, "{:?}", started.elapsed());
    let again: Vec<_> = (0..4).map(|_| SourceRequest::Read(4..10)).collect();
    assert_eq!(source.take_requests()[1..], again);
    lock(&source.0.script).clear();
    let (fetched, _) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!(fetched.transferred, 6);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_source_is_abandoned_after_the_limit() {
    let source = ScriptedSource::new(b"0123456789", [ScriptedEvent::Stalls(4); 2]);
    let started = tokio::time::Instant::now();
    TestEnvironment::new()
        .fetch(&source)
        .await
        .unwrap()
        .unwrap();
    let silent = started
        .elapsed()
        .saturating_sub(response::STALL_TIMEOUT * 2);
    assert!(silent <= Duration::from_millis(100) * 2, "{silent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_freeze_costs_no_wait_with_either_behaviour_of_the_monotonic_clock() {
    let source = ScriptedSource::new(b"0123456789", [ScriptedEvent::Freezes(4); 2]);
    let started = tokio::time::Instant::now();
    TestEnvironment::new()
        .fetch(&source)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);

    // A jump of the clock ends one second of the limit, not all ten.
    let source = ScriptedSource::new(b"0123456789", [ScriptedEvent::Stalls(4)]);
    let environment = TestEnvironment::new();
    let fetch = environment.fetch(&source);
    let jump = async {
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(3_600)).await;
    };
    let started = tokio::time::Instant::now();
    let fetched = tokio::join!(fetch, jump).0;
    fetched.unwrap().unwrap();
    assert!(started.elapsed() >= Duration::from_secs(3_600 + 9));
}

#[tokio::test]
async fn a_file_that_does_not_fit_is_rejected_before_the_transfer_and_leaves_no_file() {
    let source = ScriptedSource::new(b"0123456789", []);
    let environment = TestEnvironment::new();
    let cache = Cache::open(environment.directory.path()).unwrap();
    let object = Object {
        identity: identity("1"),
        size: 1 << 60,
        checksum: None,
        range: 0..1 << 60,
        body: source.body(b"0123456789").unwrap(),
    };
    let error = environment
        .fetch_object(&source, object, &cache)
        .await
        .unwrap_err();
    let message = error.to_string();
    for word in [
        "1152921504606846976 bytes are required",
        "available",
        "ephemeral storage",
    ] {
        assert!(message.contains(word), "{message}");
    }
    assert_eq!((source.delivered(), environment.partials()), (0, 0));
}

#[tokio::test]
async fn more_bytes_than_declared_are_an_error_and_leave_no_file() {
    let source = ScriptedSource::new(b"0123456789", []);
    let environment = TestEnvironment::new();
    let cache = Cache::open(environment.directory.path()).unwrap();
    let object = Object {
        identity: identity("1"),
        size: 3,
        checksum: None,
        range: 0..3,
        body: source.body(b"0123456789").unwrap(),
    };
    let error = environment
        .fetch_object(&source, object, &cache)
        .await
        .unwrap_err();
    let message = "the source declared 3 bytes but sent at least 4";
    assert_eq!(error.to_string(), message);
    assert_eq!(environment.partials(), 0);
}
