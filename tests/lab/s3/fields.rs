//! Fields of requests and responses that several operations share: bodies, checksums, metadata and versions.

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use http::HeaderMap;
use s3s::dto::{Checksum as Sums, ChecksumType, StreamingBlob};
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders, s3_error};

use super::store::{Checksum, Metadata, NULL_VERSION, Object};

/// Maximum size of a single upload, in bytes.
const LARGEST_UPLOAD: usize = 5 << 30;

/// Receives a body, and verifies its first checksum of `sent`, or else the one after the body.
pub(super) async fn received(
    body: Option<StreamingBlob>,
    sent: [Option<Checksum>; 4],
    trailers: Option<TrailingHeaders>,
) -> S3Result<(Bytes, Option<Checksum>)> {
    let bytes = match body {
        Some(body) => collect(body).await?,
        None => Bytes::new(),
    };
    let sent = sent.into_iter().flatten().next();
    let checksum = verified(sent, trailers, &bytes)?;
    Ok((bytes, checksum))
}

async fn collect(mut body: StreamingBlob) -> S3Result<Bytes> {
    let mut bytes = BytesMut::new();
    // An upload that is cut off or has invalid signed chunks ends here and stores nothing.
    while let Some(chunk) = body.try_next().await.map_err(incomplete)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LARGEST_UPLOAD {
            return Err(S3ErrorCode::EntityTooLarge.into());
        }
    }
    Ok(bytes.freeze())
}

fn incomplete(source: s3s::StdError) -> S3Error {
    S3Error::with_source(S3ErrorCode::IncompleteBody, source)
}

/// Verifies the checksum that was sent in a header or after the body; `None` if there is none.
fn verified(
    sent: Option<Checksum>,
    trailers: Option<TrailingHeaders>,
    bytes: &[u8],
) -> S3Result<Option<Checksum>> {
    let trailers = || trailers.and_then(|trailers| trailers.take());
    let sent = sent.or_else(|| trailing_checksum(&trailers()?));
    match sent {
        Some(sent) if sent.again(bytes) != sent => Err(s3_error!(
            BadDigest,
            "the content does not match its {sent:?}"
        )),
        sent => Ok(sent),
    }
}

fn trailing_checksum(trailers: &HeaderMap) -> Option<Checksum> {
    let text = |name: &str| Some(trailers.get(name)?.to_str().ok()?.to_owned());
    text("x-amz-checksum-crc64nvme")
        .map(Checksum::Crc64Nvme)
        .or_else(|| text("x-amz-checksum-crc32").map(Checksum::Crc32))
        .or_else(|| text("x-amz-checksum-crc32c").map(Checksum::Crc32C))
        .or_else(|| text("x-amz-checksum-sha256").map(Checksum::Sha256))
}

pub(super) fn sums(object: &Object, wanted: bool) -> Sums {
    let mut sums = Sums::default();
    if wanted {
        let kind = if object.checksum.value().contains('-') {
            ChecksumType::COMPOSITE
        } else {
            ChecksumType::FULL_OBJECT
        };
        sums.checksum_type = Some(ChecksumType::from_static(kind));
        match object.checksum.clone() {
            Checksum::Crc64Nvme(sum) => sums.checksum_crc64nvme = Some(sum),
            Checksum::Crc32(sum) => sums.checksum_crc32 = Some(sum),
            Checksum::Crc32C(sum) => sums.checksum_crc32c = Some(sum),
            Checksum::Sha256(sum) => sums.checksum_sha256 = Some(sum),
        }
    }
    sums
}

/// Metadata of a request; header names have no case.
pub(super) fn user_metadata(metadata: Option<s3s::dto::Metadata>) -> Metadata {
    let all = metadata.into_iter().flatten();
    all.map(|(name, value)| (name.to_lowercase(), value))
        .collect()
}

pub(super) fn shown_version(object: &Object) -> Option<String> {
    (object.version_id != NULL_VERSION).then(|| object.version_id.clone())
}
