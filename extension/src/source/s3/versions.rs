//! Earlier versions of an object in a bucket with versioning.
//!
//! Requested only if the present version cannot be used. So the permissions `s3:ListBucketVersions` and
//! `s3:GetObjectVersion` are optional.

use super::super::{EarlierVersion, MAX_EARLIER_VERSIONS, SourceError};
use super::errors::S3Operation;
use super::{S3Folder, without_null};
use crate::ids::{ETag, Identity};

/// Maximum number of entries of the listing's only page: the present version, [`MAX_EARLIER_VERSIONS`], and delete
/// markers between them.
const MAX_ENTRIES: i32 = 20;

impl S3Folder {
    /// Lists the versions of `key` before the present one, newest first. For a deleted object, the list begins with its
    /// last version.
    pub(super) async fn earlier_versions(
        &self,
        key: String,
    ) -> Result<Vec<EarlierVersion>, SourceError> {
        let list = self.client.list_object_versions().bucket(&self.bucket);
        let object = self.source(key.clone());
        let listed = list.prefix(&key).max_keys(MAX_ENTRIES).send();
        let listed = object
            .call(S3Operation::ListVersions, Box::pin(listed))
            .await?;
        let listed = listed.map_err(|error| object.error(S3Operation::ListVersions, &error))?;
        // The listing is ordered by key, then from the newest version to the oldest.
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
                source: Box::new(self.version_source(key.clone(), id)),
            })
        });
        Ok(earlier.take(MAX_EARLIER_VERSIONS).collect())
    }
}
