//! Listing of versions and delete markers.

use s3s::dto::{
    DeleteMarkerEntry, ETag, ListObjectVersionsInput, ListObjectVersionsOutput, ObjectVersion,
    Timestamp,
};
use s3s::{S3Result, s3_error};

use super::store::Store;
use super::{MAX_KEYS, length};

/// One page, sorted by key and, for each key, newest first.
pub(super) fn list(
    store: &Store,
    input: ListObjectVersionsInput,
) -> S3Result<ListObjectVersionsOutput> {
    if input.delimiter.is_some() || input.key_marker.is_some() || input.version_id_marker.is_some()
    {
        return Err(s3_error!(NotImplemented));
    }
    let prefix = input.prefix.clone().unwrap_or_default();
    let asked = input.max_keys.unwrap_or(MAX_KEYS);
    let most = usize::try_from(asked.clamp(0, MAX_KEYS)).unwrap_or_default();
    let keys = store.list_versions(&input.bucket, &prefix).into_iter();
    let mut entries = keys.flat_map(|(key, versions)| {
        let numbered = versions.into_iter().enumerate();
        numbered.map(move |(index, object)| (key.clone(), index == 0, object))
    });
    let (mut versions, mut markers) = (Vec::new(), Vec::new());
    for (key, is_latest, object) in entries.by_ref().take(most) {
        let (key, is_latest) = (Some(key), Some(is_latest));
        let last_modified = Some(Timestamp::from(object.modified));
        let version_id = Some(object.version_id);
        if object.is_delete_marker {
            markers.push(DeleteMarkerEntry {
                key,
                is_latest,
                last_modified,
                version_id,
                ..DeleteMarkerEntry::default()
            });
        } else {
            versions.push(ObjectVersion {
                key,
                is_latest,
                last_modified,
                version_id,
                e_tag: Some(ETag::Strong(object.etag)),
                size: Some(length(object.bytes.len())),
                ..ObjectVersion::default()
            });
        }
    }
    Ok(ListObjectVersionsOutput {
        name: Some(input.bucket),
        prefix: input.prefix,
        max_keys: Some(asked),
        is_truncated: Some(entries.next().is_some()),
        versions: Some(versions),
        delete_markers: Some(markers),
        ..ListObjectVersionsOutput::default()
    })
}
