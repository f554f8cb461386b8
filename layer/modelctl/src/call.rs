//! `modelctl call`: sends a request to a sidecar or a function, and prints the response.

mod send;

use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, bail};
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use serde_json::{Value, json};

use crate::console::Console;
use crate::context::Context;
use crate::units;

/// Headers of a response that are printed.
const SHOWN: [&str; 4] = [
    "x-model-version",
    "x-model-digest",
    "server-timing",
    "x-amzn-requestid",
];

/// Send a request to a local sidecar, the lab, or a function URL
///
/// Prints the response, its status and `Server-Timing`. Requests to a function URL
/// (https://….lambda-url.REGION.on.aws) are signed with the AWS credentials.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  modelctl call http://127.0.0.1:2774 --row '[5.1, 3.5, 1.4, 0.2]'
  modelctl call unix:/tmp/model-sidecar.sock --data request.json --path /v2/models/fraud/infer")]
pub(crate) struct Arguments {
    /// `http://HOST:PORT`, `https://HOST`, or `unix:PATH` of a socket
    target: String,
    /// One row as JSON, sent as a prediction request
    #[arg(long, value_name = "JSON", required_unless_present = "data")]
    row: Option<String>,
    /// File with the request's body; a list is sent as the rows of a prediction request
    #[arg(long, value_name = "FILE", conflicts_with = "row")]
    data: Option<PathBuf>,
    /// Path of the call
    #[arg(long, value_name = "PATH", default_value = "/predict")]
    path: String,
    /// Header, such as `Authorization: Bearer …`; repeatable
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Sign the request for Lambda, for a function URL under another name
    #[arg(long)]
    sign: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    let header = text.split_once(':');
    let header = header.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    header
        .filter(|(name, value)| {
            name.parse::<http::HeaderName>().is_ok() && HeaderValue::from_str(value).is_ok()
        })
        .ok_or_else(|| "expected NAME: VALUE".to_owned())
}

/// Sends the request.
pub(crate) async fn run(
    arguments: &Arguments,
    context: &Context,
    console: &Console,
) -> anyhow::Result<Value> {
    let body = body(arguments)?;
    let (uri, socket) = target(&arguments.target, &arguments.path)?;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(uri.clone())
        .header("content-type", "application/json");
    for (name, value) in &arguments.headers {
        request = request.header(name, value);
    }
    let mut request = request.body(body).context("cannot make the request")?;
    let host = uri.host().unwrap_or_default();
    if arguments.sign || host.ends_with(".on.aws") {
        let region = match function_region(host) {
            Some(region) => region.to_owned(),
            None => {
                let region = context.aws().await.region();
                region
                    .map(ToString::to_string)
                    .context("cannot sign the request: set AWS_REGION")?
            }
        };
        signed(&mut request, &region, context).await?;
    }
    let start = Instant::now();
    let response = send::send(request, socket.as_deref()).await;
    let response = response.with_context(|| format!("cannot call {}", arguments.target))?;
    let took = start.elapsed();
    let text = String::from_utf8_lossy(response.body());
    let status = response.status();
    console.line(&text);
    let shown = |name: &str| {
        let value = response.headers().get(name)?;
        Some((name.to_owned(), value.to_str().ok()?.to_owned()))
    };
    let headers: Vec<(String, String)> = SHOWN.iter().filter_map(|name| shown(name)).collect();
    console.line(format_args!(
        "status: {status}, in {}",
        units::milliseconds(took)
    ));
    for (name, value) in &headers {
        console.line(format_args!("{name}: {value}"));
    }
    if !status.is_success() {
        bail!(
            "cannot call {}: the response is {status}: {text}",
            arguments.target
        );
    }
    Ok(json!({
        "status": status.as_u16(),
        "took_ms": took.as_secs_f64() * 1e3,
        "headers": headers.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "body": serde_json::from_str(&text).unwrap_or_else(|_| json!(text)),
    }))
}

/// Body of the request.
fn body(arguments: &Arguments) -> anyhow::Result<Bytes> {
    if let Some(row) = &arguments.row {
        let row: Value = serde_json::from_str(row).context("cannot use --row: it is not JSON")?;
        return Ok(json!({"features": [row]}).to_string().into());
    }
    let Some(file) = &arguments.data else {
        bail!("cannot make a request: give --row or --data");
    };
    let text =
        std::fs::read(file).with_context(|| format!("cannot read --data {}", file.display()))?;
    let is_list = text.trim_ascii_start().starts_with(b"[");
    Ok(if is_list {
        [b"{\"features\": ", &text[..], b"}"].concat().into()
    } else {
        text.into()
    })
}

/// Returns the URI of a call, and the path of the socket if the target is one.
fn target(target: &str, path: &str) -> anyhow::Result<(Uri, Option<PathBuf>)> {
    let path = path.trim_start_matches('/');
    let (base, socket) = match target.strip_prefix("unix:") {
        Some(socket) => ("http://localhost", Some(PathBuf::from(socket))),
        None => (target.trim_end_matches('/'), None),
    };
    let uri: Uri = format!("{base}/{path}")
        .parse()
        .with_context(|| format!("cannot use {target} as a target"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
        bail!("cannot use {target} as a target: give http://HOST:PORT, https://HOST or unix:PATH");
    }
    Ok((uri, socket))
}

/// Region of a function URL.
fn function_region(host: &str) -> Option<&str> {
    host.strip_suffix(".on.aws")?
        .split_once(".lambda-url.")
        .map(|(_, region)| region)
}

/// Adds a signature for Lambda.
async fn signed(
    request: &mut Request<Bytes>,
    region: &str,
    context: &Context,
) -> anyhow::Result<()> {
    let aws = context.aws().await;
    let provider = aws.credentials_provider();
    let provider = provider.context("cannot sign the request: there are no AWS credentials")?;
    let credentials = provider.provide_credentials().await;
    let identity = credentials
        .context(
            "cannot sign the request: the AWS credentials cannot be read; see `aws configure`",
        )?
        .into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("lambda")
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .context("cannot sign the request")?
        .into();
    let uri = request.uri().to_string();
    let headers = text_headers(request.headers());
    let signable = SignableRequest::new(
        request.method().as_str(),
        &uri,
        headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
        SignableBody::Bytes(request.body()),
    );
    let signed = signable.and_then(|signable| sign(signable, &parameters));
    let (instructions, _) = signed.context("cannot sign the request")?.into_parts();
    instructions.apply_to_request_http1x(request);
    Ok(())
}

fn text_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let texts = headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_urls_or_sockets() {
        let (uri, socket) = target("http://127.0.0.1:2774/", "/predict").expect("a URL");
        assert_eq!(
            (uri.to_string().as_str(), socket),
            ("http://127.0.0.1:2774/predict", None)
        );
        let (uri, socket) = target("unix:/tmp/s.sock", "v2").expect("a socket");
        assert_eq!(uri.path(), "/v2");
        assert_eq!(socket, Some("/tmp/s.sock".into()));
        for wrong in ["127.0.0.1:2774", "ftp://x", ""] {
            assert!(target(wrong, "/").is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_region_of_a_function_url_is_in_its_host() {
        let host = "abc123.lambda-url.eu-central-1.on.aws";
        assert_eq!(function_region(host), Some("eu-central-1"));
        assert_eq!(function_region("example.org"), None);
    }
}
