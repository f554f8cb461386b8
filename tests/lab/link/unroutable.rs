//! An address from which nothing comes back: a listener whose queue is full, for which Linux
//! drops every further request to connect without a word.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Connecting to [`Self::address`] does not end as long as this value lives, but by the patience
/// of the one who tries.
#[derive(Debug)]
pub struct Unroutable {
    address: SocketAddr,
    _never_accepts: TcpListener,
    /// Fills the queue, which has one place more than it is given.
    _in_its_queue: TcpStream,
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
            _in_its_queue: TcpStream::connect(address).await?,
        })
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as the root of URLs.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
