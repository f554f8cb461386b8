//! HTTP client of the AWS SDK, with a policy for thaws.
//!
//! A connection from before a freeze is most likely dead, without any signal: written bytes vanish, and no response
//! arrives. Three rules avoid a timeout in that case.
//!
//! - A connection that was idle for more than [`IDLE`] of the wall clock is not used again: its pool is replaced. The
//!   same holds for a connection that is older than a thaw.
//! - A request that is in flight at a thaw is sent again, while its earlier attempts continue ([`in_flight`]). Every
//!   request may be sent twice: it is a GET, or delivers metrics at least once.
//! - A response body that is being read at a thaw continues only while bytes arrive ([`FreezeAwareBody`]).
//!
//! All pools share the TLS configuration, so that connections of a new pool resume sessions of earlier ones.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::connection::CaptureSmithyConnection;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use rustls::ClientConfig;

use super::CONNECT_TIMEOUT;
use super::body::FreezeAwareBody;
use super::connections::{self, Connections};
use super::in_flight;
use super::proxies::Proxies;
use super::pulse::Pulse;
use super::unreachable::Unreachable;
use crate::clock::{Clock, Thaws, Timestamp};

/// Maximum idle time of a connection. Requests of one version check or fetch follow each other immediately, and S3
/// closes an idle connection after a few seconds.
const IDLE: Duration = Duration::from_secs(3);

/// HTTP client for all services.
#[derive(Clone)]
pub(super) struct SdkHttpClient(Arc<ClientState>);

struct ClientState {
    tls: OnceLock<Arc<ClientConfig>>,
    proxies: Proxies,
    /// Current pool; `None` before the first request.
    pool: Mutex<Option<ConnectionPool>>,
    clock: Arc<dyn Clock>,
    thaws: Thaws,
}

impl SdkHttpClient {
    pub(super) fn new(clock: Arc<dyn Clock>, thaws: Thaws, proxies: Proxies) -> Self {
        Self(Arc::new(ClientState {
            tls: OnceLock::new(),
            proxies,
            pool: Mutex::default(),
            clock,
            thaws,
        }))
    }
}

impl ClientState {
    /// Returns the current pool, or a new one if the current one is stale.
    fn pool(&self) -> ConnectionPool {
        let (now, thaw) = (self.clock.now(), self.thaws.last());
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = pool.take_if(|pool| !pool.is_stale(now, thaw));
        let tls = || self.tls.get_or_init(connections::tls);
        let fresh = fresh.unwrap_or_else(|| ConnectionPool::new(tls(), &self.proxies, now, thaw));
        pool.insert(fresh).clone()
    }
}

impl fmt::Debug for SdkHttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SdkHttpClient").finish_non_exhaustive()
    }
}

impl HttpClient for SdkHttpClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector {
            shared: Arc::clone(&self.0),
            limit: settings.read_timeout(),
        })
    }
}

/// Pool of reusable connections.
#[derive(Clone)]
struct ConnectionPool {
    connections: Connections,
    /// Last activity of a connection, in milliseconds since the Unix epoch.
    used: Arc<AtomicU64>,
    /// Last thaw before the pool was created.
    thaw: Option<Timestamp>,
}

impl ConnectionPool {
    fn new(
        tls: &Arc<ClientConfig>,
        proxies: &Proxies,
        now: Timestamp,
        thaw: Option<Timestamp>,
    ) -> Self {
        Self {
            // The idle time also applies to single connections, which may idle while others are busy.
            connections: Connections::new(tls, proxies, CONNECT_TIMEOUT, IDLE),
            used: Arc::new(AtomicU64::new(now.0)),
            thaw,
        }
    }

    fn pulse(&self, shared: &ClientState) -> Pulse {
        let (clock, thaws) = (Arc::clone(&shared.clock), shared.thaws.clone());
        Pulse::new(Arc::clone(&self.used), clock, thaws)
    }

    fn is_stale(&self, now: Timestamp, thaw: Option<Timestamp>) -> bool {
        let used = Timestamp(self.used.load(Ordering::Relaxed));
        // A clock that was set back hides the idle time.
        thaw != self.thaw || now < used || now.since(used) >= IDLE
    }
}

/// Connector that the SDK calls for each request.
struct Connector {
    shared: Arc<ClientState>,
    /// Maximum time to the head of the response.
    limit: Option<Duration>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl HttpConnector for Connector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        // The SDK uses it to close a connection after an error. It holds the connection of the last attempt.
        let connection = request.extension::<CaptureSmithyConnection>().cloned();
        let connection = connection.unwrap_or_else(|| {
            let capture = CaptureSmithyConnection::new();
            request.add_extension(capture.clone());
            capture
        });
        let again = request.try_clone();
        let is_safe = matches!(request.method(), "GET" | "HEAD");
        let (shared, limit) = (Arc::clone(&self.shared), self.limit);
        let pulse = shared.pool().pulse(&shared);
        let mut first = Some(request);
        let attempt = move || {
            let request = match first.take() {
                Some(request) => request,
                None => {
                    let mut request = again.as_ref()?.try_clone()?;
                    request.add_extension(connection.clone());
                    request
                }
            };
            Some(shared.attempt(request, connection.clone(), limit))
        };
        HttpConnectorFuture::new(in_flight::send(attempt, is_safe, pulse))
    }
}

impl ClientState {
    /// Sends a request once, on a connection of the current pool.
    fn attempt(
        &self,
        request: HttpRequest,
        connection: CaptureSmithyConnection,
        limit: Option<Duration>,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, ConnectorError>> + Send>> {
        let pool = self.pool();
        let pulse = pool.pulse(self);
        let host = host(request.uri());
        pulse.beat();
        let response = pool.connections.send(request, limit);
        Box::pin(async move {
            let response = response.await.map_err(|error| match connection.get() {
                Some(_) => error,
                None => unreachable(host, error),
            })?;
            pulse.beat();
            Ok(response
                .map(|body| SdkBody::from_body_1_x(FreezeAwareBody::new(body, pulse.clone()))))
        })
    }
}

/// Returns the host, with the port if the URI has one.
fn host(uri: &str) -> String {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or_default().to_owned()
}

/// Wraps an error of a connection attempt in [`Unreachable`], and keeps its kind.
fn unreachable(host: String, error: ConnectorError) -> ConnectorError {
    let again: fn(_) -> ConnectorError = if error.is_timeout() {
        ConnectorError::timeout
    } else if error.is_io() {
        ConnectorError::io
    } else {
        return error;
    };
    let source = error.into_source();
    again(Box::new(Unreachable { host, source }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_reused_only_while_it_is_young_by_the_wall_clock() {
        let (start, thaw) = (Timestamp(50_000), Some(Timestamp(40_000)));
        let pool = ConnectionPool::new(&connections::tls(), &Proxies::default(), start, thaw);
        let after = |ms: u64| Timestamp(start.0 + ms);
        assert!(!pool.is_stale(start, thaw));
        assert!(!pool.is_stale(after(2_999), thaw));
        assert!(pool.is_stale(after(3_000), thaw));
        assert!(pool.is_stale(after(1), Some(start)), "there was a thaw");
        assert!(pool.is_stale(Timestamp(1), thaw), "the clock was set back");
        pool.used.store(after(2_999).0, Ordering::Relaxed);
        assert!(!pool.is_stale(after(5_000), thaw), "it was used since");
    }

    #[test]
    fn host_has_no_scheme_and_no_path() {
        assert_eq!(
            host("https://b.s3.amazonaws.com/key?x=1"),
            "b.s3.amazonaws.com"
        );
        assert_eq!(host("http://127.0.0.1:9000"), "127.0.0.1:9000");
    }
}
