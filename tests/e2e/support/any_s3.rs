//! A bucket of either S3 that the tests have: the lab's own, or `SeaweedFS`, which no one here wrote.
//!
//! What needs no faults is shown on both, by the same functions ([`with_every_s3`]). Objects are put in by the
//! SDK, and the counts of answers are the server's own. As in S3, a bucket keeps no versions
//! until it is told to.

use std::sync::Arc;

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use bytes::Bytes;
use lab::s3::S3Server;
use lab::seaweedfs::SeaweedFs;

use crate::support::{BUCKET, KEY, Store, model};

/// Makes two tests of each function: on the lab's own S3, and on `SeaweedFS`.
macro_rules! with_every_s3 {
    ($($name:ident),+ $(,)?) => {
        mod the_labs_s3 {
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

/// A bucket that no other test knows, empty at first.
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

    /// With the model of this file under [`KEY`].
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

    /// Stores an object; gives the id of its version where the bucket keeps them.
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

    /// How many GETs were answered with `status`, once there are `at_least` so many.
    pub(crate) async fn gets(&self, status: u16, at_least: u64) -> u64 {
        let s3 = match &self.server {
            Server::SeaweedFs(s3) => return s3.gets(&self.bucket, status, at_least).await.unwrap(),
            Server::Lab(s3) => s3,
        };
        let count = |requests: &[lab::s3::RequestRecord]| {
            let gets = requests.iter().filter(|one| one.method == "GET");
            gets.filter(|one| one.status == Some(status)).count() as u64
        };
        let wanted = format!("{at_least} GETs that are answered with {status}");
        let requests = s3.wait_for_requests(&wanted, |requests| count(requests) >= at_least);
        count(&requests.await.unwrap())
    }

    /// How many were answered with a whole object, once there are `at_least` so many.
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
