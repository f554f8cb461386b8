//! Client of the sidecar: HTTP/1.1 over its Unix socket.
//!
//! The client handles three cases:
//!
//! - **The sidecar is still starting.** Lambda starts the function once the extension has
//!   registered, which is before it listens. A call waits for the socket as long as its invocation
//!   allows.
//! - **A connection broke during a freeze.** An idle connection that fails is replaced, and the
//!   request sent again, without an error.
//! - **The deadline.** A call ends, successful or not, before Lambda stops the invocation.
//!
//! A request with any method may be sent again even if the sidecar may have received it. Inference
//! has no side effect, and repeating a version check is harmless. On fresh connections a request is
//! sent at most [`FRESH_ATTEMPTS`] times, since a request that breaks two of them breaks the third.

mod connection;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{HOST, HeaderValue};
use http_body_util::Full;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::failure::Failure;
use crate::transport::{SidecarResponse, TOKEN, TimeLimit, Transport};
use connection::{Connection, ExchangeError};

/// Maximum number of attempts on fresh connections.
const FRESH_ATTEMPTS: usize = 2;

/// Intervals between attempts to connect to a missing socket: short at first, because the sidecar
/// listens within milliseconds of the first call. The maximum is still short compared with a cold
/// start.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// A client of the sidecar, with its idle connections. Clones share them.
#[derive(Clone, Debug)]
pub struct Sidecar {
    socket: Arc<PathBuf>,
    /// Connections between two requests: at most as many as there were concurrent calls.
    idle: Arc<Mutex<Vec<Connection>>>,
    token: Option<HeaderValue>,
}

impl Sidecar {
    /// Returns a client for this socket. Nothing is opened before the first call.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self {
            socket: Arc::new(socket),
            idle: Arc::default(),
            token: None,
        }
    }

    /// Sets the token to send with each call.
    #[must_use]
    pub fn with_token(self, token: Option<HeaderValue>) -> Self {
        Self { token, ..self }
    }

    /// Opens a connection; waits until the limit for the sidecar to listen.
    async fn connect(&self, limit: TimeLimit) -> Result<Connection, Failure> {
        let mut pause = FIRST_PAUSE;
        loop {
            match Connection::open(&self.socket).await {
                Ok(connection) => return Ok(connection),
                Err(source) if !connection::may_pass(&source) => {
                    return Err(Failure::Unreachable {
                        socket: self.socket.to_path_buf(),
                        source,
                    });
                }
                Err(_) if Instant::now() >= limit.end() => {
                    return Err(Failure::Absent {
                        socket: self.socket.to_path_buf(),
                        waited: limit.elapsed(),
                    });
                }
                Err(_) => sleep_until(limit.end().min(Instant::now() + pause)).await,
            }
            pause = MAX_PAUSE.min(pause * 2);
        }
    }

    /// Sends a request on a connection of its own, and waits for its response without a limit. The limit is that of
    /// the connection.
    pub(crate) async fn hold(
        &self,
        request: Request<Bytes>,
        limit: TimeLimit,
    ) -> Result<SidecarResponse, Failure> {
        let connection = self.connect(limit).await?;
        match connection.send(self.prepare(request)).await {
            Ok((answer, _)) => Ok(answer),
            Err(ExchangeError::TooLarge) => Err(Failure::TooLarge),
            Err(ExchangeError::Broken) => Err(Failure::Broken),
        }
    }

    /// Adds the headers of this connection.
    fn prepare(&self, request: Request<Bytes>) -> Request<Full<Bytes>> {
        let mut request = request.map(Full::new);
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        if let Some(token) = &self.token {
            headers.insert(TOKEN, token.clone());
        }
        request
    }

    fn take_idle(&self) -> Option<Connection> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    fn drop_idle(&self) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn keep(&self, (answer, connection): (SidecarResponse, Connection)) -> SidecarResponse {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
        answer
    }
}

impl Transport for Sidecar {
    async fn exchange(
        &self,
        request: Request<Bytes>,
        limit: TimeLimit,
    ) -> Result<SidecarResponse, Failure> {
        let request = self.prepare(request);
        if let Some(connection) = self.take_idle() {
            match timeout_at(limit.end(), connection.send(request.clone()))
                .await
                .map_err(|_| limit.passed())?
            {
                Ok(done) => return Ok(self.keep(done)),
                Err(ExchangeError::TooLarge) => return Err(Failure::TooLarge),
                // The other idle connections are most likely broken too.
                Err(ExchangeError::Broken) => self.drop_idle(),
            }
        }
        for _ in 0..FRESH_ATTEMPTS {
            let connection = self.connect(limit).await?;
            match timeout_at(limit.end(), connection.send(request.clone()))
                .await
                .map_err(|_| limit.passed())?
            {
                Ok(done) => return Ok(self.keep(done)),
                Err(ExchangeError::TooLarge) => return Err(Failure::TooLarge),
                Err(ExchangeError::Broken) => {}
            }
        }
        Err(Failure::Broken)
    }
}
