//! One connection: hyper on a [`Wire`].

mod wire;

use std::sync::Arc;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Context, answer};
use wire::{Phase, Wire};

/// hyper's buffer for a head, beyond which it answers 431.
const MOST_HEAD: usize = 64 * 1024;

/// Serves one connection until its peer closes it.
pub(super) fn serve<S>(
    stream: S,
    context: Arc<Context>,
) -> impl GracefulConnection<Error = hyper::Error> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let phase = Phase::default();
    let io = TokioIo::new(Wire::new(stream, phase.clone()));
    let service = service_fn(move |request| {
        phase.busy();
        let (context, phase) = (Arc::clone(&context), phase.clone());
        async move {
            let answer = answer::answer(request, &context).await;
            let close = HeaderValue::from_static("close");
            if answer.headers().get(CONNECTION) == Some(&close) {
                phase.refused();
            } else {
                phase.answered();
            }
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    http1::Builder::new()
        .max_buf_size(MOST_HEAD)
        .serve_connection(io, service)
}

#[cfg(test)]
mod tests;
