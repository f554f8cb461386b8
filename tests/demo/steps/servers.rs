//! S3 and CloudWatch come up; what is put into S3, and what was asked of it in the end.

use anyhow::{Context as _, Result, ensure};
use aws_sdk_s3::primitives::ByteStream;
use lab::cloudwatch::CloudWatch;
use lab::s3::S3Server;

use super::{BUCKET, KEY};
use crate::story::{Story, grouped};
use crate::wine;

pub(super) async fn storage(story: &mut Story) -> Result<S3Server> {
    story.step(
        "S3, and version 1 of a model",
        "A server that speaks S3's protocol and checks signatures. Into it goes a classifier of \
         wines: a scaler and a logistic regression, exported from scikit-learn.",
    );
    let s3 = S3Server::start().await?;
    s3.create_bucket(BUCKET);
    let version_id = put(&s3, wine::V1).await?;
    let stored = s3.get(BUCKET, KEY).map(|object| object.bytes);
    ensure!(
        stored.is_some_and(|bytes| bytes == wine::V1),
        "the object is not what was uploaded"
    );
    story.holds(&format!(
        "S3 listens on {}; s3://{BUCKET}/{KEY} has {} bytes, version id {version_id}",
        s3.url(),
        grouped(wine::V1.len() as u64)
    ));
    Ok(s3)
}

pub(super) async fn monitoring(story: &mut Story) -> Result<CloudWatch> {
    story.step(
        "CloudWatch",
        "A server that takes PutMetricData as AWS's SDKs send it, checks signatures, and refuses \
         what CloudWatch refuses.",
    );
    let cloudwatch = CloudWatch::start().await?;
    lab::http::Client::tcp(cloudwatch.port()).connect().await?;
    story.holds(&format!("CloudWatch listens on {}", cloudwatch.url()));
    Ok(cloudwatch)
}

/// Uploads over S3's own protocol; the id of the version it makes.
pub(super) async fn put(s3: &S3Server, model: &'static [u8]) -> Result<String> {
    let request = s3.client().put_object().bucket(BUCKET).key(KEY);
    let output = request.body(ByteStream::from_static(model)).send().await?;
    output.version_id.context("S3 named no version")
}

/// What the sidecar asked of S3: each version transferred once, all else answered with 304.
pub(super) fn asked_of_s3(story: &Story, s3: &S3Server) -> Result<()> {
    let gets: Vec<u16> = s3
        .requests()
        .iter()
        .filter(|request| request.method == "GET")
        .filter_map(|request| request.status)
        .collect();
    let with = |status: u16| gets.iter().filter(|&&one| one == status).count();
    ensure!(
        with(200) == 2 && with(200) + with(304) == gets.len(),
        "S3 answered the sidecar's requests with {gets:?}, not with 200 twice and else with 304"
    );
    story.holds(&format!(
        "in its life the sidecar asked S3 {} times: each version was sent once, all else was answered \
         with 304 Not Modified",
        gets.len()
    ));
    Ok(())
}
