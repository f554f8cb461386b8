//! HTTP proxies for AWS services: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, with the semantics of curl.
//!
//! A TLS connection goes through a tunnel (`CONNECT`); a plain HTTP request is forwarded by the proxy. Loopback and
//! link-local addresses never use a proxy: they are endpoints of developers or credential providers. The clients of the
//! Runtime and Extensions APIs are separate and use no proxy.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use aws_smithy_runtime_api::box_error::BoxError;
use http::uri::Scheme;
use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;
use tracing::warn;

/// Proxies of this environment; usually none.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies(Option<Arc<Matcher>>);

impl Proxies {
    /// Reads the proxies from variables in upper or lower case. Only proxies over plain HTTP are supported; any other
    /// is logged and ignored.
    pub(super) fn of<'v>(variable: impl Fn(&str) -> Option<&'v str>) -> Self {
        let value = |name: &str| {
            let value = variable(name).or_else(|| variable(&name.to_ascii_lowercase()));
            value.unwrap_or_default()
        };
        let proxy = |name: &str| {
            let value = value(name);
            let is_usable = value.is_empty() || is_usable(value);
            if !is_usable {
                warn!(
                    "{name} is ignored: it must be http://HOST:PORT or http://USER:PASSWORD@HOST:PORT"
                );
            }
            if is_usable { value } else { "" }
        };
        let [all, http, https] = ["ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"].map(proxy);
        if all.is_empty() && http.is_empty() && https.is_empty() {
            return Self::default();
        }
        let matcher = Matcher::builder().all(all);
        let matcher = matcher.http(http).https(https);
        Self(Some(Arc::new(matcher.no(value("NO_PROXY")).build())))
    }

    /// Returns the proxy for an address, if any.
    fn proxy_for(&self, to: &Uri) -> Option<Intercept> {
        let matcher = self.0.as_ref()?;
        let is_remote = to.host().is_some_and(|host| !is_local(host));
        matcher.intercept(to).filter(|_| is_remote)
    }

    /// Returns the `Proxy-Authorization` header of a plain HTTP request that a proxy forwards.
    pub(super) fn authorization(&self, to: &Uri) -> Option<HeaderValue> {
        let proxy = self.proxy_for(to)?;
        let is_plain = to.scheme() == Some(&Scheme::HTTP);
        proxy.basic_auth().filter(|_| is_plain).cloned()
    }
}

fn is_usable(proxy: &str) -> bool {
    let matcher = Matcher::builder().all(proxy).build();
    let proxy = matcher.intercept(&Uri::from_static("https://aws"));
    proxy.is_some_and(|proxy| proxy.uri().scheme() == Some(&Scheme::HTTP))
}

/// Returns `true` for loopback and link-local hosts, and for EKS's credential provider.
fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            // EKS Pod Identity.
            let is_credentials = address.segments()[..2] == [0xfd00, 0x0ec2];
            address.is_loopback() || address.is_unicast_link_local() || is_credentials
        }
        Err(_) => {
            let name = host.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

/// TCP connector that uses a proxy if one is configured.
#[derive(Clone, Debug)]
pub(super) struct ProxyConnector {
    tcp: HttpConnector,
    proxies: Proxies,
}

impl ProxyConnector {
    pub(super) fn new(tcp: HttpConnector, proxies: Proxies) -> Self {
        Self { tcp, proxies }
    }
}

/// Error of a connection through a proxy.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect through the proxy {proxy} (set by HTTPS_PROXY, HTTP_PROXY or ALL_PROXY)")]
struct ProxyError {
    proxy: Uri,
    source: BoxError,
}

impl Service<Uri> for ProxyConnector {
    type Response = ProxiedStream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<ProxiedStream, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Some(intercept) = self.proxies.proxy_for(&to) else {
            let connecting = self.tcp.call(to);
            return Box::pin(async move {
                Ok(ProxiedStream {
                    tcp: connecting.await?,
                    is_forwarded: false,
                })
            });
        };
        let proxy = intercept.uri().clone();
        let is_forwarded = to.scheme() == Some(&Scheme::HTTP);
        let failed = |proxy, source| ProxyError { proxy, source };
        if is_forwarded {
            let connecting = self.tcp.call(proxy.clone());
            return Box::pin(async move {
                let tcp = connecting.await;
                let tcp = tcp.map_err(|error| failed(proxy, error.into()))?;
                Ok(ProxiedStream { tcp, is_forwarded })
            });
        }
        let mut tunnel = Tunnel::new(proxy.clone(), self.tcp.clone());
        if let Some(authorization) = intercept.basic_auth() {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        let connecting = tunnel.call(to);
        Box::pin(async move {
            let tcp = connecting.await;
            let tcp = tcp.map_err(|error| failed(proxy, error.into()))?;
            Ok(ProxiedStream { tcp, is_forwarded })
        })
    }
}

/// TCP connection to the host, through a tunnel, or to a forwarding proxy.
#[derive(Debug)]
pub(super) struct ProxiedStream {
    tcp: TokioIo<TcpStream>,
    is_forwarded: bool,
}

impl Connection for ProxiedStream {
    fn connected(&self) -> Connected {
        self.tcp.connected().proxy(self.is_forwarded)
    }
}

impl Read for ProxiedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buffer)
    }
}

impl Write for ProxiedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, buffers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &'static str)]) -> Proxies {
        Proxies::of(|name| {
            let mut set = variables.iter();
            set.find(|(set, _)| *set == name).map(|(_, value)| *value)
        })
    }

    fn proxy_for(proxies: &Proxies, to: &'static str) -> Option<String> {
        let proxy = proxies.proxy_for(&Uri::from_static(to))?;
        proxy.uri().authority().map(ToString::to_string)
    }

    const S3: &str = "https://b.s3.eu-central-1.amazonaws.com/k";

    #[test]
    fn each_variable_sets_the_proxy_of_its_scheme() {
        let none = proxies(&[]);
        assert!(none.0.is_none() && proxy_for(&none, S3).is_none());
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            let proxies = proxies(&[(name, "http://u:p@proxy:3128")]);
            assert_eq!(
                proxy_for(&proxies, S3).as_deref(),
                Some("proxy:3128"),
                "{name}"
            );
        }
        let clear = proxies(&[("HTTP_PROXY", "proxy:3128")]);
        assert_eq!(proxy_for(&clear, S3), None);
        let minio = "http://minio.internal:9000/k";
        assert_eq!(proxy_for(&clear, minio).as_deref(), Some("proxy:3128"));
    }

    #[test]
    fn local_and_excepted_hosts_use_no_proxy() {
        let proxies = proxies(&[
            ("ALL_PROXY", "http://proxy:3128"),
            ("NO_PROXY", "internal, .example.com,10.0.0.0/8"),
        ]);
        for local in [
            "http://127.0.0.1:9000/",
            "http://127.8.9.1/",
            "https://localhost/",
            "http://s3.localhost:4566/",
            "http://[::1]:9000/",
            "http://169.254.170.2/v2/credentials",
            "http://169.254.170.23/v1/credentials",
            "http://169.254.169.254/latest",
            "http://[fd00:ec2::23]/v1/credentials",
            "http://[fe80::1]/",
            "https://minio.internal/",
            "https://s3.example.com/",
            "https://10.1.2.3/",
        ] {
            assert_eq!(proxy_for(&proxies, local), None, "{local}");
        }
        for remote in [
            S3,
            "https://192.168.1.1/",
            "https://notinternal/",
            "https://localhost.com/",
        ] {
            assert!(proxy_for(&proxies, remote).is_some(), "{remote}");
        }
    }

    #[test]
    fn an_unsupported_proxy_is_ignored() {
        for value in [
            "socks5://proxy:1080",
            "https://proxy:443",
            "http://",
            "not a proxy",
        ] {
            let proxies = proxies(&[("HTTPS_PROXY", value)]);
            assert_eq!(proxy_for(&proxies, S3), None, "{value}");
        }
    }

    #[test]
    fn only_a_plain_request_is_authorized_at_the_proxy() {
        let proxies = proxies(&[("ALL_PROXY", "http://user:pass@proxy:3128")]);
        let header = |to| proxies.authorization(&Uri::from_static(to));
        let authorization = header("http://minio.internal:9000/k").unwrap();
        assert_eq!(authorization, "Basic dXNlcjpwYXNz");
        assert_eq!(header(S3), None);
        assert_eq!(header("http://127.0.0.1:9000/k"), None);
    }
}
