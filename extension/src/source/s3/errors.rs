//! What S3 refused, in words for whoever has to do something about it: the place, what is wrong, and what helps.
//!
//! What S3 says of itself comes with it, cut to a length, since all of an answer is somebody else's text. An answer
//! that is a web page is not S3's: a proxy gave it, and nothing it says is of the object.
//!
//! All of that is for the log. Callers from outside are told the meaning and the status alone, since the words name
//! buckets, keys, accounts and roles.

use crate::source::SourceError;

/// How much of S3's own message is passed on, in characters.
const MAX_SAID: usize = 400;

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The bytes of an object.
    Object,
    /// The bytes of one version of an object.
    Version,
    /// The names below a prefix.
    Listing,
    /// The versions of an object.
    Versions,
}

/// An answer that is a refusal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal<'a> {
    pub(super) asked: Asked,
    pub(super) uri: &'a str,
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    /// The id of the version, where one was asked for.
    pub(super) version: Option<&'a str>,
    /// The region that the request was signed for.
    pub(super) region: Option<&'a str>,
    pub(super) status: u16,
    /// The code and the message in its body.
    pub(super) code: Option<&'a str>,
    pub(super) message: Option<&'a str>,
    /// Its headers `x-amz-bucket-region`, `x-amz-request-id` and `content-type`.
    pub(super) bucket_region: Option<&'a str>,
    pub(super) request_id: Option<&'a str>,
    pub(super) content_type: Option<&'a str>,
    pub(super) body: &'a [u8],
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Page,
    NoBucket,
    NoVersion,
    NoObject,
    Region,
    Clock,
    Expired,
    Credentials,
    Archived,
    Kms,
    Denied,
    Changed,
    Throttled,
    Unavailable,
    Late,
    Failed,
    Refused,
    Nothing,
}

impl Meaning {
    /// The meaning for callers from outside: without names, and without the words that S3 sent.
    fn public(self) -> &'static str {
        match self {
            Meaning::Page => "a web page came instead of an answer of S3",
            Meaning::NoBucket => "S3 has no such bucket",
            Meaning::NoVersion => "S3 has no such version of the object",
            Meaning::NoObject => "S3 has no such object",
            Meaning::Region => "the bucket is in another region",
            Meaning::Clock => "this machine's clock is too far from that of S3",
            Meaning::Expired => "S3 refused the credentials, which have expired",
            Meaning::Credentials => "S3 refused the credentials",
            Meaning::Archived => "the object is archived",
            Meaning::Kms => "the KMS key of the object cannot be used",
            Meaning::Denied => "access denied by S3",
            Meaning::Changed => "the object changed while it was read",
            Meaning::Throttled => "S3 is throttling",
            Meaning::Unavailable => "S3 is throttling or unavailable",
            Meaning::Late => "S3 did not get the request in time",
            Meaning::Failed => "S3 failed",
            Meaning::Refused => "S3 refused the request",
            Meaning::Nothing => "S3 gave an answer that cannot be read",
        }
    }
}

impl Refusal<'_> {
    pub(super) fn explain(&self) -> SourceError {
        let kind = self.kind();
        let meaning = self.meaning();
        let message = format!("{}: {} ({})", self.uri, self.words(meaning), self.said());
        kind(message).with_public_reason(format!("{} ({})", meaning.public(), self.status))
    }

    /// Whether it stays until somebody does something.
    fn kind(&self) -> fn(String) -> SourceError {
        let passing = match self.code.unwrap_or_default() {
            // The clock of an environment that was frozen is set soon after.
            "RequestTimeTooSkewed" | "RequestTimeout" | "SlowDown" => true,
            code if is_passing_kms(code) => true,
            code if code.starts_with("KMS.") => false,
            _ => matches!(self.status, 429 | 500..),
        };
        match self.status {
            _ if passing => SourceError::transient,
            412 | 416 => SourceError::changed,
            _ => SourceError::permanent,
        }
    }

    fn meaning(&self) -> Meaning {
        match (self.code.unwrap_or_default(), self.status) {
            _ if self.is_a_page() => Meaning::Page,
            ("NoSuchBucket", _) => Meaning::NoBucket,
            ("NoSuchVersion" | "MethodNotAllowed", _) | ("InvalidArgument" | "", 400 | 404)
                if self.asked == Asked::Version =>
            {
                Meaning::NoVersion
            }
            ("NoSuchKey", _) | ("", 404) => Meaning::NoObject,
            ("PermanentRedirect" | "TemporaryRedirect", _) | (_, 301 | 307) => Meaning::Region,
            ("AuthorizationHeaderMalformed" | "IllegalLocationConstraintException", _)
                if self.its_region().is_some() =>
            {
                Meaning::Region
            }
            ("RequestTimeTooSkewed", _) => Meaning::Clock,
            ("ExpiredToken" | "TokenRefreshRequired", _) => Meaning::Expired,
            ("SignatureDoesNotMatch" | "InvalidAccessKeyId" | "InvalidToken", _) => {
                Meaning::Credentials
            }
            ("InvalidObjectState", _) => Meaning::Archived,
            (code, _) if code.starts_with("KMS.") => Meaning::Kms,
            (_, 403) => Meaning::Denied,
            (_, 412 | 416) => Meaning::Changed,
            ("SlowDown" | "TooManyRequests", _) | (_, 429) => Meaning::Throttled,
            (_, 503) => Meaning::Unavailable,
            ("RequestTimeout", _) => Meaning::Late,
            (_, 500..) => Meaning::Failed,
            (_, 400..) => Meaning::Refused,
            _ => Meaning::Nothing,
        }
    }

    /// What is wrong, and what to do.
    fn words(&self, meaning: Meaning) -> String {
        let words = match meaning {
            Meaning::Page => {
                "a web page came instead of S3's answer: a proxy on the way refused it, or \
                 AWS_ENDPOINT_URL names something else"
            }
            Meaning::NoBucket => {
                return format!("there is no bucket {}: is its name right?", self.bucket);
            }
            Meaning::NoVersion => {
                let id = self.version.unwrap_or_default();
                return format!(
                    "there is no version {id} of the object that can be read: is its id right, and was the version \
                     not removed, by a lifecycle rule perhaps?"
                );
            }
            Meaning::NoObject => {
                let key = self.key;
                return format!("there is no object {key} in the bucket: was it uploaded?");
            }
            Meaning::Region => return self.region_words(),
            Meaning::Clock => {
                "this machine's clock is too far from S3's, which takes no signature of another \
                 time: set the clock"
            }
            Meaning::Expired => {
                "S3 refused the credentials: they have expired; give the process new ones"
            }
            Meaning::Credentials => {
                "S3 refused the credentials: access key, secret and session token must belong \
                 together, and to the same partition of AWS as the bucket"
            }
            Meaning::Archived => {
                "the object is archived: restore it, or copy it to a storage class that is read \
                 at once"
            }
            Meaning::Kms => kms_words(self.code.unwrap_or_default()),
            Meaning::Denied => self.denied_words(),
            Meaning::Changed => "the object has changed since it was first asked for",
            Meaning::Throttled => {
                "S3 is throttling: too many requests at once for the bucket; it is asked again"
            }
            Meaning::Unavailable => "S3 is throttling or unavailable; it is asked again",
            Meaning::Late => "S3 did not get the request in time; it is asked again",
            Meaning::Failed => "S3 failed by itself; it is asked again",
            Meaning::Refused => {
                "S3 refused the request: do the bucket's and the key's name keep to S3's rules?"
            }
            Meaning::Nothing => "S3 gave an answer that means nothing here",
        };
        words.to_owned()
    }

    fn denied_words(&self) -> &'static str {
        let message = self.message.unwrap_or_default().to_ascii_lowercase();
        let speaks_of = |words: [&str; 2]| words.iter().any(|word| message.contains(word));
        // Of an action or a key's ARN; or as KMS itself says that it knows no such key, or may not show it.
        if speaks_of(["kms:", "customer master key"]) {
            "the object is encrypted with a KMS key that may not be used: the function's role \
             needs kms:Decrypt on that key, and the key's own policy must not forbid it (that of \
             another account's key must allow it)"
        } else if speaks_of(["requester pays", "requesterpays"]) {
            "whoever reads from the bucket pays for it, which the sidecar does not offer to do: \
             copy the model to a bucket of your own"
        } else {
            match self.asked {
                Asked::Object => {
                    "missing, or access is denied: the function's role needs s3:GetObject on it (and \
                     s3:ListBucket on the bucket, for S3 to tell which of the two it is)"
                }
                Asked::Version => {
                    "missing, or access is denied: the function's role needs s3:GetObjectVersion on \
                     it, which s3:GetObject does not include"
                }
                Asked::Listing => {
                    "access is denied: the function's role needs s3:ListBucket on the bucket, for \
                     this prefix at least"
                }
                Asked::Versions => {
                    "which versions there were before is not told: the function's role needs \
                     s3:ListBucketVersions on the bucket, for this prefix at least, and \
                     s3:GetObjectVersion on the object"
                }
            }
        }
    }

    fn region_words(&self) -> String {
        let (bucket, region) = (self.bucket, self.region.unwrap_or("none"));
        let is_where = match self.its_region() {
            Some(its) => format!("the bucket {bucket} is in {its}"),
            None => format!("the bucket {bucket} is in another region"),
        };
        format!(
            "{is_where}, and AWS_REGION is {region}: use a bucket in the function's region (outside Lambda, which \
             sets it, AWS_REGION may be set to the bucket's)"
        )
    }

    /// The bucket's region, where the answer names it.
    fn its_region(&self) -> Option<&str> {
        let body = std::str::from_utf8(self.body).unwrap_or_default();
        let element = body
            .split_once("<Region>")
            .and_then(|(_, rest)| rest.split_once("</Region>"));
        let region = self.bucket_region.or(element.map(|(region, _)| region))?;
        let is_one = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-';
        (region.len() <= 32 && region.bytes().all(is_one)).then_some(region)
    }

    fn is_a_page(&self) -> bool {
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

    /// The answer's own words.
    fn said(&self) -> String {
        let part = |before: &str, text: Option<&str>| match text {
            Some(text) => format!("{before}{}", tidy(text)),
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

/// Failures of KMS that pass by themselves.
fn is_passing_kms(code: &str) -> bool {
    let passing = [
        "Throttling",
        "Internal",
        "DependencyTimeout",
        "KeyUnavailable",
        "LimitExceeded",
    ];
    code.strip_prefix("KMS.")
        .is_some_and(|kms| passing.iter().any(|word| kms.contains(word)))
}

fn kms_words(code: &str) -> &'static str {
    if is_passing_kms(code) {
        "the KMS key of the object could not be used just now; it is asked again"
    } else if code.contains("Disabled") {
        "the KMS key of the object is disabled: enable it, or encrypt the object with another"
    } else if code.contains("NotFound") {
        "the KMS key of the object is not there: encrypt it with one that is, in the bucket's region"
    } else if code.contains("InvalidState") {
        "the KMS key of the object is in a state in which it cannot be used, such as that before it \
         is deleted: look at it in KMS"
    } else {
        "the KMS key of the object cannot be used: look at it in KMS"
    }
}

/// In one line, and not longer than [`MAX_SAID`].
fn tidy(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().take(MAX_SAID).collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_SAID) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
