//! Connections of the SDK: hyper with HTTP/1.1, the protocol of S3, and rustls.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::ErrorKind;
use hyper::Uri;
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{
    CaptureConnection, HttpConnector, HttpInfo, capture_connection,
};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use tower_service::Service;
use tracing::warn;

use super::proxies::{Proxies, ProxyConnector};
use crate::clock::within_awake;

/// Idle time before the first TCP keep-alive probe.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Time between keep-alive probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Number of unanswered probes after which a connection is dead.
const KEEPALIVE_RETRIES: u32 = 3;

/// Builds the TLS configuration. It is shared, so that later connections resume sessions of earlier ones.
pub(super) fn tls() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = || {
        ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("ring supports TLS 1.2 and 1.3")
    };
    let config = builder().with_native_roots().unwrap_or_else(|error| {
        warn!("cannot read the system's root certificates, so that no server is trusted: {error}");
        builder().with_root_certificates(RootCertStore::empty())
    });
    Arc::new(config.with_no_client_auth())
}

/// Reusable connections.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    client: legacy::Client<Limited<HttpsConnector<ProxyConnector>>, SdkBody>,
    proxies: Proxies,
}

impl Connections {
    /// Creates an empty pool. `connect` limits the time to open a connection in time awake; `idle` limits the time
    /// between two requests on a connection, by the monotonic clock.
    pub(super) fn new(
        tls: &Arc<ClientConfig>,
        proxies: &Proxies,
        connect: Duration,
        idle: Duration,
    ) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
        tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(ClientConfig::clone(tls))
            .https_or_http()
            .enable_http1()
            .wrap_connector(ProxyConnector::new(tcp, proxies.clone()));
        let connector = Limited {
            inner: connector,
            limit: connect,
        };
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(idle)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self {
            client,
            proxies: proxies.clone(),
        }
    }

    /// Sends a request, and waits for the head of the response for at most `limit` of time awake. Fills the request's
    /// [`CaptureSmithyConnection`].
    pub(super) fn send(
        &self,
        request: HttpRequest,
        limit: Option<Duration>,
    ) -> impl Future<Output = Result<HttpResponse, ConnectorError>> + Send + 'static {
        let sending = request.try_into_http1x().map(|mut request| {
            if let Some(authorization) = self.proxies.authorization(request.uri()) {
                let headers = request.headers_mut();
                headers.insert(http::header::PROXY_AUTHORIZATION, authorization);
            }
            let connection = capture_connection(&mut request);
            if let Some(capture) = request.extensions().get::<CaptureSmithyConnection>() {
                capture.set_connection_retriever(move || metadata(&connection));
            }
            self.client.request(request)
        });
        async move {
            let sending = sending.map_err(|error| ConnectorError::user(error.into()))?;
            let received = match limit {
                Some(limit) => within_awake(limit, sending)
                    .await
                    .ok_or_else(|| ConnectorError::timeout(Box::new(ReadTimeout(limit))))?,
                None => sending.await,
            };
            let response = received.map_err(|error| classified(error.into()))?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        }
    }
}

/// Describes a connection to the SDK; `None` before it is open.
fn metadata(connection: &CaptureConnection) -> Option<ConnectionMetadata> {
    let mut extras = http::Extensions::new();
    connection
        .connection_metadata()
        .as_ref()?
        .get_extras(&mut extras);
    let addresses = extras.get::<HttpInfo>();
    let connection = connection.clone();
    let mut builder = ConnectionMetadata::builder()
        .proxied(false)
        .poison_fn(move || {
            if let Some(connection) = connection.connection_metadata().as_ref() {
                connection.poison();
            }
        });
    builder
        .set_local_addr(addresses.map(HttpInfo::local_addr))
        .set_remote_addr(addresses.map(HttpInfo::remote_addr));
    Some(builder.build())
}

/// Error of a request without a response.
#[derive(Debug, thiserror::Error)]
#[error("read timeout: no response within {} ms", .0.as_millis())]
struct ReadTimeout(Duration);

/// Error of a connection that could not be opened in time.
#[derive(Debug, thiserror::Error)]
#[error("connect timeout: no connection within {} ms", .0.as_millis())]
struct ConnectTimeout(Duration);

/// Classifies an error for the SDK, which decides by the class whether to retry.
fn classified(error: BoxError) -> ConnectorError {
    if source::<ConnectTimeout>(&*error).is_some() {
        return ConnectorError::timeout(error);
    }
    if let Some(cause) = source::<hyper::Error>(&*error) {
        if cause.is_user() {
            return ConnectorError::user(error);
        }
        if cause.is_incomplete_message() {
            return ConnectorError::other(error, Some(ErrorKind::TransientError));
        }
        if cause.is_closed() || cause.is_canceled() {
            return ConnectorError::io(error);
        }
    }
    let is_connect = source::<legacy::Error>(&*error).is_some_and(legacy::Error::is_connect);
    if is_connect || source::<std::io::Error>(&*error).is_some() {
        return ConnectorError::io(error);
    }
    ConnectorError::other(error, None)
}

/// Returns the first error of this type among an error and its sources.
fn source<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    std::iter::successors(Some(error), |&error| error.source())
        .find_map(|error| error.downcast_ref())
}

/// Connector with a limit on the time for name resolution, TCP and TLS.
#[derive(Clone, Debug)]
struct Limited<C> {
    inner: C,
    limit: Duration,
}

impl<C> Service<Uri> for Limited<C>
where
    C: Service<Uri, Error = BoxError>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, limit) = (self.inner.call(to), self.limit);
        Box::pin(async move {
            match within_awake(limit, connecting).await {
                Some(connected) => connected,
                None => Err(ConnectTimeout(limit).into()),
            }
        })
    }
}
