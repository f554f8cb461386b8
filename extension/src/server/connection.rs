//! One connection: hyper on a [`Wire`].

mod phase;
mod rejection;
mod wire;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulConnection;
use model_handler::trace::ServedCall;
use tokio::io::{AsyncRead, AsyncWrite};

use super::auth::is_remote;
use super::context::ServerContext;
use super::host::Transport;
use super::idle_timeout::IdleTimeout;
use super::inbound_body::InboundBody;
use super::limits::MAX_HEAD;
use super::response_body::ResponseBody;
use super::router;
use phase::ConnectionPhase;
use wire::Wire;

/// Serves one connection until its peer closes it.
pub(super) fn serve<S>(
    stream: S,
    transport: Transport,
    context: Arc<ServerContext>,
) -> impl GracefulConnection<Error = hyper::Error> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let phase = ConnectionPhase::default();
    let wire = Wire::new(
        stream,
        phase.clone(),
        context.idle_ticks().map(IdleTimeout::new),
    );
    let io = TokioIo::new(wire);
    let service = service_fn(move |request: Request<Incoming>| {
        phase.handling();
        let (context, phase) = (Arc::clone(&context), phase.clone());
        async move {
            let call = traced(&request, &context);
            let request = request.map(InboundBody::Connection);
            let response = router::handle(request, transport, &context).await;
            if let Some(call) = call {
                let length = response.body().size_hint().exact();
                call.end(response.status(), response.headers(), length);
            }
            let close = HeaderValue::from_static("close");
            if response.headers().get(CONNECTION) == Some(&close) {
                phase.closing();
            } else {
                phase.idle();
            }
            Ok::<_, Infallible>(response.map(|body| WatchedBody { body, phase }))
        }
    });
    http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .serve_connection(io, service)
}

/// Notes the start of a request that has spans of its own. The spans of a request of the handler are the handler's.
fn traced(request: &Request<Incoming>, context: &ServerContext) -> Option<ServedCall> {
    let exporter = context.exporter.as_ref()?;
    if is_remote(request.headers()) {
        return None;
    }
    exporter.begin(request)
}

/// Response body that tells the wire when hyper has taken all of it.
struct WatchedBody {
    body: ResponseBody,
    phase: ConnectionPhase,
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        self.phase.buffered();
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
