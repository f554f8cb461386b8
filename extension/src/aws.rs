//! Credentials, region, and the one HTTP client that S3 and CloudWatch share.
//!
//! What waits here waits right across a freeze ([`http`]). Connecting fails fast, and says what is likely
//! missing ([`Unreachable`]): in a VPC without an endpoint for the service, packets are dropped without a word,
//! and a long wait would cost the caller billed time and tell nobody why.

mod body;
mod connections;
mod credentials;
mod http;
mod in_flight;
mod proxies;
mod unreachable;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

pub use proxies::Proxies;
pub use unreachable::Unreachable;

use crate::clock::{Clock, Thaws};

/// Within a region a name, a TCP connection and TLS on it take a few milliseconds. A SYN that got lost is sent
/// again after 1 s, and once more after 3: this allows for one, and waits for no more.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// To the first byte of an answer. S3 takes 10 to 200 ms.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The settings from which clients of single services are made: the standard chains for credentials and
/// region, `AWS_ENDPOINT_URL` and its like, retries of what is worth retrying.
pub async fn load(
    clock: Arc<dyn Clock>,
    thaws: Thaws,
    proxies: Proxies,
    on_lambda: bool,
) -> SdkConfig {
    let wall = WallClock(Arc::clone(&clock));
    let http = SharedHttpClient::new(http::Client::new(clock, thaws, proxies));
    let mut settings = settings(http.clone(), wall.clone());
    if on_lambda {
        let credentials = credentials::on_lambda(http, wall).await;
        settings = settings.credentials_provider(credentials);
    }
    settings.load().await
}

fn settings(http: SharedHttpClient, wall: WallClock) -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .time_source(wall)
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
}

/// For tests: the same, but for region and credentials, which are no one's.
#[cfg(test)]
pub(crate) fn for_tests(clock: Arc<dyn Clock>, thaws: Thaws) -> ConfigLoader {
    let wall = WallClock(Arc::clone(&clock));
    let http = SharedHttpClient::new(http::Client::new(clock, thaws, Proxies::default()));
    let credentials =
        aws_credential_types::Credentials::new("AKIDTEST", "secret", None, None, "tests");
    settings(http, wall)
        .region(aws_config::Region::new("eu-central-1"))
        .credentials_provider(credentials)
}

/// The wall clock as the SDK asks it: for signatures, and for whether credentials have expired.
#[derive(Clone)]
struct WallClock(Arc<dyn Clock>);

impl std::fmt::Debug for WallClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WallClock").field(&self.0.now()).finish()
    }
}

impl TimeSource for WallClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.0.now().0)
    }
}
