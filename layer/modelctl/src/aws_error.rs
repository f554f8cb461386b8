//! Errors of calls to AWS's services: cause and remedy.

use anyhow::anyhow;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// Describes an error of a call to `service`, which failed to do `what`. `hint` returns the remedy for a status and a
/// code of this service.
pub(crate) fn describe<E>(
    what: &str,
    service: &str,
    error: &SdkError<E, HttpResponse>,
    hint: impl FnOnce(u16, &str, &HttpResponse) -> Option<String>,
) -> anyhow::Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let SdkError::ServiceError(response) = error else {
        let cause = DisplayErrorContext(error);
        return anyhow!(
            "cannot {what}: no response from {service}: {cause}; check the network, the region and the credentials"
        );
    };
    let status = response.raw().status().as_u16();
    let code = response.err().code().unwrap_or("no code");
    let message = response.err().message().unwrap_or("no message");
    let hint = match code {
        "ExpiredToken"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch" => "; renew the AWS credentials".to_owned(),
        _ => match hint(status, code, response.raw()) {
            Some(hint) => format!("; {hint}"),
            None if status >= 500 => "; run the command again".to_owned(),
            None => String::new(),
        },
    };
    anyhow!("cannot {what}: {service} responded {status} {code} ({message}){hint}")
}
