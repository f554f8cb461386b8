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
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::Full;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::event::{Call, excerpt};
use crate::failure::Failure;
use crate::invocation::Invocation;
use connection::{Connection, ExchangeError};

/// Token that the sidecar requires with `MODEL_TOKEN=session`.
pub const TOKEN: HeaderName = HeaderName::from_static("x-model-token");

/// Marks a request from outside the execution environment, for which the sidecar disables
/// management calls unless `MODEL_REMOTE_OPERATIONS` allows them.
pub const REMOTE: HeaderName = HeaderName::from_static("x-model-remote");

/// Maximum number of attempts on fresh connections.
const FRESH_ATTEMPTS: usize = 2;

/// Intervals between attempts to connect to a missing socket: short at first, because the sidecar
/// listens within milliseconds of the first call. The maximum is still short compared with a cold
/// start.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// Complete response of the sidecar.
#[derive(Debug)]
pub struct SidecarResponse {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

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

    /// Sends one call and waits for its complete response, within the invocation's time.
    ///
    /// A response with any status is `Ok`.
    pub async fn send(
        &self,
        call: Call,
        invocation: &Invocation,
    ) -> Result<SidecarResponse, Failure> {
        let allowed = invocation.deadline.allows(SystemTime::now());
        let started = Instant::now();
        let until = started + allowed;
        let mut request = request(call, invocation)?;
        let headers = request.headers_mut();
        // The caller's own values of these two headers are not forwarded.
        headers.insert(REMOTE, HeaderValue::from_static("true"));
        headers.remove(TOKEN);
        if let Some(token) = &self.token {
            headers.insert(TOKEN, token.clone());
        }
        let late = || Failure::Timeout { allowed };

        if let Some(connection) = self.take_idle() {
            match timeout_at(until, connection.send(request.clone()))
                .await
                .map_err(|_| late())?
            {
                Ok(done) => return Ok(self.keep(done)),
                Err(ExchangeError::TooLarge) => return Err(Failure::TooLarge),
                // The other idle connections are most likely broken too.
                Err(ExchangeError::Broken) => self.drop_idle(),
            }
        }
        for _ in 0..FRESH_ATTEMPTS {
            let connection = self.connect(started, until).await?;
            match timeout_at(until, connection.send(request.clone()))
                .await
                .map_err(|_| late())?
            {
                Ok(done) => return Ok(self.keep(done)),
                Err(ExchangeError::TooLarge) => return Err(Failure::TooLarge),
                Err(ExchangeError::Broken) => {}
            }
        }
        Err(Failure::Broken)
    }

    /// Opens a connection; waits until `until` for the sidecar to listen.
    async fn connect(&self, started: Instant, until: Instant) -> Result<Connection, Failure> {
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
                Err(_) if Instant::now() >= until => {
                    return Err(Failure::Absent {
                        socket: self.socket.to_path_buf(),
                        waited: started.elapsed(),
                    });
                }
                Err(_) => sleep_until(until.min(Instant::now() + pause)).await,
            }
            pause = MAX_PAUSE.min(pause * 2);
        }
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

fn request(call: Call, invocation: &Invocation) -> Result<Request<Full<Bytes>>, Failure> {
    let mut request = Request::new(Full::new(call.body));
    *request.method_mut() = call.method;
    *request.uri_mut() = call.target.parse().map_err(|error| {
        let target = excerpt(&call.target);
        Failure::BadRequest(format!("{target:?} is not a path to call: {error}"))
    })?;
    *request.headers_mut() = call.headers;
    request
        .headers_mut()
        .insert(HOST, HeaderValue::from_static("localhost"));
    invocation.describe(request.headers_mut());
    Ok(request)
}
