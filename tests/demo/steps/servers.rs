//! Starts S3 and CloudWatch, uploads to S3, and verifies the requests at the end.

use anyhow::{Context as _, Result, ensure};
use aws_sdk_s3::primitives::ByteStream;
use lab::cloudwatch::CloudWatch;
use lab::s3::S3Server;

use crate::console::{Console, grouped};
use crate::lambda::{BUCKET, KEY};
use crate::wine;

/// Number of downloads: three versions to the function, two to its copy.
const TRANSFERS: usize = 5;

pub(super) async fn start(console: &mut Console) -> Result<(S3Server, CloudWatch)> {
    console.step(
        "S3 with a model, and CloudWatch",
        "The model classifies wines: a logistic regression, trained with scikit-learn.",
    );
    let s3 = S3Server::start().await?;
    s3.create_bucket(BUCKET);
    let version_id = put(&s3, wine::V1).await?;
    let stored = s3.get(BUCKET, KEY).map(|object| object.bytes);
    ensure!(
        stored.is_some_and(|bytes| bytes == wine::V1),
        "the object is not what was uploaded"
    );
    console.verified(&format!(
        "s3://{BUCKET}/{KEY} has {} bytes, version id {version_id}",
        grouped(wine::V1.len() as u64)
    ));
    Ok((s3, CloudWatch::start().await?))
}

/// Uploads over S3's own protocol; returns the version id.
pub(super) async fn put(s3: &S3Server, model: &'static [u8]) -> Result<String> {
    let request = s3.client().put_object().bucket(BUCKET).key(KEY);
    let output = request.body(ByteStream::from_static(model)).send().await?;
    output.version_id.context("S3 returned no version id")
}

/// Verifies the sidecars' requests to S3: each version downloaded once by each, all else answered
/// with 304.
pub(super) fn asked_of_s3(console: &Console, s3: &S3Server) -> Result<()> {
    let gets: Vec<u16> = s3
        .requests()
        .iter()
        .filter(|request| request.method == "GET")
        .filter_map(|request| request.status)
        .collect();
    let with = |status: u16| gets.iter().filter(|&&one| one == status).count();
    ensure!(
        with(200) == TRANSFERS && TRANSFERS + with(304) == gets.len(),
        "S3 responded to the sidecars with {gets:?}; expected are {TRANSFERS} times 200, else 304"
    );
    console.verified(&format!(
        "both sent {} requests to S3: {} downloads of a version, none repeated; {} polls with \
         304 Not Modified",
        gets.len(),
        with(200),
        with(304)
    ));
    Ok(())
}
