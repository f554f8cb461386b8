//! Request bodies: of a connection, or whole in memory for a call from this process.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// Body of a request, not read yet.
pub(super) enum InboundBody {
    /// Body that arrives on a connection.
    Connection(Incoming),
    /// Rest of a body that is in memory.
    Memory(Bytes),
}

impl Body for InboundBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            InboundBody::Connection(body) => Pin::new(body).poll_frame(cx),
            InboundBody::Memory(rest) => {
                let whole = std::mem::take(rest);
                Poll::Ready((!whole.is_empty()).then(|| Ok(Frame::data(whole))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            InboundBody::Connection(body) => body.is_end_stream(),
            InboundBody::Memory(rest) => rest.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            InboundBody::Connection(body) => body.size_hint(),
            InboundBody::Memory(rest) => SizeHint::with_exact(rest.len() as u64),
        }
    }
}
