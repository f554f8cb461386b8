//! Objects in S3.
//!
//! One conditional `GetObject` is both the version check and the start of the transfer. A 304 costs a few hundred
//! bytes, and a change costs no second round trip. The SDK retries transient errors until the first byte.
//!
//! Range requests are pinned with `If-Match`, even if the version id is known. A request with a version id requires
//! another permission (`s3:GetObjectVersion`), and would not detect a newer version. Only a source of one version
//! names the version id. Such a source never changes, so that its check needs no request.
//!
//! S3 returns the checksum of the whole object with a full response, and none for an arbitrary range. The checksum is
//! part of the [`Object`], and the SDK's own validation is off, so that a file from several responses is verified
//! once.

use std::ops::Range;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::ResponseChecksumValidation;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::ChecksumType;
use bytes::Bytes;
use futures_core::future::BoxFuture;

mod errors;
mod versions;

use errors::{S3ErrorResponse, S3Operation};

use super::{
    ChunkStream, EarlierVersion, ModelFolder, NamedBy, Object, Opened, Source, SourceError,
};
use crate::aws::{RandomIds, Unreachable};
use crate::clock::within_awake;
use crate::ids::{Checksum, ChecksumAlgorithm, ETag, FilePath, Identity};

/// Maximum time awake of a call with all its attempts, until the headers of an object or the end of any other response.
/// Three attempts to connect and to read headers take at most 20 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Objects of a bucket whose keys have a prefix.
#[derive(Debug)]
pub struct S3Folder {
    client: Client,
    bucket: String,
    /// Empty, or ends in `/`.
    prefix: String,
}

impl S3Folder {
    /// Objects of `bucket` below `prefix`, which must be empty or end in `/`. A custom endpoint uses path-style
    /// requests, since it seldom has a host name per bucket.
    #[must_use]
    pub fn new(aws: &SdkConfig, custom_endpoint: bool, bucket: &str, prefix: &str) -> Self {
        let config = aws_sdk_s3::config::Builder::from(aws)
            .force_path_style(custom_endpoint)
            .invocation_id_generator(RandomIds)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Self {
            client: Client::from_conf(config),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        }
    }

    fn source(&self, key: String) -> S3Source {
        S3Source {
            client: self.client.clone(),
            bucket: self.bucket.clone(),
            key,
            version: None,
        }
    }

    fn version_source(&self, key: String, id: String) -> S3Source {
        S3Source {
            version: Some(id),
            ..self.source(key)
        }
    }
}

impl ModelFolder for S3Folder {
    fn file(&self, path: &FilePath, _: NamedBy) -> Box<dyn Source> {
        Box::new(self.source(format!("{}{path}", self.prefix)))
    }

    fn folders<'a>(
        &'a self,
        folder: Option<&'a FilePath>,
    ) -> BoxFuture<'a, Result<Vec<String>, SourceError>> {
        Box::pin(async move {
            let below = folder
                .map(|folder| format!("{folder}/"))
                .unwrap_or_default();
            let prefix = format!("{}{below}", self.prefix);
            let list = self.client.list_objects_v2();
            let list = list.bucket(&self.bucket).prefix(&prefix).delimiter("/");
            let (mut names, mut next) = (Vec::new(), None);
            loop {
                let source = self.source(prefix.clone());
                let page = list.clone().set_continuation_token(next).send();
                let page = source
                    .call(S3Operation::ListObjects, Box::pin(page))
                    .await?;
                let page = page.map_err(|error| source.error(S3Operation::ListObjects, &error))?;
                let folders = page.common_prefixes().iter();
                let paths = folders.filter_map(|folder| folder.prefix()?.strip_prefix(&prefix));
                names.extend(paths.map(|path| path.trim_end_matches('/').to_owned()));
                next = page.next_continuation_token;
                if next.is_none() {
                    break;
                }
            }
            Ok(names)
        })
    }

    fn version(&self, path: &FilePath, id: &str) -> Result<Box<dyn Source>, SourceError> {
        let key = format!("{}{path}", self.prefix);
        Ok(Box::new(self.version_source(key, id.to_owned())))
    }

    fn earlier_versions<'a>(
        &'a self,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<Vec<EarlierVersion>, SourceError>> {
        Box::pin(self.earlier_versions(format!("{}{path}", self.prefix)))
    }
}

/// Object of a bucket, in its present version or in a given one.
#[derive(Debug)]
pub struct S3Source {
    client: Client,
    bucket: String,
    key: String,
    /// Version id; `None` for the present version.
    version: Option<String>,
}

impl S3Source {
    fn object(&self, output: GetObjectOutput) -> Result<Object, SourceError> {
        let uri = self.uri();
        let checksum = declared_checksum(&output);
        let size = output
            .content_length
            .and_then(|length| u64::try_from(length).ok());
        let (Some(etag), Some(size)) = (output.e_tag, size) else {
            return Err(SourceError::permanent(format!(
                "cannot read {uri}: the response has no ETag or no Content-Length"
            ))
            .with_public_reason("the response of S3 has no ETag or no length"));
        };
        let version_id = without_null(output.version_id.or_else(|| self.version.clone()));
        Ok(Object {
            identity: Identity {
                etag: ETag(etag),
                version_id,
            },
            size,
            checksum,
            range: 0..size,
            body: Box::new(S3Body {
                uri,
                stream: output.body,
            }),
        })
    }

    /// Returns the body of a response, which must contain `range` of the object with this ETag.
    fn part(
        &self,
        output: GetObjectOutput,
        identity: &Identity,
        range: &Range<u64>,
    ) -> Result<Box<dyn ChunkStream>, SourceError> {
        let uri = self.uri();
        let requested = format!("bytes {}-{}/", range.start, range.end - 1);
        let content_range = output.content_range.as_deref().unwrap_or_default();
        let is_same = output.e_tag.as_deref() == Some(&identity.etag.0);
        if !is_same || !content_range.starts_with(&requested) {
            return Err(SourceError::changed(format!(
                "cannot read {uri}: requested {requested}… of {}, received {content_range:?} of {}",
                identity.etag.0,
                output.e_tag.unwrap_or_default(),
            ))
            .with_public_reason("the object changed during the read"));
        }
        Ok(Box::new(S3Body {
            uri,
            stream: output.body,
        }))
    }

    /// Runs a call with all its attempts, for at most [`CALL_TIMEOUT`].
    async fn call<T, E>(
        &self,
        operation: S3Operation,
        call: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<Result<T, SdkError<E>>, SourceError> {
        let response = within_awake(CALL_TIMEOUT, call).await;
        response.ok_or_else(|| {
            let (uri, limit) = (self.uri(), CALL_TIMEOUT.as_secs());
            let verb = operation.verb();
            SourceError::transient(format!(
                "cannot {verb} {uri}: S3 did not respond within {limit} s"
            ))
            .with_public_reason("S3 did not respond in time")
        })
    }

    fn operation(&self) -> S3Operation {
        match self.version {
            Some(_) => S3Operation::GetVersion,
            None => S3Operation::GetObject,
        }
    }

    fn error<E>(&self, operation: S3Operation, error: &SdkError<E>) -> SourceError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let uri = self.uri();
        let SdkError::ServiceError(service) = error else {
            let context = DisplayErrorContext(error);
            let (message, public) = match (Unreachable::find(error), error) {
                (Some(unreachable), _) => (unreachable.in_full(), "no connection to S3"),
                (None, SdkError::DispatchFailure(failure)) if failure.is_timeout() => (
                    format!("S3 did not respond in time ({context})"),
                    "S3 did not respond in time",
                ),
                (None, _) => (context.to_string(), "the request to S3 failed"),
            };
            let verb = operation.verb();
            return SourceError::transient(format!("cannot {verb} {uri}: {message}"))
                .with_public_reason(public);
        };
        let raw = service.raw();
        let response = S3ErrorResponse {
            operation,
            uri: &uri,
            bucket: &self.bucket,
            key: &self.key,
            version: self.version.as_deref(),
            region: self.client.config().region().map(AsRef::as_ref),
            status: raw.status().as_u16(),
            code: service.err().code(),
            message: service.err().message(),
            bucket_region: raw.headers().get("x-amz-bucket-region"),
            request_id: raw.headers().get("x-amz-request-id"),
            content_type: raw.headers().get("content-type"),
            body: raw.body().bytes().unwrap_or_default(),
        };
        response.into_error()
    }
}

/// Removes the version id "null": objects that were stored without versioning share it, so that it identifies no
/// content.
fn without_null(version_id: Option<String>) -> Option<String> {
    version_id.filter(|id| id != "null")
}

/// Returns the checksum of the whole object, if the response has one. A composite checksum of a multipart upload does
/// not cover the bytes as a whole.
fn declared_checksum(output: &GetObjectOutput) -> Option<Checksum> {
    let composite = output.checksum_type == Some(ChecksumType::Composite);
    let declared = [
        (ChecksumAlgorithm::Crc64Nvme, &output.checksum_crc64_nvme),
        (ChecksumAlgorithm::Crc32C, &output.checksum_crc32_c),
        (ChecksumAlgorithm::Crc32, &output.checksum_crc32),
        (ChecksumAlgorithm::Sha1, &output.checksum_sha1),
        (ChecksumAlgorithm::Sha256, &output.checksum_sha256),
    ];
    declared.into_iter().find_map(|(algorithm, value)| {
        let value = value.as_ref()?;
        // A composite checksum ends in `-` and the number of parts; old responses do not name the type.
        let is_whole = !composite && !value.contains('-');
        is_whole.then(|| Checksum {
            algorithm,
            value: value.clone(),
        })
    })
}

impl Source for S3Source {
    fn uri(&self) -> String {
        let (bucket, key) = (&self.bucket, &self.key);
        match &self.version {
            Some(id) => format!("s3://{bucket}/{key}?versionId={id}"),
            None => format!("s3://{bucket}/{key}"),
        }
    }

    fn open<'a>(
        &'a self,
        known: Option<&'a Identity>,
    ) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(async move {
            let of_version = known.and_then(|identity| identity.version_id.as_ref());
            if of_version.is_some() && of_version == self.version.as_ref() {
                return Ok(Opened::Unchanged);
            }
            let response = self
                .client
                .get_object()
                .bucket(&self.bucket)
                .key(&self.key)
                .set_version_id(self.version.clone())
                .set_if_none_match(known.map(|identity| identity.etag.0.clone()))
                .customize()
                // The SDK's own setting would enable its validation too.
                .mutate_request(|request| {
                    request
                        .headers_mut()
                        .insert("x-amz-checksum-mode", "ENABLED");
                })
                .send();
            match self.call(self.operation(), Box::pin(response)).await? {
                Ok(output) => self.object(output).map(Opened::Object),
                // The SDK returns a 304 as an error.
                Err(error)
                    if error
                        .raw_response()
                        .is_some_and(|raw| raw.status().as_u16() == 304) =>
                {
                    Ok(Opened::Unchanged)
                }
                Err(error) => Err(self.error(self.operation(), &error)),
            }
        })
    }

    fn read<'a>(
        &'a self,
        identity: &'a Identity,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Box<dyn ChunkStream>, SourceError>> {
        Box::pin(async move {
            let response = self
                .client
                .get_object()
                .bucket(&self.bucket)
                .key(&self.key)
                .set_version_id(self.version.clone())
                .if_match(&identity.etag.0)
                .range(format!("bytes={}-{}", range.start, range.end - 1))
                .send();
            match self.call(self.operation(), Box::pin(response)).await? {
                Ok(output) => self.part(output, identity, &range),
                Err(error) => Err(self.error(self.operation(), &error)),
            }
        })
    }
}

struct S3Body {
    uri: String,
    stream: ByteStream,
}

impl ChunkStream for S3Body {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        Box::pin(async move {
            let chunk = self.stream.next().await?;
            Some(chunk.map_err(|error| {
                SourceError::transient(format!(
                    "cannot read {}: the transfer was interrupted: {}",
                    self.uri,
                    DisplayErrorContext(&error)
                ))
                .with_public_reason("the transfer from S3 was interrupted")
            }))
        })
    }
}
