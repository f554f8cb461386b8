//! Implemented operations of S3, called by `s3s` with parsed and authenticated requests.

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, HeaderValue};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumMode, CommonPrefix,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, ETag, GetObjectInput,
    GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput, HeadObjectOutput,
    ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectVersionsInput,
    ListObjectVersionsOutput, ListObjectsV2Input, ListObjectsV2Output, ListPartsInput,
    ListPartsOutput, Object as Listed, PutObjectInput, PutObjectOutput, StreamingBlob, Timestamp,
    UploadPartInput, UploadPartOutput,
};
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use super::conditions::Conditions;
use super::fields::{received, shown_version, sums, user_metadata};
use super::multipart::Uploads;
use super::store::{Checksum, NewObject, Object, Store};
use super::versions;
use super::{MAX_KEYS, length};

pub(super) struct Operations {
    store: Arc<Store>,
    uploads: Uploads,
}

#[async_trait]
impl S3 for Operations {
    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let object = self.find(&input.bucket, &input.key, input.version_id.as_deref())?;
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&object)?;

        let size = object.bytes.len();
        let whole = 0..size as u64;
        let part = match input.range {
            Some(range) => range.check(size as u64)?,
            None => whole,
        };
        let content_range = input
            .range
            .map(|_| format!("bytes {}-{}/{size}", part.start, part.end - 1));
        // S3 has a checksum of the whole object and none of an arbitrary range.
        let checked = input.range.is_none() && is_enabled(input.checksum_mode.as_ref());
        let sums = sums(&object, checked);
        let body = object.bytes.slice(place(part.start)..place(part.end));
        Ok(S3Response::new(GetObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some(length(body.len())),
            content_type: Some("application/octet-stream".into()),
            body: Some(StreamingBlob::from(Body::from(body))),
            content_range,
            e_tag: Some(ETag::Strong(object.etag.clone())),
            last_modified: Some(Timestamp::from(object.modified)),
            version_id: shown_version(&object),
            checksum_type: sums.checksum_type,
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha256: sums.checksum_sha256,
            metadata: Some(object.metadata.into_iter().collect()),
            ..GetObjectOutput::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let object = self.find(&input.bucket, &input.key, input.version_id.as_deref())?;
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&object)?;
        let sums = sums(&object, is_enabled(input.checksum_mode.as_ref()));
        Ok(S3Response::new(HeadObjectOutput {
            accept_ranges: Some("bytes".into()),
            content_length: Some(length(object.bytes.len())),
            content_type: Some("application/octet-stream".into()),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            last_modified: Some(Timestamp::from(object.modified)),
            version_id: shown_version(&object),
            checksum_type: sums.checksum_type,
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha256: sums.checksum_sha256,
            metadata: Some(object.metadata.into_iter().collect()),
            ..HeadObjectOutput::default()
        }))
    }

    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let S3Request {
            input,
            trailing_headers,
            ..
        } = request;
        self.bucket(&input.bucket)?;
        let sent = [
            input.checksum_crc64nvme.map(Checksum::Crc64Nvme),
            input.checksum_crc32.map(Checksum::Crc32),
            input.checksum_crc32c.map(Checksum::Crc32C),
            input.checksum_sha256.map(Checksum::Sha256),
        ];
        let (bytes, checksum) = received(input.body, sent, trailing_headers).await?;
        // Checked once the body is complete, as in S3: of two concurrent conditional uploads one
        // wins.
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            ..Conditions::default()
        };
        conditions.check_supported()?;
        let checksum = checksum.unwrap_or_else(|| Checksum::crc64nvme(&bytes));
        let new = NewObject::whole(bytes, checksum, user_metadata(input.metadata));
        let object = self
            .store
            .put_if(&input.bucket, &input.key, new, |current| {
                conditions.check_upload(current)
            })?;
        let sums = sums(&object, true);
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(object.etag.clone())),
            version_id: shown_version(&object),
            checksum_type: sums.checksum_type,
            checksum_crc32: sums.checksum_crc32,
            checksum_crc32c: sums.checksum_crc32c,
            checksum_crc64nvme: sums.checksum_crc64nvme,
            checksum_sha256: sums.checksum_sha256,
            ..PutObjectOutput::default()
        }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        self.bucket(&input.bucket)?;
        let output = if let Some(version_id) = input.version_id {
            self.store
                .delete_version(&input.bucket, &input.key, &version_id);
            DeleteObjectOutput {
                version_id: Some(version_id),
                ..DeleteObjectOutput::default()
            }
        } else {
            let marker = self.store.delete(&input.bucket, &input.key);
            DeleteObjectOutput {
                delete_marker: marker.as_ref().map(|_| true),
                version_id: marker.map(|marker| marker.version_id),
                ..DeleteObjectOutput::default()
            }
        };
        Ok(S3Response::new(output))
    }

    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.bucket(&request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        self.bucket(&input.bucket)?;
        if !self.store.list_permission() {
            return Err(S3ErrorCode::AccessDenied.into());
        }
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input
            .continuation_token
            .clone()
            .or(input.start_after.clone());
        let asked = input.max_keys.unwrap_or(MAX_KEYS);
        let most = usize::try_from(asked.clamp(0, MAX_KEYS)).unwrap_or_default();
        let mut found = Vec::new();
        for (key, object) in self.store.list(&input.bucket, &prefix) {
            let entry = match folder(&key, &prefix, input.delimiter.as_deref()) {
                Some(folder) => (folder, None),
                None => (key, Some(object)),
            };
            // All keys of a folder are one entry.
            let is_new = found.last().is_none_or(|(last, _)| *last != entry.0);
            if is_new && after.as_ref().is_none_or(|after| entry.0 > *after) {
                found.push(entry);
            }
        }
        let is_truncated = found.len() > most;
        found.truncate(most);
        let last = found.last().map(|(name, _)| name.clone());
        let key_count = i32::try_from(found.len()).ok();
        let (mut contents, mut common_prefixes) = (Vec::new(), Vec::new());
        for (name, object) in found {
            match object {
                Some(object) => contents.push(listed((name, object))),
                None => common_prefixes.push(CommonPrefix { prefix: Some(name) }),
            }
        }
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            max_keys: Some(asked),
            key_count,
            delimiter: input.delimiter,
            common_prefixes: Some(common_prefixes),
            is_truncated: Some(is_truncated),
            next_continuation_token: last.filter(|_| is_truncated),
            continuation_token: input.continuation_token,
            start_after: input.start_after,
            contents: Some(contents),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.bucket(&request.input.bucket)?;
        Ok(S3Response::new(self.uploads.create(request.input)))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let part = self.uploads.put_part(request).await?;
        Ok(S3Response::new(part))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let object = self.uploads.complete(&self.store, request.input)?;
        Ok(S3Response::new(object))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.uploads.abort(&request.input)?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        self.uploads.parts(&request.input).map(S3Response::new)
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        self.bucket(&request.input.bucket)?;
        self.uploads.list(request.input).map(S3Response::new)
    }

    async fn list_object_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let input = request.input;
        self.bucket(&input.bucket)?;
        if !self.store.list_permission() {
            return Err(S3ErrorCode::AccessDenied.into());
        }
        versions::list(&self.store, input).map(S3Response::new)
    }
}

impl Operations {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            uploads: Uploads::default(),
        }
    }

    fn bucket(&self, bucket: &str) -> S3Result<()> {
        if self.store.has_bucket(bucket) {
            Ok(())
        } else {
            Err(S3ErrorCode::NoSuchBucket.into())
        }
    }

    fn find(&self, bucket: &str, key: &str, version_id: Option<&str>) -> S3Result<Object> {
        self.bucket(bucket)?;
        let mut versions = self.store.versions(bucket, key);
        if let Some(wanted) = version_id {
            versions.retain(|version| version.version_id == wanted);
        }
        match versions.pop() {
            Some(object) if !object.is_delete_marker => Ok(object),
            Some(marker) if version_id.is_some() => {
                Err(marked(S3ErrorCode::MethodNotAllowed, &marker))
            }
            _ if !self.store.list_permission() => Err(S3ErrorCode::AccessDenied.into()),
            Some(marker) => Err(marked(S3ErrorCode::NoSuchKey, &marker)),
            None if version_id.is_some() => Err(S3ErrorCode::NoSuchVersion.into()),
            None => Err(S3ErrorCode::NoSuchKey.into()),
        }
    }
}

/// An error with the header that marks a delete marker.
fn marked(code: S3ErrorCode, marker: &Object) -> S3Error {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-delete-marker", HeaderValue::from_static("true"));
    if let Ok(id) = HeaderValue::from_str(&marker.version_id) {
        headers.insert("x-amz-version-id", id);
    }
    let mut error = S3Error::new(code);
    error.set_headers(headers);
    error
}

fn is_enabled(mode: Option<&ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

/// The key up to the first delimiter after the prefix, if there is one.
fn folder(key: &str, prefix: &str, delimiter: Option<&str>) -> Option<String> {
    let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty())?;
    let (folder, _) = key.strip_prefix(prefix)?.split_once(delimiter)?;
    Some(format!("{prefix}{folder}{delimiter}"))
}

fn listed((key, object): (String, Object)) -> Listed {
    Listed {
        key: Some(key),
        size: Some(length(object.bytes.len())),
        e_tag: Some(ETag::Strong(object.etag)),
        last_modified: Some(Timestamp::from(object.modified)),
        ..Listed::default()
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
