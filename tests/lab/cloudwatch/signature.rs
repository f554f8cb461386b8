//! Verification of `SigV4`: the canonical request is rebuilt from the received request and signed
//! with the lab's secret. Both signatures must be equal.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use bytes::Bytes;
use http::request::Parts;
use sha2::{Digest, Sha256};

use super::error::CloudWatchError;
use super::text;
use crate::credentials;

const SERVICE: &str = "monitoring";
/// Maximum difference between the sender's clock and the server's.
const CLOCK_SKEW: Duration = Duration::from_mins(15);

/// Fields of `Authorization: AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`.
struct Authorization<'a> {
    access_key: &'a str,
    /// `20261124/eu-central-1/monitoring/aws4_request`.
    scope: &'a str,
    region: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

pub(super) fn check(head: &Parts, body: &Bytes, now: SystemTime) -> Result<(), CloudWatchError> {
    let authorization = text(&head.headers, "authorization")
        .ok_or_else(|| unauthorized("MissingAuthenticationToken", "the request is not signed"))?;
    let authorization = Authorization::parse(authorization).ok_or_else(|| {
        unauthorized(
            "IncompleteSignature",
            "the Authorization header is not whole",
        )
    })?;
    let secret = credentials::secret_of(authorization.access_key).ok_or_else(|| {
        unauthorized(
            "InvalidClientTokenId",
            "the security token included in the request is invalid",
        )
    })?;
    let date = text(&head.headers, "x-amz-date").unwrap_or_default();
    let time = parse_date(date)
        .ok_or_else(|| unauthorized("IncompleteSignature", "no x-amz-date, or not a date"))?;
    let (earlier, later) = (time.min(now), time.max(now));
    if later.duration_since(earlier).unwrap_or_default() > CLOCK_SKEW {
        return Err(unauthorized("RequestExpired", "the request has expired"));
    }
    let request = canonical_request(head, body, authorization.signed_headers);
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{date}\n{}\n{}",
        authorization.scope,
        sha256(request.as_bytes())
    );
    let key = generate_signing_key(&secret, time, authorization.region, SERVICE);
    if calculate_signature(key, to_sign.as_bytes()) != authorization.signature {
        return Err(unauthorized(
            "SignatureDoesNotMatch",
            "the request signature we calculated does not match the signature you provided",
        ));
    }
    Ok(())
}

impl<'a> Authorization<'a> {
    fn parse(header: &'a str) -> Option<Self> {
        let rest = header.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let part = |name: &str| {
            rest.split(',')
                .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
        };
        let (access_key, scope) = part("Credential")?.split_once('/')?;
        let mut scope_parts = scope.split('/').skip(1);
        let region = scope_parts.next()?;
        (scope_parts.next()? == SERVICE).then_some(())?;
        Some(Self {
            access_key,
            scope,
            region,
            signed_headers: part("SignedHeaders")?,
            signature: part("Signature")?,
        })
    }
}

fn canonical_request(head: &Parts, body: &Bytes, signed_headers: &str) -> String {
    let mut headers = String::new();
    for name in signed_headers.split(';') {
        let values: Vec<_> = head
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(headers, "{name}:{}", values.join(","));
    }
    format!(
        "{}\n{}\n{}\n{headers}\n{signed_headers}\n{}",
        head.method,
        head.uri.path(),
        head.uri.query().unwrap_or_default(),
        sha256(body)
    )
}

/// `20261124T034500Z`.
fn parse_date(text: &str) -> Option<SystemTime> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if digits.len() != 14 || text.len() != 16 {
        return None;
    }
    let number = |from: usize, to: usize| digits[from..to].parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let seconds = number(8, 10)? * 3600 + number(10, 12)? * 60 + number(12, 14)?;
    let days = days_since_1970(year, month, day)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(days * 24 * 3600 + seconds))
}

/// Days of the Gregorian calendar in years that begin in March, so that a leap day ends its year.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month > 2 {
        year
    } else {
        year.checked_sub(1)?
    };
    let month = (month + 9) % 12;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    // 719468 of these days had passed at the beginning of 1970.
    days.checked_sub(719_468)
}

fn sha256(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn unauthorized(code: &str, message: &str) -> CloudWatchError {
    CloudWatchError::unauthorized(code, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds_since_1970() {
        let seconds = |text| {
            let time = parse_date(text)?;
            Some(
                time.duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap()
                    .as_secs(),
            )
        };
        assert_eq!(seconds("19700101T000000Z"), Some(0));
        assert_eq!(seconds("20000229T123456Z"), Some(951_827_696));
        assert_eq!(seconds("20261124T034530Z"), Some(1_795_491_930));
        assert_eq!(seconds("20261324T034530Z"), None);
        assert_eq!(seconds("2026-11-24"), None);
    }
}
