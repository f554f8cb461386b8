//! What `SeaweedFS` can do and the lab's own S3 cannot: objects that were uploaded in parts, and so have an `ETag` and
//! perhaps a checksum that say nothing of the bytes together.
//!
//! The rest of the suite stands where its subject is, under `any_s3::with_every_s3`.

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use model_sidecar::source::Opened;

use crate::sources::fetch::{Bench, KEY, SIZE, SPLIT, bytes};
use crate::support::any_s3::AnyS3;
use crate::support::{self, Alone, Store as _, padded};
use lab::reference::WINE;

/// The least length of all parts but the last.
const PART: usize = 5 << 20;

/// Uploads an object in parts, each with a checksum, and the whole with one of this type.
async fn upload(s3: &AnyS3, key: &str, bytes: &Bytes, checksum: ChecksumType) {
    let (client, bucket) = (s3.client(), s3.bucket());
    let algorithm = match checksum {
        ChecksumType::Composite => ChecksumAlgorithm::Sha256,
        _ => ChecksumAlgorithm::Crc64Nvme,
    };
    let create = client.create_multipart_upload().bucket(bucket).key(key);
    let create = create.checksum_algorithm(algorithm.clone());
    let upload = create.checksum_type(checksum).send().await.unwrap();
    let id = upload.upload_id.unwrap();
    let mut parts = CompletedMultipartUpload::builder();
    for (number, part) in (1..).zip(bytes.chunks(PART)) {
        let put = client.upload_part().bucket(bucket).key(key).upload_id(&id);
        let put = put.checksum_algorithm(algorithm.clone());
        let put = put.part_number(number).body(part.to_vec().into());
        let stored = put.send().await.unwrap();
        let part = CompletedPart::builder()
            .part_number(number)
            .set_e_tag(stored.e_tag)
            .set_checksum_sha256(stored.checksum_sha256)
            .set_checksum_crc64_nvme(stored.checksum_crc64_nvme);
        parts = parts.parts(part.build());
    }
    let complete = client.complete_multipart_upload().bucket(bucket).key(key);
    let complete = complete.upload_id(&id).multipart_upload(parts.build());
    complete.send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_parts_is_fetched_whatever_its_checksum_is_of() {
    for checksum in [ChecksumType::Composite, ChecksumType::FullObject] {
        let s3 = AnyS3::seaweedfs().await;
        upload(&s3, KEY, &bytes(1), checksum.clone()).await;
        let bench = Bench::on(s3, SPLIT);
        let Opened::Object(object) = bench.source().open(None).await.unwrap() else {
            panic!("nothing is known")
        };
        // One that is composed of the parts' is none of the whole.
        let whole = checksum == ChecksumType::FullObject;
        assert_eq!(object.checksum.is_some(), whole, "{:?}", object.checksum);
        let (fetched, arrived) = bench.fetch().await.unwrap();
        assert!(arrived == bytes(1), "{checksum:?}");
        assert_eq!(fetched.transferred, SIZE, "{checksum:?}");
        let etag = &fetched.identity.etag.0;
        assert!(etag.ends_with("-2\""), "{etag}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_was_uploaded_in_parts_answers() {
    let s3 = AnyS3::seaweedfs().await;
    let model = padded("wine-v1.onnx", PART + 1000);
    upload(&s3, support::KEY, &model, ChecksumType::Composite).await;
    let alone = Alone::ready(&s3, &[]).await;
    WINE.v1.check(&alone.predict(9).await.json().unwrap(), 0..9);
}
