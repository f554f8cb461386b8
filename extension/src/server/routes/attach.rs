//! `POST /lambda/attach`, over the Unix socket: attaches the function's process. Not part of the public API.

use hyper::{Method, Request};
use model_handler::attachment::PATH;

use crate::request_memory::Charge;
use crate::server::attachment::Attachment;
use crate::server::auth::{check_token, is_remote};
use crate::server::context::ServerContext;
use crate::server::error::ApiError;
use crate::server::host::Transport;
use crate::server::inbound_body::InboundBody;
use crate::server::request::deadline;
use crate::server::request_body;
use crate::server::response::ApiResponse;

/// Returns `true` for the request of a process that attaches.
pub(in crate::server) fn is_attachment(
    request: &Request<InboundBody>,
    transport: Transport,
) -> bool {
    transport == Transport::Unix
        && request.method() == Method::POST
        && request.uri().path() == PATH
        && !is_remote(request.headers())
}

/// Attaches the first process, and holds its request until one of the two processes ends.
pub(in crate::server) async fn attach(
    request: Request<InboundBody>,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    check_token(request.headers(), context)?;
    let Some(attachments) = &context.attachments else {
        return Err(ApiError::NotAttached(
            "MODEL_HANDLER is not attach for the sidecar",
        ));
    };
    let deadline = deadline(request.headers(), context)?;
    let mut charge = Charge::new(&context.account);
    let body = request_body::read(request, None, deadline, &mut charge, context).await?;
    let process = serde_json::from_slice(&body)
        .map_err(|_| ApiError::NotAttached("the body does not describe a process"))?;
    let (attachment, mut held) = Attachment::new(process);
    if attachments.try_send(attachment).is_err() {
        return Err(ApiError::NotAttached("another process is attached already"));
    }
    drop(charge);
    held.closed().await;
    Err(ApiError::ShuttingDown)
}
