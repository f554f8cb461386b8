//! One connection: hyper on a [`Wire`].

mod refusal;
mod wire;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};

use super::host::Transport;
use super::response_body::ResponseBody;
use super::{Context, answer};
use wire::{Phase, Wire};

/// hyper's buffer for a head, beyond which it answers 431.
const MAX_HEAD: usize = 64 * 1024;

/// Serves one connection until its peer closes it.
pub(super) fn serve<S>(
    stream: S,
    transport: Transport,
    context: Arc<Context>,
) -> impl GracefulConnection<Error = hyper::Error> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let phase = Phase::default();
    let wire = Wire::new(stream, phase.clone(), context.is_open_machine);
    let io = TokioIo::new(wire);
    let service = service_fn(move |request| {
        phase.busy();
        let (context, phase) = (Arc::clone(&context), phase.clone());
        async move {
            let answer = answer::answer(request, transport, &context).await;
            let close = HeaderValue::from_static("close");
            if answer.headers().get(CONNECTION) == Some(&close) {
                phase.refused();
            } else {
                phase.answered();
            }
            Ok::<_, Infallible>(answer.map(|pieces| Watched { pieces, phase }))
        }
    });
    http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .serve_connection(io, service)
}

/// The body of a response, which tells the wire when hyper has taken all of it.
struct Watched {
    pieces: ResponseBody,
    phase: Phase,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.phase.buffered();
    }
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.pieces).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.pieces.size_hint()
    }
}

#[cfg(test)]
mod tests;
