//! A small HTTP/1.1 client for the APIs under test, over TCP or a Unix socket.
//!
//! [`Client`] opens a connection for each request and so never reuses an idle connection that was
//! closed by the server. [`Connection`] is one persistent connection. Neither retries. Every call
//! is bounded by [`WAIT_LIMIT`].

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;

use crate::WAIT_LIMIT;

/// A call that returned no response.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing listens at the address.
    #[error("cannot connect to {to}")]
    Connect {
        /// The address or the socket's path.
        to: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The connection broke before the response was complete.
    #[error("the connection broke during {request}")]
    Broken {
        /// Method and path.
        request: String,
        /// Error of hyper.
        source: hyper::Error,
    },
    /// No complete response within [`WAIT_LIMIT`].
    #[error("no response to {request} within {} s", WAIT_LIMIT.as_secs())]
    TimedOut {
        /// Method and path.
        request: String,
    },
    /// The request is invalid.
    #[error("invalid request")]
    Invalid(#[from] http::Error),
}

/// A complete response.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl HttpResponse {
    /// The body as JSON.
    ///
    /// # Errors
    /// The parse error if the body is no JSON.
    pub fn json(&self) -> serde_json::Result<Value> {
        serde_json::from_slice(&self.body)
    }

    /// The body as text; invalid UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Value of a header as text, `None` if it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A client of one server that opens a connection for each request.
#[derive(Clone, Debug)]
pub struct Client {
    target: Endpoint,
}

#[derive(Clone, Debug)]
enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Client {
    /// Client of a server on a port of 127.0.0.1.
    #[must_use]
    pub fn tcp(port: u16) -> Self {
        let target = Endpoint::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Self { target }
    }

    /// Client of a server on a Unix socket.
    #[must_use]
    pub fn unix(path: impl AsRef<Path>) -> Self {
        let target = Endpoint::Unix(path.as_ref().to_owned());
        Self { target }
    }

    /// Sends a GET.
    ///
    /// # Errors
    /// [`CallError`] without a response; a response with any status is `Ok`.
    pub async fn get(&self, path: &str) -> Result<HttpResponse, CallError> {
        self.send(request(Method::GET, path, Bytes::new())?).await
    }

    /// Sends a POST of JSON.
    ///
    /// # Errors
    /// [`CallError`] without a response; a response with any status is `Ok`.
    pub async fn post(&self, path: &str, body: &Value) -> Result<HttpResponse, CallError> {
        self.send(post(path, body)?).await
    }

    /// Sends any request; `Host` is added if it is missing.
    ///
    /// # Errors
    /// [`CallError`] without a response; a response with any status is `Ok`.
    pub async fn send(&self, request: Request<Bytes>) -> Result<HttpResponse, CallError> {
        self.connect().await?.send(request).await
    }

    /// Opens a persistent connection.
    ///
    /// # Errors
    /// [`CallError::Connect`] if nothing listens.
    pub async fn connect(&self) -> Result<Connection, CallError> {
        let failed = |source| CallError::Connect {
            to: match &self.target {
                Endpoint::Tcp(address) => address.to_string(),
                Endpoint::Unix(path) => path.display().to_string(),
            },
            source,
        };
        match &self.target {
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                Connection::over(stream).await
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(failed)?;
                Connection::over(stream).await
            }
        }
    }
}

/// One connection, kept alive as long as the server allows; closed when dropped.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Connection {
    async fn over<S>(stream: S) -> Result<Self, CallError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|source| CallError::Broken {
            request: "the handshake".into(),
            source,
        })?;
        let driver = tokio::spawn(async move {
            // The request in progress reports the same error.
            let _ = connection.await;
        });
        Ok(Self { sender, driver })
    }

    /// Sends a request and reads the complete response.
    ///
    /// # Errors
    /// [`CallError`] without a response; a response with any status is `Ok`.
    pub async fn send(&mut self, mut request: Request<Bytes>) -> Result<HttpResponse, CallError> {
        let named = format!("{} {}", request.method(), request.uri());
        let host = http::HeaderValue::from_static("localhost");
        request.headers_mut().entry(header::HOST).or_insert(host);
        let call = self.exchange(request.map(Full::new));
        match tokio::time::timeout(WAIT_LIMIT, call).await {
            Ok(answer) => answer.map_err(|source| CallError::Broken {
                request: named,
                source,
            }),
            Err(_) => Err(CallError::TimedOut { request: named }),
        }
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<HttpResponse> {
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok(HttpResponse {
            status: head.status,
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Builds a request for [`Client::send`] or [`Connection::send`].
///
/// # Errors
/// If `path` is invalid.
pub fn request(method: Method, path: &str, body: impl Into<Bytes>) -> http::Result<Request<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .body(body.into())
}

/// Builds a POST of JSON for [`Client::send`] or [`Connection::send`].
///
/// # Errors
/// If `path` is invalid.
pub fn post(path: &str, body: &Value) -> http::Result<Request<Bytes>> {
    let mut request = request(Method::POST, path, body.to_string())?;
    let json = http::HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    Ok(request)
}

/// HTTP client of an AWS SDK in the test's own process; it uses no proxy.
#[must_use]
pub fn sdk_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .build_https()
}
