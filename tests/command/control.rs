//! Client side of `lab status`, `freeze`, `thaw`, `reset` and `shutdown`.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::arguments::{EndArguments, FreezeArguments, TargetArguments};
use crate::status;

pub(crate) async fn status(port: u16) -> anyhow::Result<()> {
    let rows = call(port, Method::GET, "status", &[]).await?;
    let rows: Vec<status::Row> = serde_json::from_value(rows)?;
    print!("{}", status::table(&rows));
    Ok(())
}

pub(crate) async fn freeze(freeze: &FreezeArguments) -> anyhow::Result<()> {
    let time = freeze.time.map(|time| ("for_ms", milliseconds(time)));
    act("freeze", &freeze.target, time).await
}

pub(crate) async fn thaw(target: &TargetArguments) -> anyhow::Result<()> {
    act("thaw", target, None).await
}

pub(crate) async fn reset(reset: &EndArguments) -> anyhow::Result<()> {
    act("reset", &reset.target, reason(reset)).await
}

pub(crate) async fn shutdown(shutdown: &EndArguments) -> anyhow::Result<()> {
    act("shutdown", &shutdown.target, reason(shutdown)).await
}

fn reason(end: &EndArguments) -> Option<(&'static str, String)> {
    let reason = lab::lambda::ShutdownReason::from(end.reason?);
    Some(("reason", reason.to_string()))
}

fn milliseconds(time: Duration) -> String {
    time.as_millis().to_string()
}

async fn act(
    action: &str,
    target: &TargetArguments,
    more: Option<(&'static str, String)>,
) -> anyhow::Result<()> {
    let environment = target
        .environment
        .map(|number| ("environment", number.to_string()));
    let query: Vec<_> = environment.into_iter().chain(more).collect();
    let done = call(target.server.port, Method::POST, action, &query).await?;
    let environments = done["environments"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let numbers: Vec<_> = environments.iter().map(Value::to_string).collect();
    match (done["server"].as_bool(), numbers.as_slice()) {
        (Some(true), _) => println!("{action}: all environments and the server"),
        (_, []) => println!("{action}: no environments"),
        (_, numbers) => println!("{action}: environment {}", numbers.join(", ")),
    }
    Ok(())
}

/// Calls the server, and returns the response's JSON. There is no timeout: `freeze --for` may take
/// long.
async fn call(
    port: u16,
    method: Method,
    action: &str,
    query: &[(&'static str, String)],
) -> anyhow::Result<Value> {
    let pairs: Vec<_> = query
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let uri = format!("/lab/{action}?{}", pairs.join("&"));
    let stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .with_context(|| {
            format!("cannot connect to port {port}: no `lab serve` listens there; `lab serve` prints its port at start")
        })?;
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "localhost");
    let request = request.body(Full::<Bytes>::default())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let (answer, _) = tokio::join!(
        async {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            drop(sender);
            anyhow::Ok((head.status, body))
        },
        connection
    );
    let (status, body) =
        answer.with_context(|| format!("the server on port {port} closed the connection"))?;
    let json: Value = serde_json::from_slice(&body)
        .with_context(|| format!("the server on port {port} is not a `lab serve`"))?;
    if status == StatusCode::OK {
        return Ok(json);
    }
    let message = json["message"].as_str().unwrap_or_default();
    anyhow::bail!("{action}: {message}");
}
