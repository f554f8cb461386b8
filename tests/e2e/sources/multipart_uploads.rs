//! Objects of multipart uploads, which the lab's S3 does not support: their `ETag`, and possibly their checksum, is not
//! that of the whole object.

use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use model_sidecar::source::Opened;

use crate::support::any_s3::AnyS3;
use crate::support::download::{Download, KEY, SIZE, SPLIT, bytes};
use crate::support::{self, Alone, Store as _, padded};
use lab::reference::WINE;

/// Minimum length of every part except for the last.
const PART: usize = 5 << 20;

/// Uploads an object in parts with checksums of the parts and a checksum of this type for the object.
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
async fn a_multipart_upload_is_downloaded_with_either_checksum() {
    for checksum in [ChecksumType::Composite, ChecksumType::FullObject] {
        let s3 = AnyS3::seaweedfs().await;
        upload(&s3, KEY, &bytes(1), checksum.clone()).await;
        let download = Download::on(s3, SPLIT);
        let Opened::Object(object) = download.source().open(None).await.unwrap() else {
            panic!("nothing is known")
        };
        // A composite checksum does not cover the whole object.
        let whole = checksum == ChecksumType::FullObject;
        assert_eq!(object.checksum.is_some(), whole, "{:?}", object.checksum);
        let (fetched, arrived) = download.fetch().await.unwrap();
        assert!(arrived == bytes(1), "{checksum:?}");
        assert_eq!(fetched.transferred, SIZE, "{checksum:?}");
        let etag = &fetched.identity.etag.0;
        assert!(etag.ends_with("-2\""), "{etag}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_multipart_upload_is_served() {
    let s3 = AnyS3::seaweedfs().await;
    let model = padded("wine-v1.onnx", PART + 1000);
    upload(&s3, support::KEY, &model, ChecksumType::Composite).await;
    let alone = Alone::ready(&s3, &[]).await;
    WINE.v1.check(&alone.predict(9).await.json().unwrap(), 0..9);
}
