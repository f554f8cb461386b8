//! The Invoke API over HTTP, as AWS's emulator offers it.

use std::convert::Infallible;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::super::LONGEST_REQUEST;
use super::{Invocation, Platform};

pub(super) async fn serve(platform: &Arc<Platform>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let _ = stream.set_nodelay(true);
                let platform = Arc::clone(platform);
                let service = service_fn(move |request| {
                    let platform = Arc::clone(&platform);
                    async move { Ok::<_, Infallible>(answer(&platform, request).await) }
                });
                let server = hyper::server::conn::http1::Builder::new();
                connections.spawn(async move {
                    // A connection that ends badly does so because the caller left.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(platform: &Platform, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    if !is_invocation(head.uri.path()) {
        return plain(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    if head.method != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "");
    }
    // One byte more than may be: what is too long is refused as such.
    let invocation = match Limited::new(body, LONGEST_REQUEST + 1).collect().await {
        Ok(body) => {
            let Ok(context) = client_context(&head.headers) else {
                return plain(StatusCode::INTERNAL_SERVER_ERROR, "");
            };
            let trace = text(&head.headers, "x-amzn-trace-id");
            platform.invoke(body.to_bytes(), trace, context).await
        }
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Invocation::too_long(&uuid::Uuid::new_v4().to_string())
        }
        Err(_) => return plain(StatusCode::BAD_REQUEST, ""),
    };
    let mut response = Response::new(Full::new(invocation.body));
    *response.status_mut() = invocation.status;
    *response.headers_mut() = invocation.headers;
    response
}

/// `/2015-03-31/functions/NAME/invocations`, whatever the function is called.
fn is_invocation(path: &str) -> bool {
    let name = path
        .strip_prefix("/2015-03-31/functions/")
        .and_then(|rest| rest.strip_suffix("/invocations"));
    name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

fn client_context(headers: &HeaderMap) -> Result<Option<String>, ()> {
    let Some(encoded) = text(headers, "x-amz-client-context") else {
        return Ok(None);
    };
    let bytes = STANDARD.decode(encoded).map_err(drop)?;
    String::from_utf8(bytes).map(Some).map_err(drop)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
