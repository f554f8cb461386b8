//! Ports for processes that need a fixed port number.
//!
//! A port that is found free and released can be taken before the process binds it. Another test
//! may bind it, or the kernel may use it for an outgoing connection. Ports therefore come from a
//! range below the kernel's ephemeral ports, and each is leased by an abstract Unix socket whose
//! name contains the number. Such a name is unique in a network namespace among the processes of
//! all users, as the port is. It is released when the process ends. Processes outside the lab do
//! not take part; a port on which one of them listens is skipped.

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

/// A port of 127.0.0.1, reserved until the value is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lease: UnixListener,
}

impl Port {
    /// Leases a port on which nothing listens.
    ///
    /// # Errors
    /// [`NoFreePort`] if the whole range is taken.
    pub fn lease() -> Result<Self, NoFreePort> {
        // Start of the search: different for each process and advancing within one, so that leases
        // rarely try a taken port.
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let size = RANGE.end - RANGE.start;
        let process = u16::try_from(std::process::id() % u32::from(size)).unwrap_or_default();
        for _ in 0..size {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + u32::from(process) * 17;
            let number = RANGE.start + u16::try_from(step % u32::from(size)).unwrap_or_default();
            let Ok(lease) = take(number) else {
                continue;
            };
            // Probed by connecting. A probe by binding could leave the port open for a moment in a
            // process that another thread forks concurrently.
            if TcpStream::connect((Ipv4Addr::LOCALHOST, number)).is_err() {
                return Ok(Self {
                    number,
                    _lease: lease,
                });
            }
        }
        Err(NoFreePort)
    }

    /// Port number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

/// Binds the name that represents a port; fails while another process or thread holds it.
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
