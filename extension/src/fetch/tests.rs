//! Fetches from a scripted source into a cache on disk.

mod expectations;
mod faults;
mod scripted_source;
pub(in crate::fetch) mod zstd_frames;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;
use crate::ids::{Checksum, ChecksumAlgorithm};
use scripted_source::{ScriptedEvent, ScriptedSource, SourceRequest, identity, lock};
use zstd_frames::{DEFAULT, three_frames};

/// `/tmp` of an execution environment. Every fetch is a new process.
struct TestEnvironment {
    directory: TempDir,
    parts: PartLimits,
    expected: Option<Expected>,
    compression: Compression,
}

/// One connection, as for a small file.
const SINGLE_PART: PartLimits = PartLimits {
    part_bytes: 1 << 20,
    max_connections: 3,
};

/// Parts of 10 bytes, over three connections.
const THREE_CONNECTIONS: PartLimits = PartLimits {
    part_bytes: 10,
    max_connections: 3,
};

impl TestEnvironment {
    fn new() -> Self {
        Self::with(SINGLE_PART)
    }

    fn with(parts: PartLimits) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            parts,
            expected: None,
            compression: Compression::None,
        }
    }

    fn partials(&self) -> usize {
        let partials = self.directory.path().join("partials");
        std::fs::read_dir(partials).unwrap().count()
    }

    /// Runs a fetch that is killed, and waits for its writer thread, which outlives the dropped fetch.
    async fn fetch_killed(&self, source: &ScriptedSource) {
        assert!(self.fetch(source).await.is_none());
        let (etag, bytes) = lock(&source.0.object).clone();
        let remote = RemoteFile {
            location: source.uri(),
            identity: identity(etag),
            size: bytes.len() as u64,
            checksum: None,
        };
        drop(
            Cache::open(self.directory.path())
                .unwrap()
                .start_download(remote, SINGLE_PART.part_bytes)
                .unwrap(),
        );
    }

    async fn fetch_object(
        &self,
        source: &ScriptedSource,
        object: Object,
        cache: &Cache,
    ) -> Result<Fetched, FetchError> {
        let request = FetchRequest {
            source,
            object,
            expected: self.expected.as_ref(),
            compression: self.compression,
            growing: None,
        };
        let context = FetchContext {
            cache,
            parts: self.parts,
            thaws: &source.0.thaws,
            clock: &*source.0,
        };
        fetch(request, context).await
    }

    /// Opens and fetches; `None` if the process was killed.
    async fn fetch(
        &self,
        source: &ScriptedSource,
    ) -> Option<Result<(Fetched, Vec<u8>), FetchError>> {
        let cache = Cache::open(self.directory.path()).unwrap();
        let work = async {
            let Opened::Object(object) = open(source, &cache, None).await? else {
                panic!("no identity is known")
            };
            self.fetch_object(source, object, &cache).await
        };
        tokio::select! {
            biased;
            fetched = work => Some(fetched.map(|fetched| {
                let bytes = std::fs::read(fetched.file.path()).unwrap();
                assert_eq!(fetched.digest, Digest::of(Sha256::new().chain_update(&bytes)));
                (fetched, bytes)
            })),
            () = source.0.kill.notified() => None,
        }
    }
}

fn event() -> impl Strategy<Value = ScriptedEvent> {
    let bytes = prop_oneof![3 => 0..12_u64, 1 => 0..60_u64];
    prop_oneof![
        Just(ScriptedEvent::Fails),
        bytes.clone().prop_map(ScriptedEvent::Breaks),
        bytes.clone().prop_map(ScriptedEvent::Ends),
        bytes.clone().prop_map(ScriptedEvent::Stalls),
        bytes.clone().prop_map(ScriptedEvent::Freezes),
        bytes.clone().prop_map(ScriptedEvent::Blinks),
        bytes.clone().prop_map(ScriptedEvent::Overwritten),
        bytes.prop_map(ScriptedEvent::Killed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn in_any_course_of_events_each_byte_is_transferred_once_and_belongs_to_one_version(
        script in proptest::collection::vec(event(), 0..25),
        size in 0..60_usize,
        length in 1..30_u64,
        connections in 1..6_usize,
        changes in any::<bool>(),
        is_compressed in any::<bool>(),
    ) {
        let mut script = script;
        script.retain(|event| changes || !matches!(event, ScriptedEvent::Overwritten(_)));
        let bytes: Vec<u8> = (0..60).take(size).collect();
        let mut environment = TestEnvironment::with(PartLimits { part_bytes: length, max_connections: connections });
        let source = if is_compressed {
            environment.compression = Compression::Zstd;
            ScriptedSource::with_encoding(three_frames, &bytes, script.clone())
        } else {
            ScriptedSource::new(&bytes, script.clone())
        };
        let size = lock(&source.0.object).1.len();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        // Every process that does not complete the file has used a part of the script.
        let arrived = (0..=script.len()).find_map(|_| {
            match runtime.block_on(environment.fetch(&source)) {
                Some(Ok(arrived)) => Some(arrived),
                Some(Err(error)) => {
                    let changed = matches!(&error, FetchError::Source(error) if error.is_changed());
                    assert!(error.is_transient() || changed, "{error}");
                    None
                }
                None => None,
            }
        });
        let (fetched, arrived) = arrived.unwrap();
        let files = source.0.files.lock().unwrap();
        prop_assert_eq!(Some(&arrived), files.get(&fetched.identity.etag.0));
        if files.len() == 1 {
            // A first response may deliver one chunk beyond the last range that it is read for.
            let requests = source.take_requests();
            let opened = requests.iter().filter(|request| matches!(request, SourceRequest::Open(_)));
            let most = size as u64 + opened.count() as u64 * (source.0.chunk as u64 - 1);
            prop_assert!((size as u64..=most).contains(&source.delivered()), "{requests:?}");
            // With one version only: the writer thread of a killed process may still hold the lock of an older one.
            prop_assert_eq!(environment.partials(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_response_is_read_for_one_part_while_other_connections_fetch_the_next_parts() {
    let bytes: Vec<u8> = (0..54).collect();
    let source = || ScriptedSource::new(&bytes, []);
    for source in [source(), source().buffered()] {
        let (fetched, arrived) = TestEnvironment::with(THREE_CONNECTIONS)
            .fetch(&source)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((&arrived, fetched.transferred), (&bytes, 54));
        let requests = source.take_requests();
        assert_eq!(requests.len(), 5, "{requests:?}");
        assert_eq!(requests[0], SourceRequest::Open(None));
        for part in [10..20, 20..30, 30..40, 40..54] {
            let read = SourceRequest::Read(part);
            assert!(requests.contains(&read), "{requests:?}");
        }
        assert_eq!(source.delivered(), 54, "no byte was read in vain");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_response_is_read_to_its_end_by_a_single_connection() {
    let bytes: Vec<u8> = (0..54).collect();
    let source = ScriptedSource::new(&bytes, []);
    let single = PartLimits {
        max_connections: 1,
        ..THREE_CONNECTIONS
    };
    let (_, arrived) = TestEnvironment::with(single)
        .fetch(&source)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (arrived, source.take_requests()),
        (bytes, vec![SourceRequest::Open(None)])
    );
}

#[tokio::test(start_paused = true)]
async fn a_part_that_fails_is_requested_again() {
    let bytes: Vec<u8> = (0..30).collect();
    // The first response, and those of the second part.
    let events = [
        ScriptedEvent::Blinks(60),
        ScriptedEvent::Breaks(4),
        ScriptedEvent::Blinks(60),
        ScriptedEvent::Stalls(2),
    ];
    let source = ScriptedSource::new(&bytes, events);
    let (fetched, arrived) = TestEnvironment::with(THREE_CONNECTIONS)
        .fetch(&source)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((arrived, fetched.transferred), (bytes, 30));
    let requests = [10..20, 20..30, 14..20, 16..20].map(SourceRequest::Read);
    assert_eq!(source.take_requests()[1..], requests);
}

#[tokio::test(start_paused = true)]
async fn the_next_process_does_not_request_received_bytes_of_any_part() {
    let bytes: Vec<u8> = (0..30).collect();
    let events = [
        ScriptedEvent::Stalls(4),
        ScriptedEvent::Killed(6),
        ScriptedEvent::Stalls(8),
    ];
    let source = ScriptedSource::new(&bytes, events);
    let environment = TestEnvironment::with(THREE_CONNECTIONS);
    assert!(environment.fetch(&source).await.is_none());
    let before = source.delivered();
    source.take_requests();
    let (fetched, arrived) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!((arrived, fetched.transferred), (bytes, 30 - before));
    // The rest of each part. A slow disk can look like a stall and cause another request.
    let requests = source.take_requests();
    let rest = |request: &SourceRequest| matches!(request, SourceRequest::Read(range) if range.start % 10 != 0);
    assert!(
        requests.len() >= 3 && requests.iter().all(rest),
        "{requests:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_transfer_resumes_at_the_first_missing_byte() {
    let events = [
        ScriptedEvent::Breaks(4),
        ScriptedEvent::Stalls(2),
        ScriptedEvent::Ends(3),
        ScriptedEvent::Freezes(1),
    ];
    let source = ScriptedSource::new(b"0123456789abcdef", events);
    let (fetched, bytes) = TestEnvironment::new()
        .fetch(&source)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(bytes, b"0123456789abcdef");
    assert_eq!((fetched.size, fetched.transferred), (16, 16));
    let read = |from| SourceRequest::Read(from..16);
    let requests = [
        SourceRequest::Open(None),
        read(4),
        read(6),
        read(9),
        read(10),
    ];
    assert_eq!(source.take_requests(), requests);
}

#[tokio::test(start_paused = true)]
async fn the_next_process_requests_the_rest_in_the_request_that_checks_the_version() {
    let source = ScriptedSource::new(b"0123456789", [ScriptedEvent::Killed(6)]);
    let environment = TestEnvironment::new();
    environment.fetch_killed(&source).await;
    assert_eq!(source.take_requests(), [SourceRequest::Open(None)]);
    let (fetched, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!(
        (bytes.as_slice(), fetched.transferred),
        (&b"0123456789"[..], 4)
    );
    assert_eq!(source.take_requests(), [SourceRequest::Read(6..10)]);
}

#[tokio::test(start_paused = true)]
async fn the_next_process_detects_another_version() {
    let source = ScriptedSource::new(b"0123456789", [ScriptedEvent::Killed(6)]);
    let environment = TestEnvironment::new();
    environment.fetch_killed(&source).await;
    source.take_requests();
    source.set_object("2", b"another");
    let (fetched, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!(
        (bytes.as_slice(), fetched.identity),
        (&b"another"[..], identity("2"))
    );
    assert_eq!(
        source.take_requests(),
        [SourceRequest::Read(6..10), SourceRequest::Open(None)]
    );
    assert_eq!(environment.partials(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_complete_file_without_its_name_is_not_fetched_again() {
    let source = ScriptedSource::new(b"01234", []);
    let environment = TestEnvironment::new();
    let cache = Cache::open(environment.directory.path()).unwrap();
    let remote = RemoteFile {
        location: source.uri(),
        identity: identity("1"),
        size: 5,
        checksum: None,
    };
    let mut download = cache
        .start_download(remote.clone(), SINGLE_PART.part_bytes)
        .unwrap();
    download.write(0, b"01234").unwrap();
    drop(download);
    let (fetched, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!((bytes.as_slice(), fetched.transferred), (&b"01234"[..], 0));
    assert_eq!(
        source.take_requests(),
        [SourceRequest::Open(Some("1".to_owned()))]
    );

    let mut download = cache
        .start_download(remote, SINGLE_PART.part_bytes)
        .unwrap();
    download.write(0, b"01234").unwrap();
    drop(download);
    source.set_object("2", b"another");
    let (_, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!(
        (bytes.as_slice(), environment.partials()),
        (&b"another"[..], 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_known_identity_is_checked_with_a_conditional_request() {
    let source = ScriptedSource::new(b"0123456789", [ScriptedEvent::Killed(6)]);
    let environment = TestEnvironment::new();
    environment.fetch_killed(&source).await;
    let cache = Cache::open(environment.directory.path()).unwrap();
    let known = identity("1");
    let opened = open(&source, &cache, Some(&known)).await.unwrap();
    assert!(matches!(opened, Opened::Unchanged));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_changes_during_the_fetch_restarts_it_without_mixing_versions() {
    let source = ScriptedSource::new(b"old old old", [ScriptedEvent::Killed(4)]);
    let environment = TestEnvironment::new();
    let cache = Cache::open(environment.directory.path()).unwrap();
    let state = &*source.0;
    let Opened::Object(object) = open(&source, &cache, None).await.unwrap() else {
        panic!("no identity is known")
    };
    lock(&state.script).push_back(ScriptedEvent::Breaks(0));
    let change = async {
        state.kill.notified().await;
        source.set_object("2", b"new new");
    };
    let fetch = environment.fetch_object(&source, object, &cache);
    let fetched = tokio::join!(fetch, change).0.unwrap();
    assert_eq!(std::fs::read(fetched.file.path()).unwrap(), b"new new");
    assert_eq!((fetched.identity, fetched.transferred), (identity("2"), 11));
    assert_eq!(environment.partials(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_returns_is_in_the_cache() {
    let environment = TestEnvironment::new();
    let source = ScriptedSource::new(b"first", []);
    environment.fetch(&source).await.unwrap().unwrap();
    source.set_object("2", b"second");
    environment.fetch(&source).await.unwrap().unwrap();
    source.set_object("1", b"first");
    let (fetched, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!((bytes.as_slice(), fetched.transferred), (&b"first"[..], 0));
    assert_eq!((fetched.identity, fetched.size), (identity("1"), 5));

    // Unless a byte has changed.
    std::fs::write(fetched.file.path(), b"fir!t").unwrap();
    let (fetched, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!((bytes.as_slice(), fetched.transferred), (&b"first"[..], 5));
}
