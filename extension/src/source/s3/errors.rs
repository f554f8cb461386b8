//! Error messages for error responses of S3: the object, the cause, and a remedy.
//!
//! The log message quotes S3's own message, truncated, since a response is untrusted text. An HTML page is not a
//! response of S3 but of a proxy, and says nothing about the object.
//!
//! Callers outside the environment receive only the cause and the status, since the log message contains buckets, keys,
//! accounts and roles.

use crate::source::SourceError;

/// Maximum length of the quoted message of S3, in characters.
const MAX_QUOTE_CHARS: usize = 400;

/// Operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum S3Operation {
    /// `GetObject` of the present version.
    GetObject,
    /// `GetObject` of a given version.
    GetVersion,
    /// `ListObjectsV2`.
    ListObjects,
    /// `ListObjectVersions`.
    ListVersions,
}

impl S3Operation {
    /// Returns the verb for error messages.
    pub(super) fn verb(self) -> &'static str {
        match self {
            S3Operation::GetObject | S3Operation::GetVersion => "read",
            S3Operation::ListObjects => "list",
            S3Operation::ListVersions => "list the versions of",
        }
    }
}

/// Error response of S3.
#[derive(Clone, Copy, Debug)]
pub(super) struct S3ErrorResponse<'a> {
    pub(super) operation: S3Operation,
    pub(super) uri: &'a str,
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    /// Version id, if the request named one.
    pub(super) version: Option<&'a str>,
    /// Region that the request was signed for.
    pub(super) region: Option<&'a str>,
    pub(super) status: u16,
    /// Error code and message of the body.
    pub(super) code: Option<&'a str>,
    pub(super) message: Option<&'a str>,
    /// Headers `x-amz-bucket-region`, `x-amz-request-id` and `content-type`.
    pub(super) bucket_region: Option<&'a str>,
    pub(super) request_id: Option<&'a str>,
    pub(super) content_type: Option<&'a str>,
    pub(super) body: &'a [u8],
}

/// Cause of an error response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum S3ErrorCause {
    HtmlPage,
    NoBucket,
    NoVersion,
    NoObject,
    WrongRegion,
    ClockSkew,
    ExpiredCredentials,
    InvalidCredentials,
    Archived,
    Kms,
    Denied,
    Changed,
    Throttled,
    Unavailable,
    RequestTimeout,
    InternalError,
    InvalidRequest,
    Unknown,
}

impl S3ErrorCause {
    /// Returns the message for callers outside the environment. It contains no names and no quote.
    fn public(self) -> &'static str {
        match self {
            S3ErrorCause::HtmlPage => "the response is a web page, not a response of S3",
            S3ErrorCause::NoBucket => "S3 has no such bucket",
            S3ErrorCause::NoVersion => "S3 has no such version of the object",
            S3ErrorCause::NoObject => "S3 has no such object",
            S3ErrorCause::WrongRegion => "the bucket is in another region",
            S3ErrorCause::ClockSkew => "the clock of this machine differs too much from that of S3",
            S3ErrorCause::ExpiredCredentials => "S3 rejected the credentials: they have expired",
            S3ErrorCause::InvalidCredentials => "S3 rejected the credentials",
            S3ErrorCause::Archived => "the object is archived",
            S3ErrorCause::Kms => "cannot use the KMS key of the object",
            S3ErrorCause::Denied => "access denied by S3",
            S3ErrorCause::Changed => "the object changed during the read",
            S3ErrorCause::Throttled => "S3 is throttling",
            S3ErrorCause::Unavailable => "S3 is throttling or unavailable",
            S3ErrorCause::RequestTimeout => "S3 did not receive the request in time",
            S3ErrorCause::InternalError => "internal error of S3",
            S3ErrorCause::InvalidRequest => "S3 rejected the request",
            S3ErrorCause::Unknown => "unknown response of S3",
        }
    }
}

impl S3ErrorResponse<'_> {
    /// Returns the error with its two messages.
    pub(super) fn into_error(self) -> SourceError {
        let kind = self.kind();
        let cause = self.cause();
        let (verb, uri) = (self.operation.verb(), self.uri);
        let (words, quote) = (self.describe(cause), self.quote());
        let message = format!("cannot {verb} {uri}: {words} ({quote})");
        kind(message).with_public_reason(format!("{} ({})", cause.public(), self.status))
    }

    /// Returns the constructor for the kind of error.
    fn kind(&self) -> fn(String) -> SourceError {
        let is_transient = match self.code.unwrap_or_default() {
            // The clock is corrected soon after a freeze.
            "RequestTimeTooSkewed" | "RequestTimeout" | "SlowDown" => true,
            code if is_transient_kms(code) => true,
            code if code.starts_with("KMS.") => false,
            _ => matches!(self.status, 429 | 500..),
        };
        match self.status {
            _ if is_transient => SourceError::transient,
            412 | 416 => SourceError::changed,
            _ => SourceError::permanent,
        }
    }

    fn cause(&self) -> S3ErrorCause {
        match (self.code.unwrap_or_default(), self.status) {
            _ if self.is_html() => S3ErrorCause::HtmlPage,
            ("NoSuchBucket", _) => S3ErrorCause::NoBucket,
            ("NoSuchVersion" | "MethodNotAllowed", _) | ("InvalidArgument" | "", 400 | 404)
                if self.operation == S3Operation::GetVersion =>
            {
                S3ErrorCause::NoVersion
            }
            ("NoSuchKey", _) | ("", 404) => S3ErrorCause::NoObject,
            ("PermanentRedirect" | "TemporaryRedirect", _) | (_, 301 | 307) => {
                S3ErrorCause::WrongRegion
            }
            ("AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _)
                if self.bucket_region_name().is_some() =>
            {
                S3ErrorCause::WrongRegion
            }
            ("RequestTimeTooSkewed", _) => S3ErrorCause::ClockSkew,
            ("ExpiredToken" | "TokenRefreshRequired", _) => S3ErrorCause::ExpiredCredentials,
            ("SignatureDoesNotMatch" | "InvalidAccessKeyId" | "InvalidToken", _) => {
                S3ErrorCause::InvalidCredentials
            }
            ("InvalidObjectState", _) => S3ErrorCause::Archived,
            (code, _) if code.starts_with("KMS.") => S3ErrorCause::Kms,
            (_, 403) => S3ErrorCause::Denied,
            (_, 412 | 416) => S3ErrorCause::Changed,
            ("SlowDown" | "TooManyRequests", _) | (_, 429) => S3ErrorCause::Throttled,
            (_, 503) => S3ErrorCause::Unavailable,
            ("RequestTimeout", _) => S3ErrorCause::RequestTimeout,
            (_, 500..) => S3ErrorCause::InternalError,
            (_, 400..) => S3ErrorCause::InvalidRequest,
            _ => S3ErrorCause::Unknown,
        }
    }

    /// Describes the cause and a remedy.
    fn describe(&self, cause: S3ErrorCause) -> String {
        let words = match cause {
            S3ErrorCause::HtmlPage => {
                "the response is a web page, not a response of S3: a proxy rejected the request, or \
                 AWS_ENDPOINT_URL is not an S3 endpoint"
            }
            S3ErrorCause::NoBucket => {
                return format!("there is no bucket {}; check its name", self.bucket);
            }
            S3ErrorCause::NoVersion => {
                let id = self.version.unwrap_or_default();
                return format!(
                    "there is no version {id} of the object; check the version id, and that no lifecycle rule has \
                     removed the version"
                );
            }
            S3ErrorCause::NoObject => {
                let key = self.key;
                return format!(
                    "there is no object {key} in the bucket; check the key and the upload"
                );
            }
            S3ErrorCause::WrongRegion => return self.describe_region(),
            S3ErrorCause::ClockSkew => {
                "the clock of this machine differs too much from that of S3, which rejects the signature: \
                 set the clock"
            }
            S3ErrorCause::ExpiredCredentials => {
                "S3 rejected the credentials: they have expired; provide new ones"
            }
            S3ErrorCause::InvalidCredentials => {
                "S3 rejected the credentials: access key, secret key and session token must belong \
                 together, and to the same AWS partition as the bucket"
            }
            S3ErrorCause::Archived => {
                "the object is archived: restore it, or copy it to a storage class with immediate access"
            }
            S3ErrorCause::Kms => describe_kms(self.code.unwrap_or_default()),
            S3ErrorCause::Denied => self.describe_denied(),
            S3ErrorCause::Changed => "the object has changed since the first request",
            S3ErrorCause::Throttled => {
                "S3 is throttling: too many requests for the bucket; retrying"
            }
            S3ErrorCause::Unavailable => "S3 is throttling or unavailable; retrying",
            S3ErrorCause::RequestTimeout => "S3 did not receive the request in time; retrying",
            S3ErrorCause::InternalError => "internal error of S3; retrying",
            S3ErrorCause::InvalidRequest => {
                "S3 rejected the request; check that the names of bucket and key are valid"
            }
            S3ErrorCause::Unknown => "unknown response of S3",
        };
        words.to_owned()
    }

    fn describe_denied(&self) -> &'static str {
        let message = self.message.unwrap_or_default().to_ascii_lowercase();
        let mentions = |words: [&str; 2]| words.iter().any(|word| message.contains(word));
        // An action, the ARN of a key, or the message of KMS for an unknown or hidden key.
        if mentions(["kms:", "customer master key"]) {
            "access to the KMS key of the object is denied: the function's role needs kms:Decrypt on \
             the key, and its policy must not deny it"
        } else if mentions(["requester pays", "requesterpays"]) {
            "the bucket is a Requester Pays bucket, which is not supported: copy the model to a \
             bucket of your own"
        } else {
            match self.operation {
                S3Operation::GetObject => {
                    "the object is missing, or access is denied: the function's role needs s3:GetObject on \
                     the object, and s3:ListBucket on the bucket to distinguish the two"
                }
                S3Operation::GetVersion => {
                    "the version is missing, or access is denied: the function's role needs \
                     s3:GetObjectVersion on the object, which s3:GetObject does not include"
                }
                S3Operation::ListObjects => {
                    "access is denied: the function's role needs s3:ListBucket on the bucket, for \
                     this prefix at least"
                }
                S3Operation::ListVersions => {
                    "access is denied: the function's role needs s3:ListBucketVersions on the bucket, for \
                     this prefix at least, and s3:GetObjectVersion on the object"
                }
            }
        }
    }

    fn describe_region(&self) -> String {
        let (bucket, region) = (self.bucket, self.region.unwrap_or("none"));
        let cause = match self.bucket_region_name() {
            Some(region) => format!("the bucket {bucket} is in {region}"),
            None => format!("the bucket {bucket} is in another region"),
        };
        format!(
            "{cause}, but AWS_REGION is {region}: use a bucket in the function's region; outside Lambda, set \
             AWS_REGION to the region of the bucket"
        )
    }

    /// Returns the region of the bucket, if the response contains it.
    fn bucket_region_name(&self) -> Option<&str> {
        let body = std::str::from_utf8(self.body).unwrap_or_default();
        let element = body
            .split_once("<Region>")
            .and_then(|(_, rest)| rest.split_once("</Region>"));
        let region = self.bucket_region.or(element.map(|(region, _)| region))?;
        let is_valid = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-';
        (region.len() <= 32 && region.bytes().all(is_valid)).then_some(region)
    }

    fn is_html(&self) -> bool {
        let start = self.body.trim_ascii_start();
        let begins = |word: &[u8]| {
            start
                .get(..word.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(word))
        };
        self.code.is_none()
            && (self
                .content_type
                .is_some_and(|value| value.starts_with("text/html"))
                || begins(b"<!doctype html")
                || begins(b"<html"))
    }

    /// Quotes the response.
    fn quote(&self) -> String {
        let part = |before: &str, text: Option<&str>| match text {
            Some(text) => format!("{before}{}", one_line(text)),
            None => String::new(),
        };
        format!(
            "status {}{}{}{}",
            self.status,
            part(" ", self.code),
            part(": ", self.message),
            part(", request ", self.request_id)
        )
    }
}

/// Returns `true` for an error of KMS that a retry may resolve.
fn is_transient_kms(code: &str) -> bool {
    let transient = [
        "Throttling",
        "Internal",
        "DependencyTimeout",
        "KeyUnavailable",
        "LimitExceeded",
    ];
    code.strip_prefix("KMS.")
        .is_some_and(|kms| transient.iter().any(|word| kms.contains(word)))
}

fn describe_kms(code: &str) -> &'static str {
    if is_transient_kms(code) {
        "KMS is temporarily unavailable for the key of the object; retrying"
    } else if code.contains("Disabled") {
        "the KMS key of the object is disabled: enable it, or encrypt the object with another key"
    } else if code.contains("NotFound") {
        "the KMS key of the object does not exist: encrypt the object with an existing key in the bucket's region"
    } else if code.contains("InvalidState") {
        "the KMS key of the object is in an invalid state, such as pending deletion: check the key in KMS"
    } else {
        "cannot use the KMS key of the object: check the key in KMS"
    }
}

/// Returns the text in one line, truncated to [`MAX_QUOTE_CHARS`].
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().take(MAX_QUOTE_CHARS).collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_QUOTE_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
