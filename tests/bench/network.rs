//! The network that the benches measure on: a link as a function has one, in TLS.

use std::time::Duration;

use anyhow::Result;
use aws_sdk_s3::config::ResponseChecksumValidation;
use aws_sdk_s3::presigning::PresigningConfig;
use lab::link::Link;
use lab::s3::S3Server;

/// What Lambda gives an environment: 625 Mbit/s, in bytes a second.
pub(crate) const LINK_BYTES: u64 = 625_000_000 / 8;
/// In each direction: 30 ms there and back.
pub(crate) const LATENCY: Duration = Duration::from_millis(15);
/// Longer than any bench.
const SIGNED_FOR: Duration = Duration::from_secs(3_600);
/// Where systems keep the authorities that they trust.
const SYSTEM: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

/// The root of a server's URLs at the near end of a link to it.
pub(crate) fn url_of(link: &Link, s3: &S3Server) -> String {
    match s3.authority() {
        Some(_) => link.url().replace("http://", "https://"),
        None => link.url(),
    }
}

/// What a client is to trust: the server's authority, among all those that this system trusts, since reading them is
/// a part of every start.
pub(crate) fn authorities(s3: &S3Server) -> String {
    let mut all = SYSTEM
        .iter()
        .find_map(|file| std::fs::read_to_string(file).ok())
        .unwrap_or_default();
    all.push('\n');
    all.push_str(s3.authority().unwrap_or_default());
    all
}

/// An object's address at `url`, signed for whoever has no keys.
pub(crate) async fn signed(s3: &S3Server, url: &str, bucket: &str, key: &str) -> Result<String> {
    let config = s3.client().config().to_builder().endpoint_url(url);
    // Asked for in a header, a checksum would have to be signed, and sent.
    let config = config.response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    let get = aws_sdk_s3::Client::from_conf(config.build()).get_object();
    let signed = get.bucket(bucket).key(key);
    let signed = signed.presigned(PresigningConfig::expires_in(SIGNED_FOR)?);
    Ok(signed.await?.uri().to_owned())
}
