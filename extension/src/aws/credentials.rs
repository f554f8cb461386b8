//! Credentials on Lambda: the SDK's standard chain without EC2 instance metadata.
//!
//! Credentials are in the environment or, under `SnapStart`, behind `AWS_CONTAINER_CREDENTIALS_FULL_URI`; a user's
//! own profile works as well. Lambda has no EC2 instance metadata, and a request for them would take seconds to fail.
//! The SDK caches credentials by the wall clock, so that credentials that expired in a snapshot or a freeze are
//! fetched again.

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::{
    EnvironmentVariableCredentialsProvider, EnvironmentVariableRegionProvider,
};
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::meta::region::ProvideRegion as _;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

use super::WallClock;

/// Builds the chain; no provider is called before credentials are needed.
pub(super) async fn on_lambda(http: SharedHttpClient, wall: WallClock) -> CredentialsProviderChain {
    let config = ProviderConfig::without_region()
        .with_http_client(http)
        .with_time_source(wall)
        .with_region(EnvironmentVariableRegionProvider::new().region().await);
    let profile = ProfileFileCredentialsProvider::builder().configure(&config);
    let web_identity = WebIdentityTokenCredentialsProvider::builder().configure(&config);
    let container = EcsCredentialsProvider::builder().configure(&config);
    let environment = EnvironmentVariableCredentialsProvider::new();
    CredentialsProviderChain::first_try("Environment", environment)
        .or_else("Profile", profile.build())
        .or_else("WebIdentityToken", web_identity.build())
        .or_else("Container", container.build())
        .or_else("None", Missing)
}

/// End of the chain: an error that names the cause.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "cannot find credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN hold none, nor does \
     AWS_CONTAINER_CREDENTIALS_FULL_URI name a source; check the execution role and wrapper scripts"
)]
struct Missing;

impl ProvideCredentials for Missing {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::invalid_configuration(*self)))
    }
}
