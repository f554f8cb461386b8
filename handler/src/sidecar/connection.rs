//! One HTTP/1.1 connection over the Unix socket.

use std::io;
use std::path::Path;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use model_socket::Stream;

use crate::limits::MAX_RESPONSE;
use crate::transport::SidecarResponse;

/// A connection between two requests.
#[derive(Debug)]
pub(super) struct Connection(SendRequest<Full<Bytes>>);

/// Failure of an exchange.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// The connection failed before the response was complete.
    Broken,
    /// The response exceeds Lambda's limit, so reading on is pointless.
    TooLarge,
}

impl Connection {
    /// Connects, and spawns a task that drives the connection to its end.
    pub(super) async fn open(socket: &Path) -> io::Result<Self> {
        let stream = Stream::connect(socket).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(async move {
            // A pending request gets the same error.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to the sidecar failed");
            }
        });
        Ok(Self(sender))
    }

    /// Sends a request and reads its complete response. The connection is returned with the
    /// response, and closed in every other case, a dropped future included, so that the sidecar can
    /// cancel.
    pub(super) async fn send(
        mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(SidecarResponse, Self), ExchangeError> {
        self.0.ready().await.map_err(|_| ExchangeError::Broken)?;
        let response = self
            .0
            .send_request(request)
            .await
            .map_err(|_| ExchangeError::Broken)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_RESPONSE)
            .collect()
            .await
            .map_err(|error| {
                if error.is::<LengthLimitError>() {
                    ExchangeError::TooLarge
                } else {
                    ExchangeError::Broken
                }
            })?;
        Ok((
            SidecarResponse {
                status: parts.status,
                headers: parts.headers,
                body: body.to_bytes(),
            },
            self,
        ))
    }
}

/// Returns `true` if an error on connecting means that the sidecar is not ready. There is no socket
/// or no listener, the backlog is full, or the listener's process ends.
pub(super) fn may_pass(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::WouldBlock
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}
