//! Ports for processes that must be told a number.
//!
//! A port that is found free and then let go can be taken by anyone before the process binds it: by another test, or by
//! the kernel for an outgoing connection. So ports come from a range below the one the kernel takes from, and each is
//! leased by an abstract Unix socket whose name holds the number. Such a name is unique in a network namespace, as the
//! port is, among the processes of all users, and goes with the process that dies. Processes that do not ask the lab
//! are outside the agreement; a port on which one of them listens is passed over.

use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below Linux's ephemeral ports, which begin at 32768.
pub(crate) const RANGE: Range<u16> = 20_000..32_000;

/// No port could be leased.
#[derive(Debug, thiserror::Error)]
#[error("no free port from {} to {}: each is in use or leased", RANGE.start, RANGE.end - 1)]
pub struct NoFreePort;

/// A port of 127.0.0.1 that is this value's alone until it is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lease: UnixListener,
}

impl Port {
    /// Leases a port on which nobody listens.
    ///
    /// # Errors
    /// [`NoFreePort`] when the whole range is taken.
    pub fn lease() -> Result<Self, NoFreePort> {
        // Where the search begins: apart for processes and moving on within one, so that leases
        // rarely try a port that another holds.
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let size = RANGE.end - RANGE.start;
        let process = u16::try_from(std::process::id() % u32::from(size)).unwrap_or_default();
        for _ in 0..size {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + u32::from(process) * 17;
            let number = RANGE.start + u16::try_from(step % u32::from(size)).unwrap_or_default();
            let Ok(lease) = take(number) else {
                continue;
            };
            // Tried by connecting: a socket that listened for a moment would go on listening in
            // a process that another thread forks at that moment, until that one has begun its program.
            if TcpStream::connect((Ipv4Addr::LOCALHOST, number)).is_err() {
                return Ok(Self {
                    number,
                    _lease: lease,
                });
            }
        }
        Err(NoFreePort)
    }

    /// The number to bind.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Takes the name that stands for a port; fails while another process or thread has it.
fn take(number: u16) -> io::Result<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("model-sidecar-lab-port-{number}"))?;
    UnixListener::bind_addr(&name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn leases_held_at_once_differ_and_can_be_bound() {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(|| -> Vec<Port> {
                    (0..50).map(|_| Port::lease().unwrap()).collect()
                })
            })
            .collect();
        let ports: Vec<Port> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        let numbers: HashSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), 400);
        for port in &ports {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).unwrap();
        }
    }

    #[test]
    fn a_lease_keeps_others_out_until_it_is_dropped() {
        let port = Port::lease().unwrap();
        assert!(take(port.number()).is_err());
        let number = port.number();
        drop(port);
        take(number).unwrap();
    }
}
