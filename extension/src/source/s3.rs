//! An object in S3.
//!
//! One conditional GET is both the check and the beginning of the transfer: unchanged costs a few hundred
//! bytes, changed costs no second round trip. The SDK retries what is worth retrying until the first byte, and
//! holds the bytes against the object's checksum.

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata as _, SdkError};
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use futures_core::future::BoxFuture;

use super::{Chunks, Object, Opened, Source, SourceError};
use crate::ids::{ETag, Identity};

/// One object of one bucket.
#[derive(Debug)]
pub struct S3Source {
    client: Client,
    bucket: String,
    key: String,
}

impl S3Source {
    /// The object `key` of `bucket`. At an endpoint of the user's own, buckets are named in the path, since
    /// names of hosts under it seldom exist.
    #[must_use]
    pub fn new(aws: &SdkConfig, custom_endpoint: bool, bucket: &str, key: &str) -> Self {
        let config = aws_sdk_s3::config::Builder::from(aws)
            .force_path_style(custom_endpoint)
            .build();
        Self {
            client: Client::from_conf(config),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        }
    }

    fn uri(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.key)
    }

    fn object(&self, output: GetObjectOutput) -> Result<Object, SourceError> {
        let uri = self.uri();
        let size = output
            .content_length
            .and_then(|length| u64::try_from(length).ok());
        let (Some(etag), Some(size)) = (output.e_tag, size) else {
            return Err(SourceError::lasting(format!(
                "{uri}: the answer has no ETag or no Content-Length"
            )));
        };
        // "null" is the version id of objects in a bucket that does not keep versions.
        let version_id = output.version_id.filter(|version| version != "null");
        Ok(Object {
            identity: Identity {
                etag: ETag(etag),
                version_id,
            },
            size,
            body: Box::new(S3Body {
                uri,
                stream: output.body,
            }),
        })
    }

    fn explain(&self, error: &SdkError<GetObjectError>) -> SourceError {
        let (uri, bucket, key) = (self.uri(), &self.bucket, &self.key);
        let context = DisplayErrorContext(error);
        let SdkError::ServiceError(service) = error else {
            return SourceError::transient(match error {
                SdkError::DispatchFailure(failure) if failure.is_timeout() || failure.is_io() => {
                    format!(
                        "{uri}: no connection to S3: in a VPC, the subnet needs a gateway endpoint for S3 or a NAT ({context})"
                    )
                }
                SdkError::TimeoutError(_) => {
                    format!("{uri}: S3 did not answer in time ({context})")
                }
                _ => format!("{uri}: {context}"),
            });
        };
        let status = service.raw().status().as_u16();
        match (service.err().code(), status) {
            (Some("NoSuchBucket"), _) => {
                SourceError::lasting(format!("{uri}: there is no bucket {bucket}"))
            }
            (Some("NoSuchKey"), _) | (None, 404) => {
                SourceError::lasting(format!("{uri}: there is no object {key} in the bucket"))
            }
            (
                Some(
                    "SignatureDoesNotMatch"
                    | "InvalidAccessKeyId"
                    | "ExpiredToken"
                    | "InvalidToken",
                ),
                _,
            ) => SourceError::lasting(format!("{uri}: S3 refused the credentials ({context})")),
            (_, 403) => SourceError::lasting(format!(
                "{uri}: missing, or access is denied: the function's role needs s3:GetObject on it \
                 (and s3:ListBucket on the bucket, for S3 to tell which of the two it is)"
            )),
            (_, 301 | 307) => SourceError::lasting(format!(
                "{uri}: the bucket is in another region than AWS_REGION"
            )),
            (Some("SlowDown"), _) | (_, 429 | 503) => SourceError::transient(format!(
                "{uri}: S3 is throttling or unavailable (status {status})"
            )),
            (_, 500..) => SourceError::transient(format!("{uri}: {context}")),
            _ => SourceError::lasting(format!("{uri}: {context}")),
        }
    }
}

impl Source for S3Source {
    fn open<'a>(
        &'a self,
        known: Option<&'a Identity>,
    ) -> BoxFuture<'a, Result<Opened, SourceError>> {
        Box::pin(async move {
            let answer = self
                .client
                .get_object()
                .bucket(&self.bucket)
                .key(&self.key)
                .set_if_none_match(known.map(|identity| identity.etag.0.clone()))
                .send()
                .await;
            match answer {
                Ok(output) => self.object(output).map(Opened::Object),
                // The SDK has no success with status 304.
                Err(error)
                    if error
                        .raw_response()
                        .is_some_and(|raw| raw.status().as_u16() == 304) =>
                {
                    Ok(Opened::Unchanged)
                }
                Err(error) => Err(self.explain(&error)),
            }
        })
    }
}

struct S3Body {
    uri: String,
    stream: ByteStream,
}

impl Chunks for S3Body {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Bytes, SourceError>>> {
        Box::pin(async move {
            let chunk = self.stream.next().await?;
            Some(chunk.map_err(|error| {
                SourceError::transient(format!(
                    "{}: the transfer broke: {}",
                    self.uri,
                    DisplayErrorContext(&error)
                ))
            }))
        })
    }
}
