//! A network link between an environment and a server: a relay on loopback with a set bandwidth and
//! latency, and faults of connections.
//!
//! - The **bandwidth** applies to each direction and is shared by all connections, as a function's
//!   is.
//! - The **latency** is added to each direction, so a round trip gets twice as much.
//! - **Cut** connections are reset on both sides, as by a load balancer that has dropped their
//!   state.
//! - A **black hole** drops everything silently, closes and resets included, like a connection
//!   whose peer vanished during a freeze. All data arrive once the black hole ends, as by TCP's
//!   retransmission.
//! - While connections are **refused** the port is closed.
//! - [`Link::unroutable`] is an address that drops connection requests, like an endpoint of AWS in
//!   a VPC without a route.
//!
//! Every change applies at once to the data in transit. The link does not inspect the data.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinHandle;

use crate::WAIT_LIMIT;
use crate::ports::{NoFreePort, Port};
use crate::records::NotSeen;
use crate::s3::S3Server;

mod bandwidth;
mod relay;
mod unroutable;

pub(crate) use bandwidth::Bandwidth;
pub use unroutable::Unroutable;

/// Lambda's bandwidth of an environment: 625 Mbit/s, in bytes per second.
const ENVIRONMENT_BANDWIDTH: u64 = 625_000_000 / 8;
/// Latency of a direction between an environment and S3: 30 ms for a round trip.
const ENVIRONMENT_LATENCY: Duration = Duration::from_millis(15);

/// A link could not be created.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No port is available.
    #[error(transparent)]
    NoFreePort(#[from] NoFreePort),
    /// The port could not be bound.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Bind {
        /// The port.
        port: u16,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// A link to one server. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Link {
    port: Port,
    settings: Arc<LinkSettings>,
    /// Task that accepts connections; `None` while they are refused.
    acceptor: AsyncMutex<Option<JoinHandle<()>>>,
}

/// Current settings, shared by all connections.
#[derive(Debug)]
struct LinkSettings {
    target: SocketAddr,
    latency: Mutex<Duration>,
    up: Direction,
    down: Direction,
    black_hole: watch::Sender<bool>,
    /// Number of cuts.
    cut: watch::Sender<u64>,
    open: watch::Sender<usize>,
    accepted: AtomicUsize,
}

/// One direction of a link.
#[derive(Debug, Default)]
struct Direction {
    bandwidth: Mutex<Option<Arc<Bandwidth>>>,
    delivered: AtomicU64,
}

impl Link {
    /// Creates a link to a server, without limits. Requires a Tokio runtime, on which the link
    /// runs.
    ///
    /// # Errors
    /// [`LinkError`] if no port is available.
    pub async fn to(target: SocketAddr) -> Result<Self, LinkError> {
        let link = Self {
            port: Port::lease()?,
            settings: Arc::new(LinkSettings {
                target,
                latency: Mutex::default(),
                up: Direction::default(),
                down: Direction::default(),
                black_hole: watch::Sender::new(false),
                cut: watch::Sender::new(0),
                open: watch::Sender::new(0),
                accepted: AtomicUsize::new(0),
            }),
            acceptor: AsyncMutex::new(None),
        };
        link.refuse(false).await?;
        Ok(link)
    }

    /// Creates a link to S3 on this machine, without limits.
    ///
    /// # Errors
    /// [`LinkError`] if no port is available.
    pub async fn to_s3(s3: &S3Server) -> Result<Self, LinkError> {
        Self::to((Ipv4Addr::LOCALHOST, s3.port()).into()).await
    }

    /// Creates a link like an execution environment's to S3, which is on this machine. Each
    /// direction has 625 Mbit/s, and a round trip takes 30 ms.
    ///
    /// # Errors
    /// [`LinkError`] if no port is available.
    pub async fn of_environment(s3: &S3Server) -> Result<Self, LinkError> {
        let link = Self::to_s3(s3).await?;
        link.bandwidth(ENVIRONMENT_BANDWIDTH);
        link.latency(ENVIRONMENT_LATENCY);
        Ok(link)
    }

    /// Returns an address to which connecting never completes.
    ///
    /// # Errors
    /// If it cannot be set up.
    pub async fn unroutable() -> io::Result<Unroutable> {
        Unroutable::new().await
    }

    /// Address to use in place of the server's.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// URL to use in place of the server's.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// URL to use in place of that of this S3, with TLS if S3 has it.
    #[must_use]
    pub fn url_of(&self, s3: &S3Server) -> String {
        match s3.authority() {
            Some(_) => format!("https://{}", self.address()),
            None => self.url(),
        }
    }

    /// Limits each direction to this many bytes per second; `None` removes the limit.
    pub fn bandwidth(&self, bytes_per_second: impl Into<Option<u64>>) {
        let bytes_per_second = bytes_per_second.into();
        for lane in [&self.settings.up, &self.settings.down] {
            *lock(&lane.bandwidth) = bytes_per_second.map(|rate| Arc::new(Bandwidth::new(rate)));
        }
    }

    /// Delays each byte by this duration, in each direction.
    pub fn latency(&self, latency: Duration) {
        *lock(&self.settings.latency) = latency;
    }

    /// Resets every open connection on both sides.
    pub fn cut(&self) {
        self.settings.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Drops all data, or delivers them again.
    pub fn black_hole(&self, on: bool) {
        self.settings.black_hole.send_replace(on);
    }

    /// Refuses new connections, or accepts them again; open connections are not affected.
    ///
    /// # Errors
    /// [`LinkError::Bind`] if the port cannot be bound again.
    pub async fn refuse(&self, on: bool) -> Result<(), LinkError> {
        let mut acceptor = self.acceptor.lock().await;
        match (acceptor.take(), on) {
            (Some(running), true) => {
                running.abort();
                let _ = running.await;
            }
            (None, false) => {
                let listener = TcpListener::bind(self.address()).await;
                let listener = listener.map_err(|source| LinkError::Bind {
                    port: self.port.number(),
                    source,
                })?;
                *acceptor = Some(tokio::spawn(accept(listener, Arc::clone(&self.settings))));
            }
            (as_it_is, _) => *acceptor = as_it_is,
        }
        Ok(())
    }

    /// Number of open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        *self.settings.open.borrow()
    }

    /// Waits until this number of connections is open.
    ///
    /// # Errors
    /// [`NotSeen`] if that does not happen within [`WAIT_LIMIT`].
    pub async fn wait_for_connections(&self, count: usize) -> Result<(), NotSeen> {
        let mut open = self.settings.open.subscribe();
        let wait = open.wait_for(|open| *open == count);
        match tokio::time::timeout(WAIT_LIMIT, wait).await {
            Ok(_) => Ok(()),
            Err(_) => Err(NotSeen::new(
                &format!("{count} connections on the link"),
                &self.connections().to_string(),
            )),
        }
    }

    /// Number of connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.settings.accepted.load(Ordering::Relaxed)
    }

    /// Number of bytes delivered, both directions together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let lanes = [&self.settings.up, &self.settings.down];
        lanes
            .map(|lane| lane.delivered.load(Ordering::Relaxed))
            .iter()
            .sum()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(acceptor) = self.acceptor.get_mut() {
            acceptor.abort();
        }
        self.cut();
    }
}

async fn accept(listener: TcpListener, settings: Arc<LinkSettings>) {
    loop {
        // An accept error concerns one connection, which was closed before it was accepted.
        if let Ok((client, _)) = listener.accept().await {
            settings.accepted.fetch_add(1, Ordering::Relaxed);
            // Counted here and not when the task first runs.
            let open = Open::new(&settings);
            let cut = settings.cut.subscribe();
            tokio::spawn(async move {
                relay::run(client, &open.0, cut).await;
            });
        }
    }
}

/// Counts one open connection.
struct Open(Arc<LinkSettings>);

impl Open {
    fn new(settings: &Arc<LinkSettings>) -> Self {
        settings.open.send_modify(|open| *open += 1);
        Self(Arc::clone(settings))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
