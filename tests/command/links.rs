//! Links with a bandwidth and latency in front of the endpoints in the function's configuration.
//! They make the network to S3 and CloudWatch like a function's.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::Context as _;
use http::Uri;
use lab::link::Link;

/// Prefix of the variables with endpoints: `AWS_ENDPOINT_URL`, and one per service with its name
/// appended.
const ENDPOINT: &str = "AWS_ENDPOINT_URL";

/// Creates a link to each endpoint among the variables, and replaces the endpoint with it.
pub(crate) async fn lay(
    variables: &mut [(String, String)],
    bandwidth: Option<u64>,
    latency: Option<Duration>,
) -> anyhow::Result<Vec<Link>> {
    let mut links = Vec::new();
    if bandwidth.is_none() && latency.is_none() {
        return Ok(links);
    }
    for (name, value) in variables {
        if name != ENDPOINT && !name.starts_with(&format!("{ENDPOINT}_")) {
            continue;
        }
        let (target, path) = endpoint(value)
            .with_context(|| format!("cannot set a bandwidth or latency for {name}={value}"))?;
        let link = Link::to(target).await?;
        link.bandwidth(bandwidth);
        link.latency(latency.unwrap_or_default());
        *value = format!("{}{path}", link.url());
        links.push(link);
    }
    anyhow::ensure!(
        !links.is_empty(),
        "--bandwidth and --latency are for the endpoints that --env {ENDPOINT}=… or --env \
         {ENDPOINT}_S3=… name, and none is named"
    );
    Ok(links)
}

fn endpoint(url: &str) -> anyhow::Result<(SocketAddr, String)> {
    let uri: Uri = url.parse()?;
    anyhow::ensure!(
        uri.scheme_str() == Some("http"),
        "only http URLs are supported, not TLS"
    );
    let host = uri.host().context("the URL has no host")?;
    let port = uri.port_u16().unwrap_or(80);
    let mut addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs()?;
    let address = addresses.next().context("the host has no address")?;
    Ok((address, uri.path().trim_end_matches('/').to_owned()))
}

#[test]
fn an_endpoint_is_an_http_url() {
    let parts = endpoint("http://127.0.0.1:9001/base/").ok();
    let address = SocketAddr::from(([127, 0, 0, 1], 9001));
    assert_eq!(parts, Some((address, "/base".to_owned())));
    assert!(endpoint("https://127.0.0.1").is_err());
    assert!(endpoint("127.0.0.1").is_err());
}
