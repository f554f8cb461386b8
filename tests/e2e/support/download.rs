//! Downloads by the `fetch` module of the extension, without a sidecar.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use bytes::Bytes;
use lab::credentials::{ACCESS_KEY, REGION, SECRET_KEY};
use lab::s3::S3Server;
use model_sidecar::cache::Cache;
use model_sidecar::clock::{Clock, Thaws, Timestamp};
use model_sidecar::fetch::{self, Compression, FetchError, Fetched, PartLimits};
use model_sidecar::ids::{Digest, Expected, FilePath};
use model_sidecar::source::{ModelFolder as _, NamedBy, Object, Opened, S3Folder, Source};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::support::Store;

/// Bucket of the object.
pub(crate) const BUCKET: &str = "models";
/// Key of the object.
pub(crate) const KEY: &str = "m.onnx";
/// Bytes of a MiB.
pub(crate) const MB: u64 = 1 << 20;
/// Size of the object.
pub(crate) const SIZE: u64 = 6 * MB;
/// The object in one response.
pub(crate) const WHOLE: PartLimits = PartLimits {
    part_bytes: SIZE,
    max_connections: 3,
};
/// Six parts, three in parallel.
pub(crate) const SPLIT: PartLimits = PartLimits {
    part_bytes: MB,
    max_connections: 3,
};

/// Bytes without a pattern, different for each `seed`.
pub(crate) fn bytes(seed: u64) -> Bytes {
    let words = (0..SIZE / 8).map(|n| (n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let bytes = words.flat_map(u64::to_le_bytes);
    bytes.collect::<Vec<_>>().into()
}

/// Source of the object `key` on the server at `url`.
pub(crate) fn source(url: &str, key: &str) -> Box<dyn Source> {
    source_in(url, BUCKET, key)
}

fn source_in(url: &str, bucket: &str, key: &str) -> Box<dyn Source> {
    let key = FilePath::parse(key).unwrap();
    self::bucket(url, bucket).file(&key, NamedBy::Configuration)
}

/// A whole bucket on the server at `url`.
pub(crate) fn bucket(url: &str, bucket: &str) -> S3Folder {
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

/// S3 server and cache directory.
pub(crate) struct Download<S = S3Server> {
    pub(crate) s3: S,
    pub(crate) key: &'static str,
    parts: PartLimits,
    pub(crate) expected: Option<Expected>,
    directory: TempDir,
    pub(crate) thaws: Thaws,
    pub(crate) wall: Wall,
}

/// Wall clock that a test advances.
pub(crate) struct Wall(AtomicU64);

impl Wall {
    /// Advances the clock.
    pub(crate) fn advance(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap();
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }
}

impl Download {
    /// Download of an object in one response.
    pub(crate) async fn new() -> Self {
        Self::with(WHOLE).await
    }

    /// Download of an object in these parts.
    pub(crate) async fn with(parts: PartLimits) -> Self {
        let s3 = S3Server::start().await.unwrap();
        s3.put(BUCKET, KEY, bytes(1));
        Self::on(s3, parts)
    }
}

impl<S: Store> Download<S> {
    /// Downloads of the object at [`KEY`].
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

    /// Source of the object.
    pub(crate) fn source(&self) -> Box<dyn Source> {
        source_in(&self.s3.url(), self.s3.bucket(), self.key)
    }

    /// Downloads the object as a new process does, with the state in the directory only.
    pub(crate) async fn fetch(&self) -> Result<(Fetched, Vec<u8>), FetchError> {
        self.fetch_from(&*self.source()).await
    }

    /// Downloads an object from another source.
    pub(crate) async fn fetch_from(
        &self,
        source: &dyn Source,
    ) -> Result<(Fetched, Vec<u8>), FetchError> {
        let cache = Cache::open(self.directory.path())?;
        let Opened::Object(object) = fetch::open(source, &cache, None).await? else {
            panic!("nothing is known")
        };
        self.fetch_object(source, object).await
    }

    /// Downloads an opened object.
    pub(crate) async fn fetch_object(
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
            growing: None,
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

    /// Waits until the partial download has `bytes` bytes.
    pub(crate) async fn arrived(&self, bytes: u64) {
        let cache = Cache::open(self.directory.path()).unwrap();
        let uri = self.source().uri();
        let here = || {
            let unfinished = cache.resumable_download(&uri);
            unfinished.is_some_and(|one| {
                let missing = one.missing.iter().map(|range| range.end - range.start);
                missing.sum::<u64>() == one.remote.size - bytes
            })
        };
        let here = async {
            while !here() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(lab::WAIT_LIMIT, here).await.unwrap();
    }

    /// Number of partial downloads in the cache.
    pub(crate) fn partials(&self) -> usize {
        let partials = self.directory.path().join("partials");
        std::fs::read_dir(partials).unwrap().count()
    }
}

/// Size and digest of these bytes, as in a manifest.
pub(crate) fn expected(bytes: &Bytes) -> Expected {
    Expected {
        size: bytes.len() as u64,
        digest: Digest::of(Sha256::new().chain_update(bytes)),
    }
}

/// The bytes of `seed`, compressed to two zstd frames of about the same total length: they have no pattern.
pub(crate) fn compressed(seed: u64) -> Vec<u8> {
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

impl Download {
    /// Bucket with a compressed file, and the file's length.
    pub(crate) async fn compressed() -> (Self, u64) {
        let mut bench = Self::with(SPLIT).await;
        bench.key = "m.onnx.zst";
        let packed = compressed(1);
        let size = packed.len() as u64;
        bench.s3.put(BUCKET, bench.key, packed);
        (bench, size)
    }
}
