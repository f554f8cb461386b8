//! What a bucket that keeps versions still has of an object.
//!
//! Only asked for when the present version is of no use, so that the permissions it takes (`s3:ListBucketVersions`,
//! `s3:GetObjectVersion`) are needed then alone.

use super::super::{EarlierVersion, MAX_EARLIER_VERSIONS, SourceError};
use super::errors::Asked;
use super::{S3Folder, without_null};
use crate::ids::{ETag, Identity};

/// How many entries of a listing are asked for, in its one page: the present version, [`MAX_EARLIER_VERSIONS`], and delete
/// markers between them.
const LISTED: i32 = 20;

impl S3Folder {
    /// The versions of `key` before the present one, newest first. Where the object was deleted, its last version is
    /// one of them.
    pub(super) async fn earlier_versions(
        &self,
        key: String,
    ) -> Result<Vec<EarlierVersion>, SourceError> {
        let list = self.client.list_object_versions().bucket(&self.bucket);
        let object = self.source(key.clone());
        let listed = list.prefix(&key).max_keys(LISTED).send();
        let listed = object.answer_to(Box::pin(listed)).await?;
        let listed = listed.map_err(|error| object.explain(Asked::Versions, &error))?;
        // The key itself comes first of all that begin with it, and its newest version first.
        let own = listed.versions().iter();
        let own = own.filter(|version| version.key() == Some(&key));
        let before = own.filter(|version| version.is_latest() != Some(true));
        let earlier = before.filter_map(|version| {
            let id = version.version_id()?.to_owned();
            Some(EarlierVersion {
                identity: Identity {
                    etag: ETag(version.e_tag()?.to_owned()),
                    version_id: without_null(Some(id.clone())),
                },
                source: Box::new(self.source_of_version(key.clone(), id)),
            })
        });
        Ok(earlier.take(MAX_EARLIER_VERSIONS).collect())
    }
}
