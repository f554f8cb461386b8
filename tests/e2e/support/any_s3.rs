//! A bucket of the lab's S3 or of `SeaweedFS`, an independent implementation of S3.
//!
//! Tests that inject no faults run on both ([`with_every_s3`]). The SDK uploads objects, and the servers count their
//! responses. As in S3, a bucket keeps no versions unless versioning is enabled.

use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use bytes::Bytes;
use lab::s3::S3Server;
use lab::seaweedfs::SeaweedFs;

use crate::support::{BUCKET, KEY, Store, model};

/// Declares two tests per function: on the lab's S3 and on `SeaweedFS`.
macro_rules! with_every_s3 {
    ($($name:ident),+ $(,)?) => {
        mod lab_s3 {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::support::any_s3::AnyS3::lab().await).await;
            })+
        }
        mod seaweedfs {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(crate::support::any_s3::AnyS3::seaweedfs().await).await;
            })+
        }
    };
}
pub(crate) use with_every_s3;

/// Empty bucket that no other test uses.
pub(crate) struct AnyS3 {
    server: Server,
    bucket: String,
}

enum Server {
    Lab(S3Server),
    SeaweedFs(Arc<SeaweedFs>),
}

impl AnyS3 {
    pub(crate) async fn lab() -> Self {
        let s3 = S3Server::start().await.unwrap();
        s3.keep_versions(BUCKET, false);
        Self {
            server: Server::Lab(s3),
            bucket: BUCKET.to_owned(),
        }
    }

    pub(crate) async fn seaweedfs() -> Self {
        let s3 = SeaweedFs::shared().await.unwrap();
        let bucket = s3.bucket();
        let made = s3.client().create_bucket().bucket(&bucket).send().await;
        made.unwrap();
        Self {
            server: Server::SeaweedFs(s3),
            bucket,
        }
    }

    /// Uploads the model `file` to [`KEY`].
    pub(crate) async fn holds(self, file: &str) -> Self {
        self.put(KEY, model(file)).await;
        self
    }

    pub(crate) fn client(&self) -> Client {
        match &self.server {
            Server::Lab(s3) => s3.client(),
            Server::SeaweedFs(s3) => s3.client(),
        }
    }

    /// Uploads an object; returns its version id where versioning is enabled.
    pub(crate) async fn put(&self, key: &str, bytes: Bytes) -> Option<String> {
        let put = self.client().put_object().bucket(&self.bucket).key(key);
        let stored = put.body(bytes.into()).send().await.unwrap();
        stored.version_id
    }

    pub(crate) async fn keep_versions(&self) {
        match &self.server {
            Server::Lab(s3) => s3.keep_versions(&self.bucket, true),
            Server::SeaweedFs(s3) => {
                let enabled = VersioningConfiguration::builder()
                    .status(BucketVersioningStatus::Enabled)
                    .build();
                let put = s3.client().put_bucket_versioning().bucket(&self.bucket);
                let put = put.versioning_configuration(enabled).send();
                put.await.unwrap();
            }
        }
    }

    /// Waits for `at_least` GET requests with this response status, and returns their number.
    pub(crate) async fn gets(&self, status: u16, at_least: u64) -> u64 {
        let s3 = match &self.server {
            Server::SeaweedFs(s3) => return s3.gets(&self.bucket, status, at_least).await.unwrap(),
            Server::Lab(s3) => s3,
        };
        let count = |requests: &[lab::s3::RequestRecord]| {
            let gets = requests.iter().filter(|one| one.method == "GET");
            gets.filter(|one| one.status == Some(status)).count() as u64
        };
        let wanted = format!("{at_least} GET requests with status {status}");
        let requests = s3.wait_for_requests(&wanted, |requests| count(requests) >= at_least);
        count(&requests.await.unwrap())
    }

    /// Waits for `at_least` downloads of whole objects, and returns their number.
    pub(crate) async fn transfers(&self, at_least: u64) -> u64 {
        self.gets(200, at_least).await
    }
}

impl Store for AnyS3 {
    fn env(&self) -> Vec<(String, String)> {
        match &self.server {
            Server::Lab(s3) => s3.env(),
            Server::SeaweedFs(s3) => s3.env(),
        }
    }

    fn url(&self) -> String {
        match &self.server {
            Server::Lab(s3) => s3.url(),
            Server::SeaweedFs(s3) => s3.url(),
        }
    }

    fn bucket(&self) -> &str {
        &self.bucket
    }
}
