//! Conditional requests, in the order of RFC 9110: `If-Match` overrides `If-Unmodified-Since`,
//! `If-None-Match` overrides `If-Modified-Since`.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, header};
use s3s::dto::{ETagCondition, Timestamp};
use s3s::{S3Error, S3ErrorCode, S3Result};

use super::store::Object;

#[expect(
    clippy::struct_field_names,
    reason = "these are the names of the headers"
)]
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
    pub(super) if_modified_since: Option<Timestamp>,
    pub(super) if_unmodified_since: Option<Timestamp>,
}

impl Conditions {
    /// For GET and HEAD: 304 if the object is not modified, 412 if another object is required.
    pub(super) fn check(&self, object: &Object) -> S3Result<()> {
        let modified = Timestamp::from(whole_seconds(object.modified));
        let as_wanted = match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) => matches(condition, &object.etag),
            (None, Some(since)) => modified <= *since,
            (None, None) => true,
        };
        if !as_wanted {
            return Err(S3ErrorCode::PreconditionFailed.into());
        }
        let is_known = match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) => matches(condition, &object.etag),
            (None, Some(since)) => modified <= *since,
            (None, None) => false,
        };
        if is_known {
            return Err(not_modified(object));
        }
        Ok(())
    }

    /// For uploads: 501 for a condition that S3 does not support. `If-None-Match` must be `*` and
    /// alone.
    pub(super) fn check_supported(&self) -> S3Result<()> {
        let other = matches!(&self.if_none_match, Some(ETagCondition::ETag(_)));
        let both = self.if_match.is_some() && self.if_none_match.is_some();
        if other || both {
            return Err(S3ErrorCode::NotImplemented.into());
        }
        Ok(())
    }

    /// For uploads: 412 unless the current object meets the condition, 404 if an object is required and
    /// there is none.
    pub(super) fn check_upload(&self, current: Option<&Object>) -> S3Result<()> {
        if let Some(condition) = &self.if_match {
            let current = current.ok_or(S3ErrorCode::NoSuchKey)?;
            if !matches(condition, &current.etag) {
                return Err(S3ErrorCode::PreconditionFailed.into());
            }
        }
        if let Some(condition) = &self.if_none_match
            && current.is_some_and(|current| matches(condition, &current.etag))
        {
            return Err(S3ErrorCode::PreconditionFailed.into());
        }
        Ok(())
    }
}

fn matches(condition: &ETagCondition, etag: &str) -> bool {
    match condition {
        ETagCondition::Any => true,
        ETagCondition::ETag(wanted) => wanted.value() == etag,
    }
}

/// Dates in headers have no fractions.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.unwrap_or_default().as_secs())
}

fn not_modified(object: &Object) -> S3Error {
    let mut headers = HeaderMap::new();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", object.etag)) {
        headers.insert(header::ETAG, etag);
    }
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    error.set_headers(headers);
    error
}
