//! Fetches from a source that follows a script, into a real cache on disk.

pub(in crate::fetch) mod pack;
mod script;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;
use crate::ids::Checksum;
use pack::{USUAL, pack};
use script::{Act, Asked, Scripted, identity, lock};

/// An execution environment's `/tmp`; every fetch is a new process in it.
struct Environment {
    directory: TempDir,
    parts: PartLimits,
    expected: Option<Expected>,
    compression: Compression,
}

/// One connection, as for any small file.
const WHOLE: PartLimits = PartLimits {
    part_bytes: 1 << 20,
    max_connections: 3,
};

/// PartLimits of 10 bytes, over three connections.
const SPLIT: PartLimits = PartLimits {
    part_bytes: 10,
    max_connections: 3,
};

impl Environment {
    fn new() -> Self {
        Self::with(WHOLE)
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

    /// A fetch that is killed, and no thread of which writes any more: a test's threads outlive what it drops.
    async fn killed(&self, source: &Scripted) {
        assert!(self.fetch(source).await.is_none());
        let (etag, bytes) = lock(&source.0.held).clone();
        let wanted = RemoteFile {
            location: source.uri(),
            identity: identity(etag),
            size: bytes.len() as u64,
            checksum: None,
        };
        drop(
            Cache::open(self.directory.path())
                .unwrap()
                .partial(wanted, WHOLE.part_bytes)
                .unwrap(),
        );
    }

    async fn bring(
        &self,
        source: &Scripted,
        object: Object,
        cache: &Cache,
    ) -> Result<Fetched, FetchError> {
        let request = FetchRequest {
            source,
            object,
            expected: self.expected.as_ref(),
            compression: self.compression,
        };
        let context = FetchContext {
            cache,
            parts: self.parts,
            thaws: &source.0.thaws,
            clock: &*source.0,
        };
        fetch(request, context).await
    }

    /// Opens and fetches; `None` when the process was killed on the way.
    async fn fetch(&self, source: &Scripted) -> Option<Result<(Fetched, Vec<u8>), FetchError>> {
        let cache = Cache::open(self.directory.path()).unwrap();
        let work = async {
            let Opened::Object(object) = open(source, &cache, None).await? else {
                panic!("nothing is known")
            };
            self.bring(source, object, &cache).await
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

fn act() -> impl Strategy<Value = Act> {
    let bytes = prop_oneof![3 => 0..12_u64, 1 => 0..60_u64];
    prop_oneof![
        Just(Act::Refused),
        bytes.clone().prop_map(Act::Breaks),
        bytes.clone().prop_map(Act::Ends),
        bytes.clone().prop_map(Act::Stalls),
        bytes.clone().prop_map(Act::Freezes),
        bytes.clone().prop_map(Act::Blinks),
        bytes.clone().prop_map(Act::Overwritten),
        bytes.prop_map(Act::Killed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happens_every_byte_comes_once_and_in_its_place_of_one_version(
        script in proptest::collection::vec(act(), 0..25),
        size in 0..60_usize,
        length in 1..30_u64,
        connections in 1..6_usize,
        changes in any::<bool>(),
        is_packed in any::<bool>(),
    ) {
        let mut script = script;
        script.retain(|act| changes || !matches!(act, Act::Overwritten(_)));
        let bytes: Vec<u8> = (0..60).take(size).collect();
        let mut environment = Environment::with(PartLimits { part_bytes: length, max_connections: connections });
        let source = if is_packed {
            environment.compression = Compression::Zstd;
            Scripted::packing(pack, &bytes, script.clone())
        } else {
            Scripted::holding(&bytes, script.clone())
        };
        let size = lock(&source.0.held).1.len();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        // Every process that does not end with the file has used up a part of the script.
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
        let was = source.0.was.lock().unwrap();
        prop_assert_eq!(Some(&arrived), was.get(&fetched.identity.etag.0));
        if was.len() == 1 {
            // What one answer has brought beyond the last range that it was read for.
            let asked = source.asked();
            let whole = asked.iter().filter(|asked| matches!(asked, Asked::Open(_)));
            let most = size as u64 + whole.count() as u64 * (source.0.chunk as u64 - 1);
            prop_assert!((size as u64..=most).contains(&source.delivered()), "{asked:?}");
            // A thread of a process that was killed here goes on, and may hold on to an older version.
            prop_assert_eq!(environment.partials(), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_is_read_for_one_part_while_others_fetch_the_next() {
    let bytes: Vec<u8> = (0..54).collect();
    let source = Scripted::holding(&bytes, []);
    let (fetched, arrived) = Environment::with(SPLIT)
        .fetch(&source)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((arrived, fetched.transferred), (bytes, 54));
    let asked = source.asked();
    assert_eq!(
        asked[..3],
        [Asked::Open(None), Asked::Read(10..20), Asked::Read(20..30)]
    );
    let rest = [30..40, 40..54].map(Asked::Read);
    assert!(asked[3..] == rest, "{asked:?}");
    assert_eq!(source.delivered(), 54, "nothing was read in vain");
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_is_read_on_where_no_other_connection_is_allowed() {
    let bytes: Vec<u8> = (0..54).collect();
    let source = Scripted::holding(&bytes, []);
    let alone = PartLimits {
        max_connections: 1,
        ..SPLIT
    };
    let (_, arrived) = Environment::with(alone)
        .fetch(&source)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((arrived, source.asked()), (bytes, vec![Asked::Open(None)]));
}

#[tokio::test(start_paused = true)]
async fn a_part_that_fails_is_asked_for_again_by_itself() {
    let bytes: Vec<u8> = (0..30).collect();
    // The first answer, and then those of the second part.
    let acts = [
        Act::Blinks(60),
        Act::Breaks(4),
        Act::Blinks(60),
        Act::Stalls(2),
    ];
    let source = Scripted::holding(&bytes, acts);
    let (fetched, arrived) = Environment::with(SPLIT)
        .fetch(&source)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((arrived, fetched.transferred), (bytes, 30));
    let asked = [10..20, 20..30, 14..20, 16..20].map(Asked::Read);
    assert_eq!(source.asked()[1..], asked);
}

#[tokio::test(start_paused = true)]
async fn what_is_here_of_every_part_is_not_asked_for_by_the_next_process() {
    let bytes: Vec<u8> = (0..30).collect();
    let acts = [Act::Stalls(4), Act::Killed(6), Act::Stalls(8)];
    let source = Scripted::holding(&bytes, acts);
    let environment = Environment::with(SPLIT);
    assert!(environment.fetch(&source).await.is_none());
    let before = source.delivered();
    source.asked();
    let (fetched, arrived) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!((arrived, fetched.transferred), (bytes, 30 - before));
    // Of three parts of ten bytes the rest of each. A slow disk can look like a stall, and then it is asked for again.
    let asked = source.asked();
    let rest = |asked: &Asked| matches!(asked, Asked::Read(range) if range.start % 10 != 0);
    assert!(asked.len() >= 3 && asked.iter().all(rest), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_transfer_goes_on_where_it_broke() {
    let acts = [
        Act::Breaks(4),
        Act::Stalls(2),
        Act::Ends(3),
        Act::Freezes(1),
    ];
    let source = Scripted::holding(b"0123456789abcdef", acts);
    let (fetched, bytes) = Environment::new().fetch(&source).await.unwrap().unwrap();
    assert_eq!(bytes, b"0123456789abcdef");
    assert_eq!((fetched.size, fetched.transferred), (16, 16));
    let read = |from| Asked::Read(from..16);
    let asked = [Asked::Open(None), read(4), read(6), read(9), read(10)];
    assert_eq!(source.asked(), asked);
}

#[tokio::test(start_paused = true)]
async fn the_next_process_asks_for_the_rest_in_the_same_request_that_checks() {
    let source = Scripted::holding(b"0123456789", [Act::Killed(6)]);
    let environment = Environment::new();
    environment.killed(&source).await;
    assert_eq!(source.asked(), [Asked::Open(None)]);
    let (fetched, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!(
        (bytes.as_slice(), fetched.transferred),
        (&b"0123456789"[..], 4)
    );
    assert_eq!(source.asked(), [Asked::Read(6..10)]);
}

#[tokio::test(start_paused = true)]
async fn the_next_process_notices_that_the_source_holds_another() {
    let source = Scripted::holding(b"0123456789", [Act::Killed(6)]);
    let environment = Environment::new();
    environment.killed(&source).await;
    source.asked();
    source.holds("2", b"another");
    let (fetched, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!(
        (bytes.as_slice(), fetched.identity),
        (&b"another"[..], identity("2"))
    );
    assert_eq!(source.asked(), [Asked::Read(6..10), Asked::Open(None)]);
    assert_eq!(environment.partials(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_only_lacked_its_name_is_not_fetched_again() {
    let source = Scripted::holding(b"01234", []);
    let environment = Environment::new();
    let cache = Cache::open(environment.directory.path()).unwrap();
    let wanted = RemoteFile {
        location: source.uri(),
        identity: identity("1"),
        size: 5,
        checksum: None,
    };
    let mut whole = cache.partial(wanted.clone(), WHOLE.part_bytes).unwrap();
    whole.write(0, b"01234").unwrap();
    drop(whole);
    let (fetched, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!((bytes.as_slice(), fetched.transferred), (&b"01234"[..], 0));
    assert_eq!(source.asked(), [Asked::Open(Some("1".to_owned()))]);

    let mut whole = cache.partial(wanted, WHOLE.part_bytes).unwrap();
    whole.write(0, b"01234").unwrap();
    drop(whole);
    source.holds("2", b"another");
    let (_, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!(
        (bytes.as_slice(), environment.partials()),
        (&b"another"[..], 0)
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_known_already_is_asked_about_as_ever() {
    let source = Scripted::holding(b"0123456789", [Act::Killed(6)]);
    let environment = Environment::new();
    environment.killed(&source).await;
    let cache = Cache::open(environment.directory.path()).unwrap();
    let known = identity("1");
    let opened = open(&source, &cache, Some(&known)).await.unwrap();
    assert!(matches!(opened, Opened::Unchanged));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_changes_on_the_way_is_begun_anew_and_never_mixed() {
    let source = Scripted::holding(b"old old old", [Act::Killed(4)]);
    let environment = Environment::new();
    let cache = Cache::open(environment.directory.path()).unwrap();
    let world = &*source.0;
    let Opened::Object(object) = open(&source, &cache, None).await.unwrap() else {
        panic!("nothing is known")
    };
    lock(&world.script).push_back(Act::Breaks(0));
    let change = async {
        world.kill.notified().await;
        source.holds("2", b"new new");
    };
    let fetch = environment.bring(&source, object, &cache);
    let fetched = tokio::join!(fetch, change).0.unwrap();
    assert_eq!(std::fs::read(fetched.file.path()).unwrap(), b"new new");
    assert_eq!((fetched.identity, fetched.transferred), (identity("2"), 11));
    assert_eq!(environment.partials(), 0);
}

#[tokio::test(start_paused = true)]
async fn bytes_without_their_checksum_are_fetched_anew_once() {
    let source = Scripted::holding(b"damaged!!", []);
    let crc32 = |value: &str| {
        Some(Checksum {
            algorithm: ChecksumAlgorithm::Crc32,
            value: value.to_owned(),
        })
    };
    *lock(&source.0.checksum) = crc32("y/Q5Jg==");
    let environment = Environment::new();
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("Crc32 checksum"), "{error}");
    assert!(!error.is_transient());
    assert_eq!(source.asked(), [Asked::Open(None), Asked::Open(None)]);
    assert_eq!(environment.partials(), 0);

    source.holds("1", b"123456789");
    let (_, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!(bytes, b"123456789");

    // What an earlier process has left is held against the checksum too.
    let environment = Environment::new();
    let source = Scripted::holding(b"damaged!!", [Act::Killed(4)]);
    *lock(&source.0.checksum) = crc32("y/Q5Jg==");
    environment.killed(&source).await;
    source.holds("1", b"123456789");
    let (fetched, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!(
        (bytes.as_slice(), fetched.transferred),
        (&b"123456789"[..], 5 + 9)
    );
}

#[tokio::test(start_paused = true)]
async fn attempts_that_bring_nothing_are_limited_and_what_arrived_stays() {
    let acts = [Act::Breaks(4)].into_iter().chain([Act::Refused; 20]);
    let source = Scripted::holding(b"0123456789", acts);
    let environment = Environment::new();
    let started = tokio::time::Instant::now();
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "status 503");
    let longest = Duration::from_millis(100 + 200 + 400 + 800);
    assert!(error.is_transient());
    assert!(started.elapsed() <= longest, "{:?}", started.elapsed());
    let again: Vec<_> = (0..4).map(|_| Asked::Read(4..10)).collect();
    assert_eq!(source.asked()[1..], again);
    lock(&source.0.script).clear();
    let (fetched, _) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!(fetched.transferred, 6);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_sends_nothing_awake_is_left_after_the_limit() {
    let source = Scripted::holding(b"0123456789", [Act::Stalls(4); 2]);
    let started = tokio::time::Instant::now();
    Environment::new().fetch(&source).await.unwrap().unwrap();
    let silent = started.elapsed().saturating_sub(answer::STALL * 2);
    assert!(silent <= Duration::from_millis(100) * 2, "{silent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_freeze_costs_no_wait_whether_the_monotonic_clock_stood_still_or_not() {
    let source = Scripted::holding(b"0123456789", [Act::Freezes(4); 2]);
    let started = tokio::time::Instant::now();
    Environment::new().fetch(&source).await.unwrap().unwrap();
    assert_eq!(started.elapsed(), Duration::ZERO);

    // One second of the count ends at a jump, not all ten.
    let source = Scripted::holding(b"0123456789", [Act::Stalls(4)]);
    let environment = Environment::new();
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
async fn a_file_that_does_not_fit_is_refused_before_it_is_fetched_and_leaves_nothing() {
    let source = Scripted::holding(b"0123456789", []);
    let environment = Environment::new();
    let cache = Cache::open(environment.directory.path()).unwrap();
    let object = Object {
        identity: identity("1"),
        size: 1 << 60,
        checksum: None,
        range: 0..1 << 60,
        body: source.body(b"0123456789").unwrap(),
    };
    let error = environment
        .bring(&source, object, &cache)
        .await
        .unwrap_err();
    let message = error.to_string();
    for word in [
        "needs 1152921504606846976 bytes",
        "free",
        "ephemeral storage",
    ] {
        assert!(message.contains(word), "{message}");
    }
    assert_eq!((source.delivered(), environment.partials()), (0, 0));
}

#[tokio::test]
async fn more_than_was_declared_is_an_error_and_leaves_nothing() {
    let source = Scripted::holding(b"0123456789", []);
    let environment = Environment::new();
    let cache = Cache::open(environment.directory.path()).unwrap();
    let object = Object {
        identity: identity("1"),
        size: 3,
        checksum: None,
        range: 0..3,
        body: source.body(b"0123456789").unwrap(),
    };
    let error = environment
        .bring(&source, object, &cache)
        .await
        .unwrap_err();
    let message = "the source declared 3 bytes and sent at least 4";
    assert_eq!(error.to_string(), message);
    assert_eq!(environment.partials(), 0);
}

fn promise(bytes: &[u8]) -> Expected {
    Expected {
        size: bytes.len() as u64,
        digest: Digest::of(Sha256::new().chain_update(bytes)),
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_of_another_length_than_was_promised_is_refused_before_its_transfer() {
    let source = Scripted::holding(b"0123456789", []);
    let mut environment = Environment::new();
    environment.expected = Some(promise(b"012345678"));
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    let message = "s3://b/m.onnx has 10 bytes, and 9 were promised";
    assert_eq!(
        (error.to_string().as_str(), error.is_transient()),
        (message, false)
    );
    assert_eq!(source.asked(), [Asked::Open(None)]);
    assert_eq!((source.delivered(), environment.partials()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn bytes_that_were_not_promised_are_fetched_anew_once() {
    let mut environment = Environment::new();
    environment.expected = Some(promise(b"0123456789"));
    let source = Scripted::holding(b"012345678!", []);
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    let (promised, found) = (promise(b"0123456789").digest, promise(b"012345678!").digest);
    let message = format!("s3://b/m.onnx has the SHA-256 {found}, and {promised} was promised");
    assert_eq!((error.to_string(), error.is_transient()), (message, false));
    assert_eq!(source.asked(), [Asked::Open(None), Asked::Open(None)]);
    assert_eq!(environment.partials(), 0);

    // What an earlier process has left is held against it too.
    let source = Scripted::holding(b"!12345678!", [Act::Killed(4)]);
    environment.killed(&source).await;
    source.holds("1", b"0123456789");
    let (fetched, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!(
        (bytes.as_slice(), fetched.transferred),
        (&b"0123456789"[..], 6 + 10)
    );
}

/// A source that holds `bytes` in one frame, and an environment that takes them so.
fn packed(bytes: &[u8], script: impl IntoIterator<Item = Act>) -> (Scripted, Environment) {
    let mut environment = Environment::with(SPLIT);
    environment.compression = Compression::Zstd;
    let source = Scripted::packing(|bytes| USUAL.of(bytes), bytes, script);
    (source, environment)
}

#[tokio::test(start_paused = true)]
async fn a_compressed_file_arrives_as_what_it_was_and_is_kept_as_that_alone() {
    let bytes = vec![7; 5_000];
    let (source, mut environment) = packed(&bytes, []);
    environment.expected = Some(promise(&bytes));
    let size = lock(&source.0.held).1.len() as u64;
    let (fetched, arrived) = environment.fetch(&source).await.unwrap().unwrap();
    assert!(arrived == bytes && size < 100);
    assert_eq!((fetched.size, fetched.transferred), (5_000, size));
    let files = environment.directory.path().join("files");
    assert_eq!(
        (
            std::fs::read_dir(files).unwrap().count(),
            environment.partials()
        ),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_compressed_file_goes_on_after_a_kill_and_is_decompressed_from_what_is_here() {
    let bytes: Vec<u8> = (0..=255).collect();
    let (source, environment) = packed(&bytes, [Act::Stalls(4), Act::Killed(6), Act::Stalls(8)]);
    let size = lock(&source.0.held).1.len() as u64;
    assert!(environment.fetch(&source).await.is_none());
    let before = source.delivered();
    let (fetched, arrived) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!((arrived, fetched.transferred), (bytes, size - before));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decompressed_is_fetched_anew_once_unless_that_is_of_no_use() {
    let (source, environment) = packed(&[7; 500], []);
    source.holds("1", b"this is no zstd at all");
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    let message =
        "s3://b/m.onnx: at byte 0 there is no zstd frame (a name that ends in .zst promises one)";
    assert_eq!(
        (error.to_string().as_str(), error.is_transient()),
        (message, false)
    );
    let opened = |asked: Vec<Asked>| {
        asked
            .iter()
            .filter(|asked| **asked == Asked::Open(None))
            .count()
    };
    assert_eq!((opened(source.asked()), environment.partials()), (2, 0));

    // A window of 16 MB.
    source.holds("1", &[0x28, 0xB5, 0x2F, 0xFD, 0, 14 << 3, 1, 0, 0]);
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("without --long"), "{error}");
    assert_eq!((opened(source.asked()), environment.partials()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_promise_speaks_of_the_decompressed_file_and_a_checksum_of_what_the_source_holds() {
    let bytes = vec![7; 5_000];
    let (source, mut environment) = packed(&bytes, []);
    environment.expected = Some(promise(&[8; 5_000]));
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("was promised"), "{error}");
    environment.expected = Some(promise(&[7; 4_999]));
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    assert!(
        error.to_string().contains("4999 bytes that its publisher"),
        "{error}"
    );

    environment.expected = None;
    let sum = |bytes: &[u8]| {
        let sha256 = Sha256::digest(bytes);
        Some(Checksum {
            algorithm: ChecksumAlgorithm::Sha256,
            value: aws_smithy_types::base64::encode(sha256),
        })
    };
    *lock(&source.0.checksum) = sum(&bytes);
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("Sha256 checksum"), "{error}");
    *lock(&source.0.checksum) = sum(&lock(&source.0.held).1);
    let (_, arrived) = environment.fetch(&source).await.unwrap().unwrap();
    assert!(arrived == bytes);
}

#[tokio::test(start_paused = true)]
async fn a_compressed_file_needs_room_for_both_before_its_transfer() {
    let (source, mut environment) = packed(&[7; 500], []);
    environment.expected = Some(Expected {
        size: 1 << 60,
        ..promise(&[])
    });
    let needs = (1_u64 << 60) + lock(&source.0.held).1.len() as u64;
    let error = environment
        .fetch(&source)
        .await
        .unwrap()
        .unwrap_err()
        .to_string();
    assert!(error.contains(&format!("needs {needs} bytes")), "{error}");
    assert_eq!((source.delivered(), environment.partials()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_version_that_returns_is_here_already() {
    let environment = Environment::new();
    let source = Scripted::holding(b"first", []);
    environment.fetch(&source).await.unwrap().unwrap();
    source.holds("2", b"second");
    environment.fetch(&source).await.unwrap().unwrap();
    source.holds("1", b"first");
    let (fetched, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!((bytes.as_slice(), fetched.transferred), (&b"first"[..], 0));
    assert_eq!((fetched.identity, fetched.size), (identity("1"), 5));

    // Unless a byte of it has changed.
    std::fs::write(fetched.file.path(), b"fir!t").unwrap();
    let (fetched, bytes) = environment.fetch(&source).await.unwrap().unwrap();
    assert_eq!((bytes.as_slice(), fetched.transferred), (&b"first"[..], 5));
}

#[tokio::test(start_paused = true)]
async fn what_is_here_and_was_not_promised_is_not_taken() {
    let mut environment = Environment::new();
    let source = Scripted::holding(b"first", []);
    environment.fetch(&source).await.unwrap().unwrap();
    environment.expected = Some(promise(b"other"));
    let error = environment.fetch(&source).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("was promised"), "{error}");
}
