//! Address of a collector.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use http::Uri;
use http::header::HeaderValue;
use http::uri::{PathAndQuery, Scheme};
use tokio::net::TcpStream;

/// Port of a URL without one.
const DEFAULT_PORT: u16 = 80;

/// Address of a collector: an URL with the scheme `http`. Its user and password are dropped, and neither these nor its
/// query is shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Without the brackets of an IPv6 address.
    name: String,
    port: u16,
    /// Value of `Host`.
    pub(super) host: HeaderValue,
    pub(super) target: Uri,
}

impl Endpoint {
    /// Reads a URL, and appends `suffix` to its path. Returns `None` if it is no URL with the scheme `http`.
    pub(super) fn read(url: &str, suffix: &str) -> Option<Self> {
        let url: Uri = url.parse().ok()?;
        let host = url.host().filter(|host| !host.is_empty())?;
        if url.scheme() != Some(&Scheme::HTTP) {
            return None;
        }
        let path = url.path();
        let path = if suffix.is_empty() {
            path.to_owned()
        } else {
            path.trim_end_matches('/').to_owned() + suffix
        };
        let target = match url.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        let target: PathAndQuery = target.parse().ok()?;
        let port = url.port_u16();
        let authority = match port {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Some(Self {
            name: host.trim_matches(['[', ']']).to_owned(),
            port: port.unwrap_or(DEFAULT_PORT),
            host: HeaderValue::try_from(authority).ok()?,
            target: target.into(),
        })
    }

    /// Opens a connection. The name `localhost` needs no look-up.
    pub(super) async fn connect(&self) -> io::Result<TcpStream> {
        if self.name.eq_ignore_ascii_case("localhost") {
            let addresses = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            let addresses = addresses.map(|address| SocketAddr::new(address, self.port));
            return TcpStream::connect(&addresses[..]).await;
        }
        TcpStream::connect((&*self.name, self.port)).await
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.to_str().unwrap_or(&self.name);
        write!(formatter, "http://{host}{}", self.target.path())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read() {
        for (url, suffix, host, target) in [
            (
                "http://localhost:4318",
                "/v1/traces",
                "localhost:4318",
                "/v1/traces",
            ),
            (
                "http://localhost:4318/a/",
                "/v1/traces",
                "localhost:4318",
                "/a/v1/traces",
            ),
            ("http://127.0.0.1:1/x", "", "127.0.0.1:1", "/x"),
            ("HTTP://[::1]", "", "[::1]", "/"),
            (
                "http://user:password@h:1?key=v",
                "/v1/traces",
                "h:1",
                "/v1/traces?key=v",
            ),
        ] {
            let endpoint = Endpoint::read(url, suffix).unwrap();
            assert_eq!(endpoint.host, host, "{url}");
            assert_eq!(endpoint.target, target, "{url}");
            let shown = format!("{endpoint} {endpoint:?}");
            assert!(
                !shown.contains("password") && !shown.contains("key"),
                "{shown}"
            );
        }
        assert_eq!(Endpoint::read("http://[::1]:2", "").unwrap().name, "::1");
    }

    #[test]
    fn other_urls_are_none() {
        for url in [
            "https://h:4318",
            "localhost:4318",
            "/v1",
            "http://",
            "http://:1",
            "",
        ] {
            assert_eq!(Endpoint::read(url, "/v1/traces"), None, "{url}");
        }
    }
}
