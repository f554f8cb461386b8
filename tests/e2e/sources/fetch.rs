//! The fetch alone against the S3 server: what breaks goes on, and the server's own count shows that nothing was
//! sent twice.

use std::sync::atomic::{AtomicU64, Ordering};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use bytes::Bytes;
use lab::credentials::{ACCESS_KEY, REGION, SECRET_KEY};
use lab::gate::Gate;
use lab::s3::{RequestRecord, Rule, S3Server};
use model_sidecar::cache::Cache;
use model_sidecar::clock::{Clock, Thaws, Timestamp};
use model_sidecar::fetch::{self, Compression, FetchError, Fetched, PartLimits};
use model_sidecar::ids::{Digest, Expected, FilePath};
use model_sidecar::source::{ModelFolder as _, NamedBy, Object, Opened, S3Folder, Source};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::support::Store;

mod any_s3;

pub(crate) const BUCKET: &str = "models";
pub(crate) const KEY: &str = "m.onnx";
pub(crate) const MB: u64 = 1 << 20;
pub(crate) const SIZE: u64 = 6 * MB;
/// One answer has all.
const WHOLE: PartLimits = PartLimits {
    part_bytes: SIZE,
    max_connections: 3,
};
/// Six parts, three at a time.
pub(crate) const SPLIT: PartLimits = PartLimits {
    part_bytes: MB,
    max_connections: 3,
};

/// Bytes that differ everywhere, and from those of another `seed`.
pub(crate) fn bytes(seed: u64) -> Bytes {
    let words = (0..SIZE / 8).map(|n| (n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let bytes = words.flat_map(u64::to_le_bytes);
    bytes.collect::<Vec<_>>().into()
}

/// The object of this key on the server at `url`.
pub(crate) fn source(url: &str, key: &str) -> Box<dyn Source> {
    source_in(url, BUCKET, key)
}

fn source_in(url: &str, bucket: &str, key: &str) -> Box<dyn Source> {
    let key = FilePath::parse(key).unwrap();
    place(url, bucket).file(&key, NamedBy::Configuration)
}

/// All of a bucket on the server at `url`.
pub(crate) fn place(url: &str, bucket: &str) -> S3Folder {
    let credentials = Credentials::new(ACCESS_KEY, SECRET_KEY, None, None, "lab");
    let aws = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(lab::http::sdk_client())
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .region(Region::new(REGION))
        .endpoint_url(url)
        .build();
    S3Folder::new(&aws, true, bucket, "")
}

/// An S3 server, and the cache directory of an environment.
pub(crate) struct Bench<S = S3Server> {
    pub(crate) s3: S,
    key: &'static str,
    parts: PartLimits,
    expected: Option<Expected>,
    directory: TempDir,
    thaws: Thaws,
    wall: Wall,
}

/// A wall clock that goes on only when a test says so.
struct Wall(AtomicU64);

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

impl Bench {
    async fn new() -> Self {
        Self::with(WHOLE).await
    }

    async fn with(parts: PartLimits) -> Self {
        let s3 = S3Server::start().await.unwrap();
        s3.put(BUCKET, KEY, bytes(1));
        Self::on(s3, parts)
    }
}

impl<S: Store> Bench<S> {
    /// A fetch from whatever [`KEY`] is there.
    pub(crate) fn on(s3: S, parts: PartLimits) -> Self {
        Self {
            s3,
            key: KEY,
            parts,
            expected: None,
            directory: tempfile::tempdir().unwrap(),
            thaws: Thaws::default(),
            wall: Wall(AtomicU64::new(1_790_000_000_000)),
        }
    }

    pub(crate) fn source(&self) -> Box<dyn Source> {
        source_in(&self.s3.url(), self.s3.bucket(), self.key)
    }

    /// What a process does that knows nothing but what the directory holds.
    pub(crate) async fn fetch(&self) -> Result<(Fetched, Vec<u8>), FetchError> {
        self.fetch_from(&*self.source()).await
    }

    async fn fetch_from(&self, source: &dyn Source) -> Result<(Fetched, Vec<u8>), FetchError> {
        let cache = Cache::open(self.directory.path())?;
        let Opened::Object(object) = fetch::open(source, &cache, None).await? else {
            panic!("nothing is known")
        };
        self.fetch_object(source, object).await
    }

    /// Fetches what `source` has opened already.
    async fn fetch_object(
        &self,
        source: &dyn Source,
        object: Object,
    ) -> Result<(Fetched, Vec<u8>), FetchError> {
        let cache = Cache::open(self.directory.path())?;
        let request = fetch::FetchRequest {
            source,
            object,
            expected: self.expected.as_ref(),
            compression: Compression::of(&FilePath::parse(self.key).unwrap()),
        };
        let context = fetch::FetchContext {
            cache: &cache,
            parts: self.parts,
            thaws: &self.thaws,
            clock: &self.wall,
        };
        let fetched = fetch::fetch(request, context).await?;
        let bytes = std::fs::read(fetched.file.path())?;
        Ok((fetched, bytes))
    }

    /// Waits until so many bytes of the file are in the cache.
    async fn arrived(&self, bytes: u64) {
        let cache = Cache::open(self.directory.path()).unwrap();
        let uri = self.source().uri();
        let here = || {
            let unfinished = cache.unfinished(&uri);
            unfinished.is_some_and(|one| {
                let missing = one.missing.iter().map(|range| range.end - range.start);
                missing.sum::<u64>() == one.wanted.size - bytes
            })
        };
        let here = async {
            while !here() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(lab::WAIT_LIMIT, here).await.unwrap();
    }

    fn partials(&self) -> usize {
        let partials = self.directory.path().join("partials");
        std::fs::read_dir(partials).unwrap().count()
    }
}

/// Where each answer begins, and that it was pinned unless it began at nothing.
fn starts(requests: &[RequestRecord]) -> Vec<u64> {
    let start = |request: &RequestRecord| {
        let Some(range) = &request.range else {
            return 0;
        };
        assert!(request.if_match.is_some(), "{request:?}");
        let (start, end) = range
            .strip_prefix("bytes=")
            .unwrap()
            .split_once('-')
            .unwrap();
        assert_eq!(end.parse(), Ok(SIZE - 1), "{range}");
        start.parse().unwrap()
    };
    requests.iter().map(start).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_end_early_go_on_where_they_ended() {
    let bench = Bench::new().await;
    for n in 1..=3 {
        bench.s3.fail(Rule::on("GET").nth(n).truncate_after(MB));
    }
    let (fetched, arrived) = bench.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    let requests = bench.s3.requests();
    assert_eq!(starts(&requests), [0, MB, 2 * MB, 3 * MB]);
    assert_eq!(
        requests.iter().map(|request| request.sent).sum::<u64>(),
        SIZE
    );
    assert_eq!((fetched.transferred, bench.partials()), (SIZE, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_reset_and_a_server_that_refuses_cost_nothing_that_had_arrived() {
    let bench = Bench::new().await;
    bench.s3.fail(Rule::on("GET").nth(1).reset_after(2 * MB));
    for n in 2..=5 {
        bench
            .s3
            .fail(Rule::on("GET").nth(n).status(503, "SlowDown"));
    }
    let (fetched, arrived) = bench.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, SIZE);
    let requests = bench.s3.requests();
    assert!(
        starts(&requests)[1..]
            .windows(2)
            .all(|two| two[0] == two[1]),
        "{requests:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thaw_takes_a_silent_connection_over_at_once() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    bench
        .s3
        .fail(Rule::on("GET").nth(1).stall_after(2 * MB, &gate));
    let thaw = async {
        bench.arrived(2 * MB).await;
        bench.wall.0.fetch_add(3_600_000, Ordering::Relaxed);
        bench.thaws.note(bench.wall.now());
    };
    let (fetched, ()) = tokio::join!(bench.fetch(), thaw);
    let (fetched, arrived) = fetched.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, SIZE);
    assert_eq!(starts(&bench.s3.requests()), [0, 2 * MB]);
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_was_given_up_is_ended_by_the_next_with_one_request() {
    let bench = Bench::new().await;
    let gate = Gate::new();
    bench
        .s3
        .fail(Rule::on("GET").nth(1).stall_after(2 * MB, &gate));
    tokio::select! {
        _ = bench.fetch() => panic!("it cannot end"),
        () = bench.arrived(2 * MB) => {}
    }
    gate.open();
    let (fetched, arrived) = bench.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, SIZE - 2 * MB);
    assert_eq!(starts(&bench.s3.requests()), [0, 2 * MB]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_between_two_answers_is_begun_anew_and_never_mixed() {
    let bench = Bench::new().await;
    bench.s3.fail(Rule::on("GET").nth(1).truncate_after(2 * MB));
    bench.s3.fail(Rule::on("GET").nth(2).overwrite(bytes(2)));
    let (fetched, arrived) = bench.fetch().await.unwrap();
    assert!(arrived == bytes(2));
    let now = bench.s3.get(BUCKET, KEY).unwrap();
    assert_eq!(fetched.identity.version_id, Some(now.version_id));
    let statuses: Vec<_> = bench
        .s3
        .requests()
        .iter()
        .map(|request| request.status)
        .collect();
    assert_eq!(statuses, [Some(200), Some(412), Some(200)]);
    assert_eq!(bench.partials(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_is_noticed_whichever_answer_it_came_in() {
    let bench = Bench::new().await;
    bench.s3.fail(Rule::on("GET").nth(1).truncate_after(2 * MB));
    bench.s3.fail(Rule::on("GET").nth(2).flip(70_000));
    let (fetched, arrived) = bench.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, 2 * SIZE);
    bench.s3.heal();

    let bench = Bench::new().await;
    bench.s3.fail(Rule::on("GET").flip(70_000));
    let error = bench.fetch().await.unwrap_err().to_string();
    assert!(error.contains("Crc64Nvme"), "{error}");
    assert_eq!((bench.s3.requests().len(), bench.partials()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_come_over_several_connections_each_pinned_to_the_version_of_the_first_answer() {
    let bench = Bench::with(SPLIT).await;
    let (fetched, arrived) = bench.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!((fetched.transferred, bench.partials()), (SIZE, 0));
    let requests = bench.s3.requests();
    let etag = bench.s3.get(BUCKET, KEY).unwrap().etag;
    let (first, rest) = requests.split_first().unwrap();
    assert_eq!((&first.range, &first.if_match), (&None, &None));
    let (mut ranges, pins): (Vec<_>, Vec<_>) = rest
        .iter()
        .map(|request| (request.range.clone().unwrap(), request.if_match.clone()))
        .unzip();
    ranges.sort();
    let parts = (1..6).map(|n| format!("bytes={}-{}", n * MB, (n + 1) * MB - 1));
    assert_eq!(ranges, parts.collect::<Vec<_>>());
    for pin in pins {
        assert_eq!(pin.as_deref().map(unquoted), Some(unquoted(&etag)));
    }
}

fn unquoted(etag: &str) -> &str {
    etag.trim_matches('"')
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_between_two_parts_is_begun_anew_and_never_mixed() {
    for overwritten in 2..=6 {
        let bench = Bench::with(SPLIT).await;
        let overwrite = Rule::on("GET").nth(overwritten).overwrite(bytes(2));
        bench.s3.fail(overwrite);
        let (fetched, arrived) = bench.fetch().await.unwrap();
        assert!(arrived == bytes(2), "at request {overwritten}");
        let now = bench.s3.get(BUCKET, KEY).unwrap();
        assert_eq!(fetched.identity.version_id, Some(now.version_id));
        assert_eq!(bench.partials(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_breaks_is_asked_for_again_by_itself_and_where_it_broke() {
    let bench = Bench::with(SPLIT).await;
    bench.s3.fail(Rule::on("GET").nth(2).truncate_after(MB / 2));
    bench.s3.fail(Rule::on("GET").nth(3).reset_after(MB / 4));
    let (fetched, arrived) = bench.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, SIZE);
    // The whole, five parts, and the two rests.
    assert_eq!(bench.s3.requests().len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_503_over_all_parts_is_waited_out() {
    let bench = Bench::with(SPLIT).await;
    for n in 2..=10 {
        let storm = Rule::on("GET").nth(n).status(503, "SlowDown");
        bench.s3.fail(storm);
    }
    let (fetched, arrived) = bench.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!((fetched.transferred, bench.partials()), (SIZE, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_of_any_part_is_noticed() {
    let bench = Bench::with(SPLIT).await;
    bench.s3.fail(Rule::on("GET").nth(4).flip(70_000));
    let (fetched, arrived) = bench.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, 2 * SIZE);
}

/// Gives a fetch of `size` bytes up when a half of each of three parts has come, and ends it with another.
async fn goes_on_after_it_was_given_up(bench: &Bench, size: u64) {
    let gate = Gate::new();
    bench
        .s3
        .fail(Rule::on("GET").first(3).stall_after(MB / 2, &gate));
    tokio::select! {
        _ = bench.fetch() => panic!("it cannot end"),
        () = bench.arrived(3 * MB / 2) => {}
    }
    gate.open();
    let (fetched, arrived) = bench.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, size - 3 * MB / 2);
}

pub(crate) fn promise(bytes: &Bytes) -> Expected {
    Expected {
        size: bytes.len() as u64,
        digest: Digest::of(Sha256::new().chain_update(bytes)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_publisher_has_promised_is_held_against_what_the_bucket_has() {
    let mut bench = Bench::with(SPLIT).await;
    bench.expected = Some(promise(&bytes(1)));
    let (_, arrived) = bench.fetch().await.unwrap();
    assert!(arrived == bytes(1));

    bench.s3.put(BUCKET, KEY, bytes(2));
    let error = bench.fetch().await.unwrap_err().to_string();
    let (promised, found) = (promise(&bytes(1)).digest, promise(&bytes(2)).digest);
    let message =
        format!("s3://{BUCKET}/{KEY} has the SHA-256 {found}, and {promised} was promised");
    assert_eq!((error, bench.partials()), (message, 0));
}

/// The same bytes as `zstd` packs them: two frames, and about as long, for they hold no pattern that it knows.
fn packed(seed: u64) -> Vec<u8> {
    let bytes = bytes(seed);
    let (first, second) = bytes.split_at(bytes.len() / 3);
    let frame = |bytes: &[u8]| {
        let mut packed = vec![0; zstd_safe::compress_bound(bytes.len())];
        let length = zstd_safe::compress(&mut packed[..], bytes, 3).unwrap();
        packed.truncate(length);
        packed
    };
    [frame(first), frame(second)].concat()
}

impl Bench {
    /// One whose bucket holds a compressed file, and the length of that.
    async fn compressed() -> (Self, u64) {
        let mut bench = Self::with(SPLIT).await;
        bench.key = "m.onnx.zst";
        let packed = packed(1);
        let size = packed.len() as u64;
        bench.s3.put(BUCKET, bench.key, packed);
        (bench, size)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_file_is_decompressed_whatever_happens_to_its_parts() {
    let (bench, size) = Bench::compressed().await;
    bench.s3.fail(Rule::on("GET").nth(2).truncate_after(MB / 2));
    bench.s3.fail(Rule::on("GET").nth(3).reset_after(MB / 4));
    bench
        .s3
        .fail(Rule::on("GET").nth(5).status(503, "SlowDown"));
    let (fetched, arrived) = bench.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!((fetched.size, fetched.transferred), (SIZE, size));
    assert_eq!(
        (fetched.digest, bench.partials()),
        (promise(&bytes(1)).digest, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_of_a_compressed_file_is_noticed_in_any_part() {
    for n in 1..=6 {
        let (bench, _) = Bench::compressed().await;
        bench.s3.fail(Rule::on("GET").nth(n).flip(70_000));
        let (_, arrived) = bench.fetch().await.unwrap();
        assert!(arrived == bytes(1), "in answer {n}");
        assert_eq!(bench.partials(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwrite_between_two_parts_of_a_compressed_file_never_mixes_two() {
    for n in 2..=6 {
        let (bench, _) = Bench::compressed().await;
        bench.s3.fail(Rule::on("GET").nth(n).overwrite(packed(2)));
        let (fetched, arrived) = bench.fetch().await.unwrap();
        assert!(arrived == bytes(2), "at request {n}");
        let now = bench.s3.get(BUCKET, bench.key).unwrap();
        assert_eq!(fetched.identity.version_id, Some(now.version_id));
        assert_eq!(bench.partials(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_file_that_was_given_up_goes_on_where_it_was() {
    let (bench, size) = Bench::compressed().await;
    goes_on_after_it_was_given_up(&bench, size).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_file_that_was_uploaded_in_half_is_refused() {
    let (bench, size) = Bench::compressed().await;
    let half = packed(1)[..(size / 2).try_into().unwrap()].to_vec();
    bench.s3.put(BUCKET, bench.key, half);
    let error = bench.fetch().await.unwrap_err().to_string();
    let message = format!(
        "s3://{BUCKET}/m.onnx.zst: it ends at byte {}, within a zstd frame",
        size / 2
    );
    assert!(error.contains(&message), "{error}");
    assert_eq!(bench.partials(), 0);
}
