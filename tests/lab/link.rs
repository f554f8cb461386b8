//! A network link to put between an environment and a server: a relay on loopback with a set
//! bandwidth and latency, whose connections can be cut, refused or swallowed.
//!
//! - The **bandwidth** is for each direction, and shared by all connections, as a function's is.
//! - The **latency** is added to each direction, so a round trip takes twice as much more.
//! - **Cut** connections are reset on both sides, as by a load balancer that has forgotten them.
//! - In a **black hole** nothing arrives any more and nobody is told, ends and resets included:
//!   what dies in silence, as a connection does whose far side was gone when a freeze ended. As
//!   TCP sends again what was lost, all of it arrives once the black hole is gone.
//! - While connections are **refused** nobody listens.
//! - [`Link::unroutable`] is an address from which not even a refusal comes: an endpoint of AWS
//!   in a VPC that has no way there.
//!
//! Everything takes effect at once on what is under way. It moves bytes and looks at none.

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

mod bandwidth;
mod relay;
mod unroutable;

pub(crate) use bandwidth::Bandwidth;
pub use unroutable::Unroutable;

/// A link could not be laid.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no port for it.
    #[error(transparent)]
    NoFreePort(#[from] NoFreePort),
    /// Its port may not be bound.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Bind {
        /// The port.
        port: u16,
        /// What the system answered.
        source: io::Error,
    },
}

/// A link to one server. Its connections end with it.
#[derive(Debug)]
pub struct Link {
    port: Port,
    settings: Arc<Settings>,
    /// Accepts connections; none while they are refused.
    acceptor: AsyncMutex<Option<JoinHandle<()>>>,
}

/// What all connections go by, as it is at any moment.
#[derive(Debug)]
struct Settings {
    target: SocketAddr,
    latency: Mutex<Duration>,
    up: Lane,
    down: Lane,
    black_hole: watch::Sender<bool>,
    /// Counts the cuts.
    cut: watch::Sender<u64>,
    open: watch::Sender<usize>,
    accepted: AtomicUsize,
}

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    bandwidth: Mutex<Option<Arc<Bandwidth>>>,
    delivered: AtomicU64,
}

impl Link {
    /// Lays a link to a server, without limits as yet. To be called within a runtime, on which
    /// the link lives.
    ///
    /// # Errors
    /// [`LinkError`] when it can have no port.
    pub async fn to(target: SocketAddr) -> Result<Self, LinkError> {
        let link = Self {
            port: Port::lease()?,
            settings: Arc::new(Settings {
                target,
                latency: Mutex::default(),
                up: Lane::default(),
                down: Lane::default(),
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

    /// An address on which connecting never ends.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn unroutable() -> io::Result<Unroutable> {
        Unroutable::new().await
    }

    /// Where to connect in place of the server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port.number()).into()
    }

    /// The same as the root of URLs.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Lets so many bytes a second pass in each direction; `None` for any number.
    pub fn bandwidth(&self, bytes_per_second: impl Into<Option<u64>>) {
        let bytes_per_second = bytes_per_second.into();
        for lane in [&self.settings.up, &self.settings.down] {
            *lock(&lane.bandwidth) = bytes_per_second.map(|rate| Arc::new(Bandwidth::new(rate)));
        }
    }

    /// Delays each byte by this much, in each direction.
    pub fn latency(&self, latency: Duration) {
        *lock(&self.settings.latency) = latency;
    }

    /// Resets every connection that stands, on both sides.
    pub fn cut(&self) {
        self.settings.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Swallows all that is sent, or delivers it again.
    pub fn black_hole(&self, on: bool) {
        self.settings.black_hole.send_replace(on);
    }

    /// Refuses new connections, or takes them again; those that stand are not touched.
    ///
    /// # Errors
    /// [`LinkError::Bind`] when the port cannot be had again.
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

    /// How many connections stand.
    #[must_use]
    pub fn connections(&self) -> usize {
        *self.settings.open.borrow()
    }

    /// Waits until so many stand.
    ///
    /// # Errors
    /// [`NotSeen`] when it does not come to that within [`WAIT_LIMIT`].
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

    /// How many connections there have been.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.settings.accepted.load(Ordering::Relaxed)
    }

    /// How many bytes have been delivered, both directions together.
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

async fn accept(listener: TcpListener, settings: Arc<Settings>) {
    loop {
        // An error is the connection's: it was gone before it could be taken.
        if let Ok((client, _)) = listener.accept().await {
            settings.accepted.fetch_add(1, Ordering::Relaxed);
            // Counted from here on, not from when the task first runs.
            let open = Open::new(&settings);
            let cut = settings.cut.subscribe();
            tokio::spawn(async move {
                relay::run(client, &open.0, cut).await;
            });
        }
    }
}

/// A connection that counts as standing.
struct Open(Arc<Settings>);

impl Open {
    fn new(settings: &Arc<Settings>) -> Self {
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
