//! Errors of S3 calls: cause and remedy.

use anyhow::anyhow;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

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
        let SdkError::ServiceError(service) = error else {
            let cause = DisplayErrorContext(error);
            return anyhow!(
                "cannot {verb} {uri}: no response from S3: {cause}; check the network, the region and the credentials"
            );
        };
        let status = service.raw().status().as_u16();
        let code = service.err().code().unwrap_or("no code");
        let message = service.err().message().unwrap_or("no message");
        let hint = self.hint(status, code, service.raw());
        anyhow!("cannot {verb} {uri}: S3 responded {status} {code} ({message}){hint}")
    }

    fn hint(&self, status: u16, code: &str, response: &HttpResponse) -> String {
        match (status, code) {
            (_, "NoSuchBucket") => "; create the bucket, or correct its name".to_owned(),
            (_, "ExpiredToken" | "InvalidAccessKeyId" | "SignatureDoesNotMatch") => {
                "; renew the AWS credentials".to_owned()
            }
            (301 | 400, _) => match response.headers().get("x-amz-bucket-region") {
                Some(region) => format!("; the bucket is in {region}: set AWS_REGION={region}"),
                None => String::new(),
            },
            (403, _) => format!(
                "; grant {} on it, and s3:ListBucket on the bucket",
                self.permission
            ),
            (501, _) => "; the server has no conditional writes".to_owned(),
            (500.., _) => "; run the command again".to_owned(),
            _ => String::new(),
        }
    }
}
