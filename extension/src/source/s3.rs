//! An object in S3.
//!
//! One conditional GET is both the check and the beginning of the transfer: unchanged costs a few hundred
//! bytes, changed costs no second round trip. The SDK retries what is worth retrying until the first byte.
//!
//! Ranges are pinned by `If-Match` alone, also where there is a version id: a request that names a version needs
//! another permission (`s3:GetObjectVersion`), and would not notice that a newer one has come. Where one version is
//! wanted and no newer one, it is named as well; that it is unchanged needs no question.
//!
//! S3 gives its checksum of the whole object with a whole answer, and none of an arbitrary range. So that one check
//! holds for a file that came in several answers, the SDK's own is off, and the checksum goes with the [`Object`].

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

use errors::{Asked, Refusal};

use super::{
    ChunkStream, EarlierVersion, ModelFolder, NamedBy, Object, Opened, Source, SourceError,
};
use crate::aws::Unreachable;
use crate::clock::within_awake;
use crate::ids::{Checksum, ChecksumAlgorithm, ETag, FilePath, Identity};

/// Maximum time awake of one call with all its attempts, until the head of an object or the end of any other answer. Three
/// attempts to connect and to read a head take at most 20 s.
const CALL: Duration = Duration::from_secs(30);

/// The objects of one bucket whose keys begin with a prefix.
#[derive(Debug)]
pub struct S3Folder {
    client: Client,
    bucket: String,
    /// Empty, or with `/` at its end.
    prefix: String,
}

impl S3Folder {
    /// The objects of `bucket` below `prefix`, which is empty or ends in `/`. At an endpoint of the user's own,
    /// buckets are named in the path, since names of hosts under it seldom exist.
    #[must_use]
    pub fn new(aws: &SdkConfig, custom_endpoint: bool, bucket: &str, prefix: &str) -> Self {
        let config = aws_sdk_s3::config::Builder::from(aws)
            .force_path_style(custom_endpoint)
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

    fn source_of_version(&self, key: String, id: String) -> S3Source {
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
                let page = source.answer_to(Box::pin(page)).await?;
                let page = page.map_err(|error| source.explain(Asked::Listing, &error))?;
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
        Ok(Box::new(self.source_of_version(key, id.to_owned())))
    }

    fn earlier_versions<'a>(
        &'a self,
        path: &'a FilePath,
    ) -> BoxFuture<'a, Result<Vec<EarlierVersion>, SourceError>> {
        Box::pin(self.earlier_versions(format!("{}{path}", self.prefix)))
    }
}

/// One object of one bucket, as it is now or in one version.
#[derive(Debug)]
pub struct S3Source {
    client: Client,
    bucket: String,
    key: String,
    /// The id of the version; `None` for the present one, whichever that is.
    version: Option<String>,
}

impl S3Source {
    fn object(&self, output: GetObjectOutput) -> Result<Object, SourceError> {
        let uri = self.uri();
        let checksum = declared(&output);
        let size = output
            .content_length
            .and_then(|length| u64::try_from(length).ok());
        let (Some(etag), Some(size)) = (output.e_tag, size) else {
            return Err(SourceError::permanent(format!(
                "{uri}: the answer has no ETag or no Content-Length"
            ))
            .with_public_reason("S3 gave an answer without an ETag or a length"));
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

    /// The body of an answer that must be `range` of the object with this ETag.
    fn part(
        &self,
        output: GetObjectOutput,
        identity: &Identity,
        range: &Range<u64>,
    ) -> Result<Box<dyn ChunkStream>, SourceError> {
        let uri = self.uri();
        let asked = format!("bytes {}-{}/", range.start, range.end - 1);
        let content_range = output.content_range.as_deref().unwrap_or_default();
        let same = output.e_tag.as_deref() == Some(&identity.etag.0);
        if !same || !content_range.starts_with(&asked) {
            return Err(SourceError::changed(format!(
                "{uri}: asked for {asked}… of {}, the answer is {content_range:?} of {}",
                identity.etag.0,
                output.e_tag.unwrap_or_default(),
            ))
            .with_public_reason("the object changed while it was read"));
        }
        Ok(Box::new(S3Body {
            uri,
            stream: output.body,
        }))
    }

    /// The outcome of a call, with all its attempts, unless that takes too long.
    async fn answer_to<T, E>(
        &self,
        call: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<Result<T, SdkError<E>>, SourceError> {
        let answer = within_awake(CALL, call).await;
        answer.ok_or_else(|| {
            let (uri, limit) = (self.uri(), CALL.as_secs());
            SourceError::transient(format!("{uri}: S3 did not answer within {limit} s"))
                .with_public_reason("S3 did not answer in time")
        })
    }

    fn asked(&self) -> Asked {
        match self.version {
            Some(_) => Asked::Version,
            None => Asked::Object,
        }
    }

    fn explain<E>(&self, asked: Asked, error: &SdkError<E>) -> SourceError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let uri = self.uri();
        let SdkError::ServiceError(service) = error else {
            let context = DisplayErrorContext(error);
            let (message, public) = match (Unreachable::find(error), error) {
                (Some(unreachable), _) => (unreachable.in_full(), "no connection to S3"),
                (None, SdkError::DispatchFailure(failure)) if failure.is_timeout() => (
                    format!("S3 did not answer in time ({context})"),
                    "S3 did not answer in time",
                ),
                (None, _) => (context.to_string(), "S3 could not be asked"),
            };
            return SourceError::transient(format!("{uri}: {message}")).with_public_reason(public);
        };
        let answer = service.raw();
        let refusal = Refusal {
            asked,
            uri: &uri,
            bucket: &self.bucket,
            key: &self.key,
            version: self.version.as_deref(),
            region: self.client.config().region().map(AsRef::as_ref),
            status: answer.status().as_u16(),
            code: service.err().code(),
            message: service.err().message(),
            bucket_region: answer.headers().get("x-amz-bucket-region"),
            request_id: answer.headers().get("x-amz-request-id"),
            content_type: answer.headers().get("content-type"),
            body: answer.body().bytes().unwrap_or_default(),
        };
        refusal.explain()
    }
}

/// "null" is the version id of what was stored while the bucket kept no versions, and names no content.
fn without_null(version_id: Option<String>) -> Option<String> {
    version_id.filter(|id| id != "null")
}

/// The checksum over the whole object, where the answer has one. That of a multipart upload may be composed of its
/// parts' checksums, which says nothing of the bytes together.
fn declared(output: &GetObjectOutput) -> Option<Checksum> {
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
        // A composite one ends in `-` and the count of parts; older answers do not name the type.
        let whole = !composite && !value.contains('-');
        whole.then(|| Checksum {
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
            let answer = self
                .client
                .get_object()
                .bucket(&self.bucket)
                .key(&self.key)
                .set_version_id(self.version.clone())
                .set_if_none_match(known.map(|identity| identity.etag.0.clone()))
                .customize()
                // The SDK's own setting of this would have it check the bytes as well.
                .mutate_request(|request| {
                    request
                        .headers_mut()
                        .insert("x-amz-checksum-mode", "ENABLED");
                })
                .send();
            match self.answer_to(Box::pin(answer)).await? {
                Ok(output) => self.object(output).map(Opened::Object),
                // The SDK has no success with status 304.
                Err(error)
                    if error
                        .raw_response()
                        .is_some_and(|raw| raw.status().as_u16() == 304) =>
                {
                    Ok(Opened::Unchanged)
                }
                Err(error) => Err(self.explain(self.asked(), &error)),
            }
        })
    }

    fn read<'a>(
        &'a self,
        identity: &'a Identity,
        range: Range<u64>,
    ) -> BoxFuture<'a, Result<Box<dyn ChunkStream>, SourceError>> {
        Box::pin(async move {
            let answer = self
                .client
                .get_object()
                .bucket(&self.bucket)
                .key(&self.key)
                .set_version_id(self.version.clone())
                .if_match(&identity.etag.0)
                .range(format!("bytes={}-{}", range.start, range.end - 1))
                .send();
            match self.answer_to(Box::pin(answer)).await? {
                Ok(output) => self.part(output, identity, &range),
                Err(error) => Err(self.explain(self.asked(), &error)),
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
                    "{}: the transfer broke: {}",
                    self.uri,
                    DisplayErrorContext(&error)
                ))
                .with_public_reason("the transfer from S3 broke")
            }))
        })
    }
}
