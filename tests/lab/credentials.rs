//! The only keys that the lab's S3 and `CloudWatch` accept. These are the example keys of AWS's
//! documentation, which are valid nowhere, and keys of sessions. The lab's platform issues the
//! latter under `SnapStart`.

/// Access key that the lab's servers accept.
pub const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";

/// Secret key of [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// Prefix of the access keys of sessions, as of AWS's temporary credentials.
const SESSION_PREFIX: &str = "ASIALAB";

/// Returns the access key of a session.
#[must_use]
pub fn session_key(session: u64) -> String {
    format!("{SESSION_PREFIX}{session:013}")
}

/// Returns the secret key of an access key; `None` for a key that the lab's servers reject.
#[must_use]
pub fn secret_of(access_key: &str) -> Option<String> {
    if access_key == ACCESS_KEY {
        return Some(SECRET_KEY.to_owned());
    }
    let session = access_key.strip_prefix(SESSION_PREFIX)?;
    let is_number = session.len() == 13 && session.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| format!("{SECRET_KEY}+{session}"))
}

/// Region for which requests are signed.
pub const REGION: &str = "eu-central-1";

/// Environment variables that make a process sign with the lab's keys.
#[must_use]
pub fn env() -> [(&'static str, &'static str); 3] {
    [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_REGION", REGION),
    ]
}
