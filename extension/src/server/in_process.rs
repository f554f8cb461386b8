//! Calls from within the server's process, without a connection.

use bytes::Bytes;
use hyper::{Method, Request, Response};

use super::context::ServerContext;
use super::host::Transport;
use super::inbound_body::InboundBody;
use super::router;

/// Handles one request of the handler in this process, which needs no token. Every error is a response, too. Dropping
/// the future cancels the request.
pub async fn call(request: Request<Bytes>, context: &ServerContext) -> Response<Bytes> {
    let is_head = request.method() == Method::HEAD;
    let request = request.map(InboundBody::Memory);
    let response = router::handle(request, Transport::InProcess, context).await;
    // On a connection, hyper omits the body.
    response.map(|body| {
        if is_head {
            Bytes::new()
        } else {
            body.into_bytes()
        }
    })
}
