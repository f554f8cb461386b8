//! Downloads without faults of the server, on the lab's S3 and on `SeaweedFS`.

use std::ops::Range;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use model_sidecar::fetch::PartLimits;
use model_sidecar::ids::{Checksum, ChecksumAlgorithm, Identity};
use model_sidecar::source::{ChunkStream, Object, Opened, Source, SourceError};

use crate::support::Store as _;
use crate::support::any_s3::{AnyS3, with_every_s3};
use crate::support::download::{Download, KEY, MB, SIZE, SPLIT, WHOLE, bytes};

with_every_s3!(
    one_response_or_parts,
    a_known_version_is_not_downloaded_again,
    an_overwrite_after_the_first_response_restarts_the_download,
    an_abandoned_download_resumes,
    an_overwrite_after_an_abandoned_download_restarts_it,
    the_checksum_of_an_upload_is_verified,
    version_ids_of_a_versioned_bucket_are_reported,
);

async fn download(s3: AnyS3, parts: PartLimits) -> Download<AnyS3> {
    s3.put(KEY, bytes(1)).await;
    Download::on(s3, parts)
}

async fn one_response_or_parts(s3: AnyS3) {
    let in_one = download(s3, WHOLE).await;
    let (fetched, arrived) = in_one.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, SIZE);
    assert_eq!(in_one.s3.gets(206, 0).await, 0);

    let in_parts = Download::on(in_one.s3, SPLIT);
    let (fetched, arrived) = in_parts.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!((fetched.transferred, in_parts.partials()), (SIZE, 0));
    // The first part is the beginning of the response that has the size.
    assert_eq!(in_parts.s3.gets(206, 5).await, 5);
    assert_eq!(in_parts.s3.transfers(2).await, 2);
}

async fn a_known_version_is_not_downloaded_again(s3: AnyS3) {
    let download = download(s3, WHOLE).await;
    let (fetched, _) = download.fetch().await.unwrap();
    let source = download.source();
    let known = Some(&fetched.identity);
    let again = source.open(known).await.unwrap();
    assert!(matches!(again, Opened::Unchanged));
    assert_eq!(download.s3.gets(304, 1).await, 1);

    download.s3.put(KEY, bytes(2)).await;
    let Opened::Object(other) = source.open(known).await.unwrap() else {
        panic!("the object has changed")
    };
    assert_ne!(other.identity, fetched.identity);
}

async fn an_overwrite_after_the_first_response_restarts_the_download(s3: AnyS3) {
    let download = download(s3, SPLIT).await;
    let source = download.source();
    let opened = open(&*source).await;
    download.s3.put(KEY, bytes(2)).await;
    let (fetched, arrived) = download.fetch_object(&*source, opened).await.unwrap();
    assert!(arrived == bytes(2));
    assert_eq!(fetched.identity, open(&*source).await.identity);
    assert!(download.s3.gets(412, 1).await >= 1);
    assert_eq!(download.partials(), 0);
}

async fn an_abandoned_download_resumes(s3: AnyS3) {
    let download = download(s3, SPLIT).await;
    abandon(&download).await;
    let (fetched, arrived) = download.fetch().await.unwrap();
    assert!(arrived == bytes(1));
    assert_eq!(fetched.transferred, SIZE - 3 * HALF);
    assert_eq!(download.s3.transfers(1).await, 1);
}

async fn an_overwrite_after_an_abandoned_download_restarts_it(s3: AnyS3) {
    let download = download(s3, SPLIT).await;
    abandon(&download).await;
    download.s3.put(KEY, bytes(2)).await;
    let (fetched, arrived) = download.fetch().await.unwrap();
    assert!(arrived == bytes(2));
    assert_eq!((fetched.transferred, download.partials()), (SIZE, 0));
    assert_eq!(download.s3.gets(412, 1).await, 1);
}

async fn the_checksum_of_an_upload_is_verified(s3: AnyS3) {
    let download = download(s3, SPLIT).await;
    let put = download
        .s3
        .client()
        .put_object()
        .bucket(download.s3.bucket());
    let put = put.checksum_algorithm(aws_sdk_s3::types::ChecksumAlgorithm::Crc64Nvme);
    let stored = put.key(KEY).body(bytes(3).into()).send().await.unwrap();
    let source = download.source();
    let declared = open(&*source).await.checksum.unwrap();
    assert_eq!(declared.algorithm, ChecksumAlgorithm::Crc64Nvme);
    assert_eq!(Some(&declared.value), stored.checksum_crc64_nvme.as_ref());

    // With another checksum the same bytes are rejected.
    let wrong = wrong_checksum_source(source);
    let opened = open(&wrong).await;
    let error = download.fetch_object(&wrong, opened).await.unwrap_err();
    assert!(error.to_string().contains("Crc64Nvme"), "{error}");

    let (_, arrived) = download.fetch().await.unwrap();
    assert!(arrived == bytes(3));
}

async fn version_ids_of_a_versioned_bucket_are_reported(s3: AnyS3) {
    s3.put(KEY, bytes(1)).await;
    let download = Download::on(s3, SPLIT);
    let (fetched, _) = download.fetch().await.unwrap();
    assert_eq!(fetched.identity.version_id, None);

    download.s3.keep_versions().await;
    for seed in [2, 3] {
        let version = download.s3.put(KEY, bytes(seed)).await;
        assert!(version.is_some());
        let (fetched, arrived) = download.fetch().await.unwrap();
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

/// Downloads half of each of the three parallel parts, and abandons the download.
async fn abandon(download: &Download<AnyS3>) {
    let source = stalling_source(download.source());
    tokio::select! {
        _ = download.fetch_from(&source) => panic!("the download has stalled"),
        () = download.arrived(3 * HALF) => {}
    }
}

/// Source that alters the objects and bodies of another one.
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

/// Source whose bodies stall after half a part.
fn stalling_source(source: Box<dyn Source>) -> Altered {
    Altered {
        source,
        object: |object| object,
        body: stalling,
    }
}

/// Source that declares a wrong checksum.
fn wrong_checksum_source(source: Box<dyn Source>) -> Altered {
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

struct StallingBody {
    body: Box<dyn ChunkStream>,
    left: usize,
}

fn stalling(body: Box<dyn ChunkStream>) -> Box<dyn ChunkStream> {
    let left = usize::try_from(HALF).unwrap();
    Box::new(StallingBody { body, left })
}

impl ChunkStream for StallingBody {
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
