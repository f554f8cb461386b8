//! One HTTP/1.1 request, over TCP, TLS or a Unix socket.

use std::path::Path;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;

/// Sends the request, over the socket if there is one, and reads the whole response.
pub(super) async fn send(
    request: Request<Bytes>,
    socket: Option<&Path>,
) -> anyhow::Result<Response<Bytes>> {
    let request = request.map(Full::new);
    let response = match socket {
        Some(socket) => over_socket(request, socket).await?,
        None => {
            let https = HttpsConnectorBuilder::new()
                .with_native_roots()
                .context("no certificates of authorities are installed")?
                .https_or_http()
                .enable_http1()
                .build();
            let client = Client::builder(TokioExecutor::new()).build(https);
            client.request(request).await?
        }
    };
    let (head, body) = response.into_parts();
    let body = body.collect().await.context("the response is incomplete")?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

async fn over_socket(
    mut request: Request<Full<Bytes>>,
    socket: &Path,
) -> anyhow::Result<Response<hyper::body::Incoming>> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.with_context(|| format!("no sidecar listens on {}", socket.display()))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    // Over a socket, the request line has the path alone.
    let path = request
        .uri()
        .path_and_query()
        .map(|path| path.as_str().parse());
    if let Some(path) = path {
        *request.uri_mut() = path?;
    }
    let host = header::HeaderValue::from_static("localhost");
    request.headers_mut().insert(header::HOST, host);
    Ok(sender.send_request(request).await?)
}
