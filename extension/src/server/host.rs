//! Check of `Host` for requests over TCP, on a machine that may run a browser.
//!
//! Protects from DNS rebinding: a website can make a browser send requests to 127.0.0.1 under the site's name, once the
//! name resolves to this machine. Such requests have the site's name in `Host`. On Lambda there is no browser, and a
//! browser cannot open a Unix socket.

use std::net::{IpAddr, Ipv6Addr};

use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Version};

use super::error::ApiError;
use super::inbound_body::InboundBody;

/// Transport of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// Unix socket.
    Unix,
    /// Loopback TCP.
    Tcp,
    /// None: the handler runs in this process.
    InProcess,
}

/// Checks that a request names this machine, and not a website.
pub(super) fn check(request: &Request<InboundBody>) -> Result<(), ApiError> {
    // In the absolute form of requests to a proxy, the URI names the host.
    if let Some(authority) = request.uri().authority()
        && !is_this_machine(authority.as_str())
    {
        return Err(ApiError::ForeignHost(authority.to_string()));
    }
    let mut hosts = request.headers().get_all(HOST).iter().peekable();
    if hosts.peek().is_none() && request.version() > Version::HTTP_10 {
        return Err(ApiError::ForeignHost(String::new()));
    }
    let text = |host: &HeaderValue| String::from_utf8_lossy(host.as_bytes()).into_owned();
    let is_ours = |host: &&HeaderValue| host.to_str().is_ok_and(is_this_machine);
    match hosts.find(|host| !is_ours(host)) {
        None => Ok(()),
        Some(other) => Err(ApiError::ForeignHost(text(other))),
    }
}

/// Returns `true` if `host`, with or without a port, can only be this machine.
fn is_this_machine(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            let is_loopback = address.parse() == Ok(Ipv6Addr::LOCALHOST);
            return is_loopback && (port.is_empty() || is_port(port.strip_prefix(':')));
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let is_ours = name.eq_ignore_ascii_case("localhost")
        || name
            .parse()
            .is_ok_and(|address: IpAddr| address.is_ipv4() && address.is_loopback());
    is_ours && (port.is_none() || is_port(port))
}

fn is_port(port: Option<&str>) -> bool {
    port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_accepted() {
        for host in [
            "localhost",
            "LocalHost:2774",
            "127.0.0.1",
            "127.0.0.1:2774",
            "127.255.0.9:1",
            "[::1]",
            "[::1]:2774",
            "[0:0:0:0:0:0:0:1]:2774",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "",
            ":2774",
            "evil.example",
            "evil.example:2774",
            "localhost.evil.example",
            "localhost@evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1:2774.evil.example",
            "127.1",
            "2130706433",
            "0.0.0.0",
            "10.0.0.1",
            "::1",
            "[::1",
            "[::1]evil",
            "[::2]:2774",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
