//! The way to the sidecar: HTTP/1.1 over its Unix socket.
//!
//! Three things are taken off the caller's hands:
//!
//! - **A sidecar that is still starting.** Lambda starts the function once the extension has
//!   registered, which is before it listens. A call waits for the socket as long as its invocation
//!   can.
//! - **A connection that died while everything was frozen.** An idle connection that fails is
//!   replaced, and the request sent again, without an error.
//! - **A deadline.** A call ends, one way or the other, before Lambda stops the invocation.
//!
//! A request may be sent again even if the sidecar may have seen it, whatever its method: inference
//! has no side effect but the time it takes, and a second check of a model's source finds what the
//! first one found. On fresh connections it is sent at most [`FRESH_ATTEMPTS`] times, since what
//! breaks two of them breaks the third.

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
use connection::{Connection, Fault};

/// What the sidecar asks of everyone with `MODEL_TOKEN=session`.
pub const TOKEN: HeaderName = HeaderName::from_static("x-model-token");

/// Marks a request as one from outside the execution environment, to which the sidecar offers no operator's calls
/// unless `MODEL_REMOTE_OPERATIONS` allows them.
pub const REMOTE: HeaderName = HeaderName::from_static("x-model-remote");

/// How often a request is sent on a connection that was opened for it.
const FRESH_ATTEMPTS: usize = 2;

/// Pauses between looks at a socket that is not there yet: short at first, because the sidecar
/// listens within milliseconds of the first call, and then short enough to cost nobody anything.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(20);

/// What the sidecar answered, whole.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A client of the sidecar, with its idle connections. Clones share them.
#[derive(Clone, Debug)]
pub struct Sidecar {
    socket: Arc<PathBuf>,
    /// Connections that are between two requests: at most as many as there were calls at once.
    idle: Arc<Mutex<Vec<Connection>>>,
    token: Option<HeaderValue>,
}

impl Sidecar {
    /// A client of the sidecar at this socket. Nothing is opened before the first call.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self {
            socket: Arc::new(socket),
            idle: Arc::default(),
            token: None,
        }
    }

    /// The same client, which shows the sidecar this token with each call.
    #[must_use]
    pub fn with_token(self, token: Option<HeaderValue>) -> Self {
        Self { token, ..self }
    }

    /// Sends one call and waits for its whole answer, within the invocation's time.
    ///
    /// An answer of any status is an answer; a failure is that there is none.
    pub async fn send(&self, call: Call, invocation: &Invocation) -> Result<Answer, Failure> {
        let allowed = invocation.deadline.allows(SystemTime::now());
        let started = Instant::now();
        let until = started + allowed;
        let mut request = request(call, invocation)?;
        let headers = request.headers_mut();
        // A caller's own values of these two are not passed on.
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
                Err(Fault::TooLarge) => return Err(Failure::TooLarge),
                // What killed this one has most likely killed the others.
                Err(Fault::Broken) => self.drop_idle(),
            }
        }
        for _ in 0..FRESH_ATTEMPTS {
            let connection = self.connect(started, until).await?;
            match timeout_at(until, connection.send(request.clone()))
                .await
                .map_err(|_| late())?
            {
                Ok(done) => return Ok(self.keep(done)),
                Err(Fault::TooLarge) => return Err(Failure::TooLarge),
                Err(Fault::Broken) => {}
            }
        }
        Err(Failure::Broken)
    }

    /// Opens a connection, waiting for the sidecar to listen until `until`.
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

    fn keep(&self, (answer, connection): (Answer, Connection)) -> Answer {
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
