//! Settings of the AWS clients: credentials, region, and the HTTP client that S3 and CloudWatch share.
//!
//! Requests survive a freeze of the execution environment ([`http`]). Connecting fails fast, and the error names the
//! likely cause ([`Unreachable`]). A VPC without an endpoint for the service drops packets silently, so a long wait
//! would only cost billed time.

mod body;
mod connections;
mod credentials;
mod http;
mod identity;
mod in_flight;
mod invocation_id;
mod proxies;
mod pulse;
mod unreachable;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_smithy_async::time::TimeSource;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use identity::ThawAwareCache;
pub use invocation_id::RandomIds;
use proxies::Proxies;
pub use unreachable::Unreachable;

use crate::clock::{Clock, Thaws};
use crate::config::{Config, Environment};

/// Maximum time to resolve a name and to open a connection with TLS, which takes a few milliseconds within a region.
/// A lost SYN is sent again after 1 s and after 3 s; the limit allows for one loss.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// Maximum time to the first byte of a response. S3 takes 10 to 200 ms.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Loads the settings for the clients of all services. They are the standard chains for credentials and region,
/// endpoints such as `AWS_ENDPOINT_URL`, the proxies of this environment, and retries.
pub async fn load(environment: &Environment, clock: &Arc<dyn Clock>, thaws: &Thaws) -> SdkConfig {
    let wall = WallClock(Arc::clone(clock));
    let proxies = Proxies::of(|name| environment.get(name));
    let client = http::SdkHttpClient::new(Arc::clone(clock), thaws.clone(), proxies);
    let http = SharedHttpClient::new(client);
    let mut settings = settings(http.clone(), wall.clone());
    if Config::is_snap_start(environment) {
        settings = settings.identity_cache(ThawAwareCache::new(thaws.clone()));
    }
    if environment.is_lambda() {
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
        // The protection would take a freeze of the execution environment for a stalled transfer.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
}

/// Returns settings for tests: as [`load`], with a fixed region and invalid credentials.
#[cfg(test)]
pub(crate) fn for_tests(clock: Arc<dyn Clock>, thaws: Thaws) -> ConfigLoader {
    let wall = WallClock(Arc::clone(&clock));
    let http = SharedHttpClient::new(http::SdkHttpClient::new(clock, thaws, Proxies::default()));
    let credentials =
        aws_credential_types::Credentials::new("AKIDTEST", "secret", None, None, "tests");
    settings(http, wall)
        .region(aws_config::Region::new("eu-central-1"))
        .credentials_provider(credentials)
}

/// Wall clock of the SDK, for signatures and for the expiry of credentials.
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
