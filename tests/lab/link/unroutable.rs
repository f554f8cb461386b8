//! An address that never responds: a listener with a full backlog, for which Linux silently drops
//! further connection requests.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connecting to [`Self::address`] does not complete while this value exists; only the client's own
/// timeout ends the attempt.
#[derive(Debug)]
pub struct Unroutable {
    address: SocketAddr,
    _never_accepts: TcpListener,
    /// Fills the backlog, which has one more slot than its configured size.
    _backlog_filler: TcpStream,
}

impl Unroutable {
    pub(super) async fn new() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let listener = socket.listen(0)?;
        let address = listener.local_addr()?;
        Ok(Self {
            address,
            _never_accepts: listener,
            _backlog_filler: TcpStream::connect(address).await?,
        })
    }

    /// Address to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// URL of the address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
