//! What a fetch does where nothing fails but what the client itself does, on either S3.

use std::ops::Range;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use model_sidecar::ids::{Checksum, ChecksumAlgorithm, Identity};
use model_sidecar::source::{ChunkStream, Object, Opened, Source, SourceError};

use super::{Bench, KEY, MB, SIZE, SPLIT, WHOLE, bytes};
use crate::support::Store as _;
use crate::support::any_s3::{AnyS3, with_every_s3};

with_every_s3!(
    it_comes_in_one_answer_or_in_parts,
    what_is_known_is_not_sent_again,
    an_overwrite_after_the_first_answer_is_begun_anew_and_never_mixed,
    what_had_come_before_a_fetch_was_given_up_is_not_asked_for_again,
    an_overwrite_after_a_fetch_was_given_up_is_begun_anew,
    the_checksum_of_an_upload_comes_with_it_and_is_held_against_what_arrives,
    a_bucket_that_keeps_versions_names_them,
);

async fn bench(s3: AnyS3, parts: super::PartLimits) -> Bench<AnyS3> {
    s3.put(KEY, bytes(1)).await;
    Bench::on(s3, parts)
}

async fn it_comes_in_one_answer_or_in_parts(s3: AnyS3) {
    let in_one = bench(s3, WHOLE).await;
    let (fetched, arrived) = in_one.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, SIZE);
    assert_eq!(in_one.s3.gets(206, 0).await, 0);

    let in_parts = Bench::on(in_one.s3, SPLIT);
    let (fetched, arrived) = in_parts.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!((fetched.transferred, in_parts.partials()), (SIZE, 0));
    // The first part is the beginning of the answer that told the size.
    assert_eq!(in_parts.s3.gets(206, 5).await, 5);
    assert_eq!(in_parts.s3.transfers(2).await, 2);
}

async fn what_is_known_is_not_sent_again(s3: AnyS3) {
    let bench = bench(s3, WHOLE).await;
    let (fetched, _) = bench.fetch().await.unwrap();
    let source = bench.source();
    let known = Some(&fetched.identity);
    let again = source.open(known).await.unwrap();
    assert!(matches!(again, Opened::Unchanged));
    assert_eq!(bench.s3.gets(304, 1).await, 1);

    bench.s3.put(KEY, bytes(2)).await;
    let Opened::Object(other) = source.open(known).await.unwrap() else {
        panic!("it holds another")
    };
    assert_ne!(other.identity, fetched.identity);
}

async fn an_overwrite_after_the_first_answer_is_begun_anew_and_never_mixed(s3: AnyS3) {
    let bench = bench(s3, SPLIT).await;
    let source = bench.source();
    let opened = open(&*source).await;
    bench.s3.put(KEY, bytes(2)).await;
    let (fetched, arrived) = bench.fetch_object(&*source, opened).await.unwrap();
    assert!(arrived == bytes(2));
    assert_eq!(fetched.identity, open(&*source).await.identity);
    assert!(bench.s3.gets(412, 1).await >= 1);
    assert_eq!(bench.partials(), 0);
}

async fn what_had_come_before_a_fetch_was_given_up_is_not_asked_for_again(s3: AnyS3) {
    let bench = bench(s3, SPLIT).await;
    give_up(&bench).await;
    let (fetched, arrived) = bench.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, SIZE - 3 * HALF);
    assert_eq!(bench.s3.transfers(1).await, 1);
}

async fn an_overwrite_after_a_fetch_was_given_up_is_begun_anew(s3: AnyS3) {
    let bench = bench(s3, SPLIT).await;
    give_up(&bench).await;
    bench.s3.put(KEY, bytes(2)).await;
    let (fetched, arrived) = bench.fetch().await.unwrap();
    assert!(arrived == bytes(2));
    assert_eq!((fetched.transferred, bench.partials()), (SIZE, 0));
    assert_eq!(bench.s3.gets(412, 1).await, 1);
}

async fn the_checksum_of_an_upload_comes_with_it_and_is_held_against_what_arrives(s3: AnyS3) {
    let bench = bench(s3, SPLIT).await;
    let put = bench.s3.client().put_object().bucket(bench.s3.bucket());
    let put = put.checksum_algorithm(aws_sdk_s3::types::ChecksumAlgorithm::Crc64Nvme);
    let stored = put.key(KEY).body(bytes(3).into()).send().await.unwrap();
    let source = bench.source();
    let declared = open(&*source).await.checksum.unwrap();
    assert_eq!(declared.algorithm, ChecksumAlgorithm::Crc64Nvme);
    assert_eq!(Some(&declared.value), stored.checksum_crc64_nvme.as_ref());

    // With another one the same bytes are refused.
    let lies = lying_source(source);
    let opened = open(&lies).await;
    let error = bench.fetch_object(&lies, opened).await.unwrap_err();
    assert!(error.to_string().contains("Crc64Nvme"), "{error}");

    let (_, arrived) = bench.fetch().await.unwrap();
    assert!(arrived == bytes(3));
}

async fn a_bucket_that_keeps_versions_names_them(s3: AnyS3) {
    s3.put(KEY, bytes(1)).await;
    let bench = Bench::on(s3, SPLIT);
    let (fetched, _) = bench.fetch().await.unwrap();
    assert_eq!(fetched.identity.version_id, None);

    bench.s3.keep_versions().await;
    for seed in [2, 3] {
        let version = bench.s3.put(KEY, bytes(seed)).await;
        assert!(version.is_some());
        let (fetched, arrived) = bench.fetch().await.unwrap();
        assert!(arrived == bytes(seed));
        assert_eq!(fetched.identity.version_id, version);
    }
}

async fn open(source: &dyn Source) -> Object {
    match source.open(None).await.unwrap() {
        Opened::Object(object) => object,
        Opened::Unchanged => panic!("nothing is known"),
    }
}

/// Half a part.
const HALF: u64 = MB / 2;

/// Fetches half of each of the three parts that come at a time, and gives up.
async fn give_up(bench: &Bench<AnyS3>) {
    let source = halting_source(bench.source());
    tokio::select! {
        _ = bench.fetch_from(&source) => panic!("it cannot end"),
        () = bench.arrived(3 * HALF) => {}
    }
}

/// A source that gives something else than another has.
struct Altered {
    source: Box<dyn Source>,
    object: fn(Object) -> Object,
    body: fn(Box<dyn ChunkStream>) -> Box<dyn ChunkStream>,
}

impl Source for Altered {
    fn uri(&self) -> String {
        self.source.uri()
    }

    fn open<'a>(
        &'a self,
        known: Option<&'a Identity>,
    ) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(async move {
            Ok(match self.source.open(known).await? {
                Opened::Unchanged => Opened::Unchanged,
                Opened::Object(object) => Opened::Object((self.object)(Object {
                    body: (self.body)(object.body),
                    ..object
                })),
            })
        })
    }

    fn read<'a>(
        &'a self,
        identity: &'a Identity,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Box<dyn ChunkStream>, SourceError>> {
        Box::pin(async move {
            let body = self.source.read(identity, range).await?;
            Ok((self.body)(body))
        })
    }
}

/// Its bodies bring half a part each, and then nothing more.
fn halting_source(source: Box<dyn Source>) -> Altered {
    Altered {
        source,
        object: |object| object,
        body: halting,
    }
}

/// It declares another checksum than there is.
fn lying_source(source: Box<dyn Source>) -> Altered {
    Altered {
        source,
        object: |object| Object {
            checksum: Some(Checksum {
                algorithm: ChecksumAlgorithm::Crc64Nvme,
                value: "AAAAAAAAAAA=".to_owned(),
            }),
            ..object
        },
        body: |body| body,
    }
}

struct HaltingBody {
    body: Box<dyn ChunkStream>,
    left: usize,
}

fn halting(body: Box<dyn ChunkStream>) -> Box<dyn ChunkStream> {
    let left = usize::try_from(HALF).unwrap();
    Box::new(HaltingBody { body, left })
}

impl ChunkStream for HaltingBody {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        Box::pin(async move {
            if self.left == 0 {
                std::future::pending::<()>().await;
            }
            let chunk = self.body.next().await?;
            Some(chunk.map(|mut chunk| {
                chunk.truncate(self.left);
                self.left -= chunk.len();
                chunk
            }))
        })
    }
}
