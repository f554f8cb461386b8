//! Credentials, region, and the one HTTP client that S3 and CloudWatch share.
//!
//! Connecting fails fast: in a VPC without an endpoint for the service, packets are dropped without a word, and
//! a long wait would cost the caller billed time and tell nobody why.

use std::time::Duration;

use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

/// Within a region a TCP connection takes a millisecond or two; after this there is no route.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// To the first byte of an answer. S3 takes 10 to 200 ms.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings from which clients of single services are made: the standard chains for credentials and
/// region, `AWS_ENDPOINT_URL` and its like, retries of what is worth retrying.
pub async fn load() -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https();
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(3)
                .with_initial_backoff(Duration::from_millis(100)),
        )
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .read_timeout(READ_TIMEOUT)
                .build(),
        )
        // It would read a freeze of the execution environment as a stalled transfer.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .load()
        .await
}
