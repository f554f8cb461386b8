//! The HTTP client, and its policy after a thaw.
//!
//! A connection that was open before a freeze is most likely dead, and nothing says so: what is written to it
//! vanishes, and the answer is waited for in vain. Three rules keep that from costing anyone a timeout.
//!
//! - A connection that was idle for more than [`IDLE`] of the wall clock, or since before a thaw, is not used
//!   again: the pool that holds it is dropped, and another takes its place.
//! - A request in flight when a thaw is noted is sent once more, while its earlier attempts go on ([`in_flight`]).
//!   Every request here may be sent twice: a GET, or metrics, which are delivered at least once.
//! - An answer whose body is being read then goes on only if bytes keep coming ([`Body`]).
//!
//! What is built for TLS is shared by all pools: the first connection of a new one resumes the session of an earlier.

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
use super::body::Body;
use super::connections::{self, Connections};
use super::in_flight;
use super::proxies::Proxies;
use super::unreachable::Unreachable;
use crate::clock::{Clock, Thaws, Timestamp};

/// Long enough for the requests of one check or fetch, which follow each other at once; S3 closes an idle
/// connection after a few seconds itself.
const IDLE: Duration = Duration::from_secs(3);

/// A request or a body that was in flight when the process was frozen.
#[derive(Debug, thiserror::Error)]
#[error("the execution environment was frozen meanwhile")]
pub(super) struct Frozen;

/// One client for all services.
#[derive(Clone)]
pub(super) struct Client(Arc<Shared>);

struct Shared {
    tls: OnceLock<Arc<ClientConfig>>,
    proxies: Proxies,
    /// The present one; none before the first request.
    pool: Mutex<Option<Pool>>,
    clock: Arc<dyn Clock>,
    thaws: Thaws,
}

impl Client {
    pub(super) fn new(clock: Arc<dyn Clock>, thaws: Thaws, proxies: Proxies) -> Self {
        Self(Arc::new(Shared {
            tls: OnceLock::new(),
            proxies,
            pool: Mutex::default(),
            clock,
            thaws,
        }))
    }
}

impl Shared {
    /// The present pool, or a new one when that is too old.
    fn pool(&self) -> Pool {
        let (now, thaw) = (self.clock.now(), self.thaws.last());
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = pool.take_if(|pool| !pool.is_stale(now, thaw));
        let tls = || self.tls.get_or_init(connections::tls);
        let fresh = fresh.unwrap_or_else(|| Pool::new(tls(), &self.proxies, now, thaw));
        pool.insert(fresh).clone()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl HttpClient for Client {
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

/// Connections that may be used again.
#[derive(Clone)]
struct Pool {
    connections: Connections,
    /// When one of them was last seen alive, in milliseconds since the Unix epoch.
    used: Arc<AtomicU64>,
    /// The last thaw before it was made.
    thaw: Option<Timestamp>,
}

impl Pool {
    fn new(
        tls: &Arc<ClientConfig>,
        proxies: &Proxies,
        now: Timestamp,
        thaw: Option<Timestamp>,
    ) -> Self {
        Self {
            // It looks at the idle time too, for one of several that is left over while others are busy.
            connections: Connections::new(tls, proxies, CONNECT_TIMEOUT, IDLE),
            used: Arc::new(AtomicU64::new(now.0)),
            thaw,
        }
    }

    fn pulse(&self, shared: &Shared) -> Pulse {
        Pulse {
            used: Arc::clone(&self.used),
            clock: Arc::clone(&shared.clock),
            thaws: shared.thaws.clone(),
        }
    }

    fn is_stale(&self, now: Timestamp, thaw: Option<Timestamp>) -> bool {
        let used = Timestamp(self.used.load(Ordering::Relaxed));
        // A clock that was set back says nothing of how long it was.
        thaw != self.thaw || now < used || now.since(used) >= IDLE
    }
}

/// What tells whether a connection is alive; notes for its pool when it was.
#[derive(Clone)]
pub(super) struct Pulse {
    used: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
    thaws: Thaws,
}

impl Pulse {
    /// Of a connection that belongs to no pool.
    #[cfg(test)]
    pub(super) fn new(clock: Arc<dyn Clock>, thaws: Thaws) -> Self {
        Self {
            used: Arc::default(),
            clock,
            thaws,
        }
    }

    /// Notes that the connection is in use or has brought something; gives the time.
    pub(super) fn beat(&self) -> Timestamp {
        let now = self.clock.now();
        self.used.store(now.0, Ordering::Relaxed);
        now
    }

    /// How long ago `last` was.
    pub(super) fn since(&self, last: Timestamp) -> Duration {
        self.clock.now().since(last)
    }

    /// Waits for the next thaw.
    pub(super) fn thaw(&self) -> impl Future<Output = ()> + Send + 'static {
        self.thaws.next()
    }
}

struct Connector {
    shared: Arc<Shared>,
    /// How long an answer may take to begin.
    limit: Option<Duration>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl HttpConnector for Connector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        // The SDK brings one, to give up a connection after an error. Of several attempts it has that of the last.
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

impl Shared {
    /// Sends a request once, on a connection of the present pool.
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
        let answer = pool.connections.send(request, limit);
        Box::pin(async move {
            let response = answer.await.map_err(|error| match connection.get() {
                Some(_) => error,
                None => unreachable(host, error),
            })?;
            pulse.beat();
            Ok(response.map(|body| SdkBody::from_body_1_x(Body::new(body, pulse.clone()))))
        })
    }
}

/// The host and, where one is given, the port.
fn host(uri: &str) -> String {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or_default().to_owned()
}

/// The same error, of the same kind, saying that there was no connection.
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
    fn a_pool_is_used_again_only_while_the_wall_clock_says_that_it_is_young() {
        let (start, thaw) = (Timestamp(50_000), Some(Timestamp(40_000)));
        let pool = Pool::new(&connections::tls(), &Proxies::default(), start, thaw);
        let after = |ms: u64| Timestamp(start.0 + ms);
        assert!(!pool.is_stale(start, thaw));
        assert!(!pool.is_stale(after(2_999), thaw));
        assert!(pool.is_stale(after(3_000), thaw));
        assert!(pool.is_stale(after(1), Some(start)), "there was a thaw");
        assert!(pool.is_stale(Timestamp(1), thaw), "the clock was set back");
        pool.used.store(after(2_999).0, Ordering::Relaxed);
        assert!(!pool.is_stale(after(5_000), thaw), "it was used meanwhile");
    }

    #[test]
    fn a_host_is_named_without_scheme_and_path() {
        assert_eq!(
            host("https://b.s3.amazonaws.com/key?x=1"),
            "b.s3.amazonaws.com"
        );
        assert_eq!(host("http://127.0.0.1:9000"), "127.0.0.1:9000");
    }
}
