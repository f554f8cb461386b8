//! Clients of the lab's S3 servers: an SDK client, and a process's environment variables.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};

use crate::credentials::REGION;

/// A client that never retries.
pub(crate) fn new(url: &str, access_key: &str, secret_key: &str) -> Client {
    let credentials = Credentials::new(access_key, secret_key, None, None, "lab");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(crate::http::sdk_client())
        .credentials_provider(credentials)
        .region(Region::new(REGION))
        .retry_config(RetryConfig::disabled())
        .endpoint_url(url)
        .force_path_style(true)
        .build();
    Client::from_conf(config)
}

/// Environment variables that make a process use the server at `url`, with the lab's keys.
pub(crate) fn env(url: &str) -> Vec<(String, String)> {
    let keys = crate::credentials::env().map(|(name, value)| (name.into(), value.into()));
    let mut env = Vec::from(keys);
    env.push(("AWS_ENDPOINT_URL_S3".into(), url.into()));
    env
}
