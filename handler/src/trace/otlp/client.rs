//! One export: a request of OTLP over HTTP, on a connection of its own.
//!
//! A connection does not outlive its export, so that none breaks in a freeze. Only the head of the response is read,
//! within a bounded buffer. Redirects are not followed.
//!
//! Source: <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::settings::OtlpSettings;

/// Maximum size of a response's head in bytes. hyper requires at least 8 KiB.
const MAX_HEAD: usize = 16 << 10;

/// Failure of an export.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExportError {
    /// The connection failed.
    #[error("{0}")]
    Connection(String),
    /// The collector did not accept the spans.
    #[error("status {0}")]
    Status(StatusCode),
    /// The time of the export ended.
    #[error("no response in time")]
    Timeout,
}

impl ExportError {
    /// Returns `true` if the same export may succeed later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Connection(_) | Self::Timeout => true,
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        }
    }
}

/// Sends the body of an export, and waits for the head of its response.
pub(super) async fn send(settings: &OtlpSettings, body: Bytes) -> Result<(), ExportError> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = settings.endpoint.target.clone();
    let headers = request.headers_mut();
    headers.extend(settings.headers.iter().cloned());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HOST, settings.endpoint.host.clone());

    let connected = settings.endpoint.connect().await;
    let stream = connected.map_err(|problem| ExportError::Connection(problem.to_string()))?;
    let broken = |problem: hyper::Error| ExportError::Connection(problem.to_string());
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Ends the connection with this future, also in the middle of an endless response.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    if response.status().is_success() {
        Ok(())
    } else {
        Err(ExportError::Status(response.status()))
    }
}
