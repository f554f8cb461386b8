//! The only keys that the lab's S3 and `CloudWatch` accept: the example keys of AWS's
//! documentation, which are valid nowhere.

/// Access key that the lab's servers accept.
pub const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";

/// Secret key of [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

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
