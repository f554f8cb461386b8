//! Parts that the commands of one process share: the S3 client and ONNX Runtime.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, bail};
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};
use model_sidecar::engine::OnnxRuntime;
use tokio::sync::OnceCell;

use crate::library;

/// Shared parts, each created when it is first needed.
#[derive(Default)]
pub struct Context {
    aws: OnceCell<SdkConfig>,
    s3: OnceCell<aws_sdk_s3::Client>,
    /// ONNX Runtime, which can be opened once in a process, and the path of its library.
    engine: OnceLock<(PathBuf, OnnxRuntime)>,
    /// `true` for commands without output.
    pub(crate) is_silent: bool,
}

impl Context {
    /// Takes the AWS configuration from the environment and the profile, as every AWS SDK does.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::default()
    }

    /// Uses this client for S3, and prints nothing.
    #[must_use]
    pub fn silent(client: aws_sdk_s3::Client) -> Self {
        Self {
            s3: OnceCell::new_with(Some(client)),
            is_silent: true,
            ..Self::default()
        }
    }

    /// Returns the AWS configuration. Requests go through the proxies of the environment.
    pub(crate) async fn aws(&self) -> &SdkConfig {
        self.aws
            .get_or_init(|| async {
                let http = aws_smithy_http_client::Builder::new().build_with_connector_fn(
                    |settings, components| {
                        let mut connector =
                            Connector::builder().proxy_config(ProxyConfig::from_env());
                        connector.set_connector_settings(settings.cloned());
                        if let Some(components) = components {
                            connector.set_sleep_impl(components.sleep_impl());
                        }
                        let tls = tls::Provider::Rustls(CryptoMode::Ring);
                        connector.tls_provider(tls).build()
                    },
                );
                aws_config::defaults(BehaviorVersion::v2026_01_12())
                    .http_client(http)
                    .load()
                    .await
            })
            .await
    }

    /// Returns the S3 client. A custom endpoint uses path-style requests, as in the sidecar.
    pub(crate) async fn s3(&self) -> &aws_sdk_s3::Client {
        self.s3
            .get_or_init(|| async {
                let custom = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
                    .iter()
                    .any(|name| env::var_os(name).is_some_and(|url| !url.is_empty()));
                let config = aws_sdk_s3::config::Builder::from(self.aws().await)
                    .force_path_style(custom)
                    .build();
                aws_sdk_s3::Client::from_conf(config)
            })
            .await
    }

    /// Opens ONNX Runtime at this path, or returns the one that is open.
    pub(crate) fn engine(&self, path: &Path) -> anyhow::Result<&OnnxRuntime> {
        if self.engine.get().is_none() {
            let engine = library::open(path)?;
            let _ = self.engine.set((path.to_owned(), engine));
        }
        let (open, engine) = self.engine.get().context("cannot open ONNX Runtime")?;
        if open != path {
            bail!(
                "cannot open ONNX Runtime at {}: {} is open, and a process has one",
                path.display(),
                open.display()
            );
        }
        Ok(engine)
    }
}
