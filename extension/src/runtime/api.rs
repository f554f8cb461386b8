//! Client of Lambda's Runtime API, on one connection.
//!
//! `lambda_runtime` is not used: it cannot hold back `next` after an answer was posted. It also sets an environment
//! variable at each invocation, which is unsound in a process with threads.
//!
//! Reference: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.

use std::fmt::Display;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use model_handler::deadline::Deadline;
use model_handler::failure::FunctionError;
use model_handler::invocation::{DEADLINE, Invocation, REQUEST_ID};
use tokio::net::TcpStream;

/// Path of the Runtime API.
const API: &str = "/2018-06-01/runtime";
/// X-Ray trace of an invocation.
const TRACE_ID: HeaderName = HeaderName::from_static("lambda-runtime-trace-id");
/// Type of a function error.
const ERROR_TYPE: HeaderName = HeaderName::from_static("lambda-runtime-function-error-type");
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("model-sidecar/", env!("CARGO_PKG_VERSION")));
/// Size of the connection's buffer in bytes, from which long events are read.
const BUFFER: usize = 1 << 20;

/// Error of the Runtime API.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeApiError {
    /// The connection failed.
    #[error("cannot call {call} of the Runtime API on {address}: {problem}")]
    Connection {
        /// Name of the call.
        call: &'static str,
        /// Address of the API.
        address: String,
        /// Error of the connection.
        problem: String,
    },
    /// The API rejected the call.
    #[error("call {call} of the Runtime API returned status {status}: {body}")]
    Rejected {
        /// Name of the call.
        call: &'static str,
        /// Status of the response.
        status: StatusCode,
        /// Body of the response.
        body: String,
    },
}

/// Event of one invocation.
pub(super) struct Invoked {
    /// Event, which Lambda guarantees to be JSON.
    pub(super) event: Vec<u8>,
    /// Description of the invocation.
    pub(super) invocation: Invocation,
}

/// Client with its connection. A clone has a connection of its own.
pub(super) struct RuntimeApi {
    /// `HOST:PORT`.
    address: String,
    connection: Option<SendRequest<Full<Bytes>>>,
    /// `true` until a snapshot was made and restored.
    waits_for_restore: bool,
}

impl Clone for RuntimeApi {
    fn clone(&self) -> Self {
        Self::new(self.address.clone(), self.waits_for_restore)
    }
}

impl RuntimeApi {
    /// Creates a client. Nothing is opened before the first call. With `is_snapshot`, Lambda makes a snapshot of the
    /// environment in [`Self::restored`].
    pub(super) fn new(address: String, is_snapshot: bool) -> Self {
        Self {
            address,
            connection: None,
            waits_for_restore: is_snapshot,
        }
    }

    /// Lets Lambda make a snapshot, and waits until it is restored. Returns `false` at once if none is made, or if this
    /// client has waited before.
    pub(super) async fn restored(&mut self) -> Result<bool, RuntimeApiError> {
        if !std::mem::take(&mut self.waits_for_restore) {
            return Ok(false);
        }
        self.call("restore/next", Self::get("restore/next")).await?;
        // Connections from before the snapshot do not exist after it.
        self.connection = None;
        Ok(true)
    }

    /// Waits for the next event, without a limit. The process may be frozen during the wait.
    pub(super) async fn next(&mut self) -> Result<Invoked, RuntimeApiError> {
        let (headers, event) = self
            .call("invocation/next", Self::get("invocation/next"))
            .await?;
        let text = |name: &HeaderName| Some(headers.get(name)?.to_str().ok()?.to_owned());
        let deadline = text(&DEADLINE).and_then(|text| text.parse().ok());
        Ok(Invoked {
            event,
            invocation: Invocation {
                deadline: Deadline(deadline.unwrap_or_default()),
                request_id: text(&REQUEST_ID).unwrap_or_default(),
                trace_id: text(&TRACE_ID),
            },
        })
    }

    /// Posts the response of an invocation.
    pub(super) async fn post_response(
        &mut self,
        id: &str,
        body: Vec<u8>,
    ) -> Result<(), RuntimeApiError> {
        let request = Self::post(&format!("invocation/{id}/response"), body);
        self.call("invocation/response", request).await.map(drop)
    }

    /// Posts the function error of an invocation.
    pub(super) async fn post_error(
        &mut self,
        id: &str,
        error: &FunctionError,
    ) -> Result<(), RuntimeApiError> {
        let body = serde_json::to_vec(error).unwrap_or_default();
        let mut request = Self::post(&format!("invocation/{id}/error"), body);
        let kind = HeaderValue::from_static(error.error_type);
        request.headers_mut().insert(ERROR_TYPE, kind);
        self.call("invocation/error", request).await.map(drop)
    }

    fn get(call: &str) -> Request<Full<Bytes>> {
        Self::request(Method::GET, call, Bytes::new())
    }

    fn post(call: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
        let mut request = Self::request(Method::POST, call, body.into());
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        request
    }

    fn request(method: Method, call: &str, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        // An ID that is invalid in a path yields the path of no call, which the API rejects.
        *request.uri_mut() = Uri::try_from(format!("{API}/{call}")).unwrap_or_default();
        request.headers_mut().insert(USER_AGENT, AGENT);
        request
    }

    /// Makes one call, and returns the headers and the body of its response.
    async fn call(
        &mut self,
        call: &'static str,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(HeaderMap, Vec<u8>), RuntimeApiError> {
        if let Ok(host) = HeaderValue::try_from(&self.address) {
            request.headers_mut().insert(HOST, host);
        }
        let response = match self.send(request).await {
            Ok(response) => response,
            Err(problem) => return Err(self.broken(call, problem)),
        };
        let (head, body) = response.into_parts();
        let body = match read(body).await {
            Ok(body) => body,
            Err(problem) => return Err(self.broken(call, problem)),
        };
        if head.status.is_success() {
            return Ok((head.headers, body));
        }
        Err(RuntimeApiError::Rejected {
            call,
            status: head.status,
            body: String::from_utf8_lossy(&body).trim().to_owned(),
        })
    }

    fn broken(&mut self, call: &'static str, problem: impl Display) -> RuntimeApiError {
        self.connection = None;
        RuntimeApiError::Connection {
            call,
            address: self.address.clone(),
            problem: problem.to_string(),
        }
    }

    /// Sends a request on the open connection, or on a new one if the API has closed it.
    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
        if let Some(connection) = &mut self.connection
            && connection.ready().await.is_err()
        {
            self.connection = None;
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(connect(&self.address).await?),
        };
        Ok(connection.send_request(request).await?)
    }
}

async fn connect(
    address: &str,
) -> Result<SendRequest<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    // Without Nagle's algorithm, which would delay small answers.
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(async move {
        // A pending call gets the same error.
        let _ = connection.await;
    });
    Ok(sender)
}

/// Reads a whole body into one buffer.
async fn read(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    use http_body_util::BodyExt as _;
    let declared = body.size_hint().exact().unwrap_or_default();
    let mut whole = Vec::with_capacity(usize::try_from(declared).unwrap_or_default());
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole)
}

#[cfg(test)]
mod tests;
