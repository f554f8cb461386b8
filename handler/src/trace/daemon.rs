//! Connection to the X-Ray daemon: one UDP datagram for each document.
//!
//! Source: <https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html>.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::OnceLock;

use serde::Serialize;

/// First line of a datagram.
const HEADER: &[u8] = b"{\"format\":\"json\",\"version\":1}\n";

/// Address of the daemon, and the socket to it.
#[derive(Debug)]
pub(super) struct Daemon {
    address: SocketAddr,
    /// `None` inside if it cannot be opened.
    socket: OnceLock<Option<UdpSocket>>,
}

impl Daemon {
    /// Reads an address: `IP:PORT`, or `tcp:IP:PORT udp:IP:PORT`. Nothing is opened before the first datagram.
    pub(super) fn at(address: &str) -> Option<Self> {
        let udp = address
            .split_whitespace()
            .find_map(|part| part.strip_prefix("udp:"));
        Some(Self {
            address: udp.unwrap_or(address).trim().parse().ok()?,
            socket: OnceLock::new(),
        })
    }

    /// Sends a document; it is lost if the socket's buffer is full.
    pub(super) fn send(&self, document: &impl Serialize) {
        let mut datagram = Vec::with_capacity(1024);
        datagram.extend_from_slice(HEADER);
        if serde_json::to_writer(&mut datagram, document).is_err() {
            return;
        }
        let Some(socket) = self.socket.get_or_init(|| open(self.address).ok()) else {
            return;
        };
        // Not connected, so that an error of an earlier datagram is not returned for this one.
        if let Err(problem) = socket.send_to(&datagram, self.address) {
            tracing::debug!(
                "cannot send a trace to the X-Ray daemon on {}: {problem}",
                self.address
            );
        }
    }
}

/// Opens a socket whose calls never wait.
fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let any = match address {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_address_are_read() {
        for (text, expected) in [
            ("169.254.79.129:2000", Some("169.254.79.129:2000")),
            (
                "tcp:127.0.0.1:2000 udp:127.0.0.2:2001",
                Some("127.0.0.2:2001"),
            ),
            (
                "udp:127.0.0.2:2001 tcp:127.0.0.1:2000",
                Some("127.0.0.2:2001"),
            ),
            ("[::1]:2000", Some("[::1]:2000")),
            ("xray-daemon:2000", None),
            ("127.0.0.1", None),
            ("", None),
        ] {
            let daemon = Daemon::at(text);
            let address = daemon.map(|daemon| daemon.address.to_string());
            assert_eq!(address.as_deref(), expected, "{text}");
        }
    }
}
