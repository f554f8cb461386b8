//! Errors of S3 calls: cause and remedy.

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::aws_error;

/// One call, for its errors.
pub(super) struct S3Call {
    pub(super) verb: &'static str,
    pub(super) uri: String,
    /// Permission that the call needs.
    pub(super) permission: &'static str,
}

type Failed<E> = SdkError<E, HttpResponse>;

impl S3Call {
    /// Returns `true` if the object, or this version of it, does not exist.
    #[expect(clippy::unused_self, reason = "reads as a question about the call")]
    pub(super) fn is_missing<E: ProvideErrorMetadata>(&self, error: &Failed<E>) -> bool {
        let SdkError::ServiceError(service) = error else {
            return false;
        };
        // HEAD has no body, and so no code. A missing bucket is an error of the configuration.
        let code = service.err().code();
        service.raw().status().as_u16() == 404
            && matches!(
                code,
                None | Some("NoSuchKey" | "NoSuchVersion" | "NotFound")
            )
    }

    /// Returns `true` if the condition of a write does not hold, or if another write happened at the
    /// same time.
    #[expect(clippy::unused_self, reason = "reads as a question about the call")]
    pub(super) fn is_conflict<E: ProvideErrorMetadata>(&self, error: &Failed<E>) -> bool {
        let SdkError::ServiceError(service) = error else {
            return false;
        };
        let code = service.err().code();
        match service.raw().status().as_u16() {
            412 => true,
            409 => matches!(
                code,
                None | Some("ConditionalRequestConflict" | "OperationAborted")
            ),
            _ => false,
        }
    }

    /// Returns the error with a remedy.
    pub(super) fn error<E>(&self, error: &Failed<E>) -> anyhow::Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let Self { verb, uri, .. } = self;
        let hint = |status, code: &str, response: &HttpResponse| self.hint(status, code, response);
        aws_error::describe(&format!("{verb} {uri}"), "S3", error, hint)
    }

    fn hint(&self, status: u16, code: &str, response: &HttpResponse) -> Option<String> {
        match (status, code) {
            (_, "NoSuchBucket") => Some("create the bucket, or correct its name".to_owned()),
            (301 | 400, _) => {
                let region = response.headers().get("x-amz-bucket-region")?;
                Some(format!(
                    "the bucket is in {region}: set AWS_REGION={region}"
                ))
            }
            (403, _) => Some(format!(
                "grant {} on it, and s3:ListBucket on the bucket",
                self.permission
            )),
            (501, _) => Some("the server has no conditional writes".to_owned()),
            _ => None,
        }
    }
}
