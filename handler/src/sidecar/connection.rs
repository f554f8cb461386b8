//! One HTTP/1.1 connection over the Unix socket.

use std::io;
use std::path::Path;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use model_socket::Stream;

use super::Answer;
use crate::failure::RESPONSE_LIMIT;

/// A connection between two requests.
#[derive(Debug)]
pub(super) struct Connection(SendRequest<Full<Bytes>>);

/// Why an exchange had no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// The connection failed before the answer was whole.
    Broken,
    /// The answer is more than Lambda could carry, so that reading on is of no use.
    TooLarge,
}

impl Connection {
    /// Connects, and leaves the connection to a task that ends with it.
    pub(super) async fn open(socket: &Path) -> io::Result<Self> {
        let stream = Stream::connect(socket).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(async move {
            // Whoever has a request on it gets the error too.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the sidecar ended");
            }
        });
        Ok(Self(sender))
    }

    /// Sends a request and reads its answer whole. The connection comes back with the answer, and
    /// is closed in every other case, a dropped future included: the sidecar sees that nobody
    /// waits any more.
    pub(super) async fn send(
        mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Answer, Self), Fault> {
        self.0.ready().await.map_err(|_| Fault::Broken)?;
        let response = self
            .0
            .send_request(request)
            .await
            .map_err(|_| Fault::Broken)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, RESPONSE_LIMIT)
            .collect()
            .await
            .map_err(|error| {
                if error.is::<LengthLimitError>() {
                    Fault::TooLarge
                } else {
                    Fault::Broken
                }
            })?;
        Ok((
            Answer {
                status: parts.status,
                headers: parts.headers,
                body: body.to_bytes(),
            },
            self,
        ))
    }
}

/// Whether an error on connecting says that the sidecar is not there yet: no socket, nobody
/// listening on it, or more callers than it has taken in so far.
pub(super) fn may_pass(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock
    )
}
