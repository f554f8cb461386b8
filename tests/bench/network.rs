//! Network of the benches: a link like a function's, with TLS.

use std::time::Duration;

use anyhow::Result;
use aws_sdk_s3::config::ResponseChecksumValidation;
use aws_sdk_s3::presigning::PresigningConfig;
use lab::s3::S3Server;

/// Longer than any bench.
const SIGNED_FOR: Duration = Duration::from_secs(3_600);
/// Paths of the system's trusted authorities.
const SYSTEM: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

/// Authorities for clients: the server's, appended to the system's, since reading those is a part
/// of every start.
pub(crate) fn authorities(s3: &S3Server) -> String {
    let mut all = SYSTEM
        .iter()
        .find_map(|file| std::fs::read_to_string(file).ok())
        .unwrap_or_default();
    all.push('\n');
    all.push_str(s3.authority().unwrap_or_default());
    all
}

/// Presigned URL of an object at `url`, for clients without keys.
pub(crate) async fn signed(s3: &S3Server, url: &str, bucket: &str, key: &str) -> Result<String> {
    let config = s3.client().config().to_builder().endpoint_url(url);
    // A checksum requested by a header would have to be signed and sent.
    let config = config.response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    let get = aws_sdk_s3::Client::from_conf(config.build()).get_object();
    let signed = get.bucket(bucket).key(key);
    let signed = signed.presigned(PresigningConfig::expires_in(SIGNED_FOR)?);
    Ok(signed.await?.uri().to_owned())
}
