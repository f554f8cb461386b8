//! The one pair of keys that the lab's S3 and `CloudWatch` accept: the well-known example of AWS's
//! documentation, worth nothing anywhere.

/// The access key that the lab's servers know.
pub const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";

/// The secret that belongs to [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// The region that requests are signed for.
pub const REGION: &str = "eu-central-1";

/// The environment variables by which a process signs as the lab expects.
#[must_use]
pub fn env() -> [(&'static str, &'static str); 3] {
    [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_REGION", REGION),
    ]
}
