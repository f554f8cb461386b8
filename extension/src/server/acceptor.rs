//! Serving threads, and the distribution of connections among them.
//!
//! The threads are dedicated, so that background work never delays a request.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tracing::warn;

use super::connection;
use super::context::{ServerContext, stopped};
use super::host::Transport;
use super::limits::MAX_CONNECTIONS;
use super::listen::Listeners;

/// Part of the grace period that is reserved for error responses to the remaining requests.
const REJECTION_TIME: Duration = Duration::from_millis(100);
/// Pause of a listener after an error, such as a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Handle of a running server.
pub struct ServerHandle(mpsc::Receiver<Infallible>);

impl ServerHandle {
    /// Waits until all serving threads have ended.
    pub async fn ended(&mut self) {
        while self.0.recv().await.is_some() {}
    }
}

/// Starts a server with this number of threads, at least one. When `stop` becomes `true` or its sender is dropped,
/// running requests may finish for at most `grace`; the rest get an error response. Must be called within a runtime.
///
/// # Errors
/// The system's error if a thread or its runtime cannot be created.
pub fn start(
    listeners: Listeners,
    context: &Arc<ServerContext>,
    threads: usize,
    stop: watch::Receiver<bool>,
    grace: Duration,
) -> io::Result<ServerHandle> {
    if let Some(ticks) = context.idle_ticks() {
        tokio::spawn(ticks.send());
    }
    // Never used to send: the channel closes once the last thread drops its sender.
    let (alive, ended) = mpsc::channel(1);
    let mut inboxes = Vec::new();
    let mut inbox = || {
        let (connections, inbox) = mpsc::unbounded_channel();
        let load = Arc::new(());
        inboxes.push(ThreadInbox { connections, load });
        inbox
    };
    for _ in 1..threads {
        let (alive, inbox, context) = (alive.clone(), inbox(), Arc::clone(context));
        let runtime = runtime()?;
        serving_thread().spawn(move || {
            runtime.block_on(serve(inbox, context, grace));
            drop(alive);
        })?;
    }
    // The last thread also accepts the connections of all threads.
    let (inbox, context, runtime) = (inbox(), Arc::clone(context), runtime()?);
    let inside = runtime.enter();
    let unix = UnixListener::from_std(listeners.unix)?;
    let tcp = listeners.tcp.map(TcpListener::from_std).transpose()?;
    drop(inside);
    let acceptor = Acceptor {
        threads: inboxes,
        slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    };
    serving_thread().spawn(move || {
        let accepting = async {
            tokio::select! {
                () = stopped(stop) => {}
                () = acceptor.accept_unix(&unix) => {}
                () = acceptor.accept_tcp(tcp.as_ref()) => {}
            }
            // Closes the sockets, and the inboxes of all threads.
            drop((unix, tcp, acceptor));
        };
        runtime.block_on(async { tokio::join!(accepting, serve(inbox, context, grace)) });
        drop(alive);
    })?;
    Ok(ServerHandle(ended))
}

fn serving_thread() -> thread::Builder {
    thread::Builder::new().name("serve".to_owned())
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Serves the connections of one thread. Once its inbox is closed, lets running requests finish.
async fn serve(
    mut inbox: mpsc::UnboundedReceiver<AcceptedConnection>,
    context: Arc<ServerContext>,
    grace: Duration,
) {
    let connections = GracefulShutdown::new();
    while let Some(AcceptedConnection { socket, slot }) = inbox.recv().await {
        let transport = socket.transport();
        let stream = match socket.into_stream() {
            Ok(stream) => stream,
            Err(error) => {
                warn!("cannot accept a connection: {error}");
                continue;
            }
        };
        let connection =
            connections.watch(connection::serve(stream, transport, Arc::clone(&context)));
        tokio::spawn(async move {
            // An error, such as a broken connection, concerns this peer only.
            let _ = connection.await;
            drop(slot);
        });
    }
    let ended = connections.shutdown();
    tokio::pin!(ended);
    let time = grace.saturating_sub(REJECTION_TIME);
    if tokio::time::timeout(time, &mut ended).await.is_err() {
        context.reject_requests();
        let _ = tokio::time::timeout(REJECTION_TIME, ended).await;
    }
}

/// Connection on its way to a serving thread.
struct AcceptedConnection {
    socket: AcceptedSocket,
    slot: ConnectionSlot,
}

/// Permit of one of [`MAX_CONNECTIONS`] connections, and its share of the thread's load. Held while the connection is
/// open.
type ConnectionSlot = (OwnedSemaphorePermit, Arc<()>);

/// Socket that is not registered with a runtime.
enum AcceptedSocket {
    Unix(std::os::unix::net::UnixStream),
    Tcp(std::net::TcpStream),
}

/// Stream of either transport. Used as a trait object, so that the binary contains the HTTP code once.
trait ConnectionStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ConnectionStream for S {}

impl AcceptedSocket {
    fn transport(&self) -> Transport {
        match self {
            AcceptedSocket::Unix(_) => Transport::Unix,
            AcceptedSocket::Tcp(_) => Transport::Tcp,
        }
    }

    /// Registers the socket with the runtime of this thread.
    fn into_stream(self) -> io::Result<Box<dyn ConnectionStream>> {
        match self {
            AcceptedSocket::Unix(stream) => Ok(Box::new(model_socket::Stream::try_from(stream)?)),
            AcceptedSocket::Tcp(stream) => {
                // Without Nagle's algorithm, which would delay small responses.
                let _ = stream.set_nodelay(true);
                Ok(Box::new(TcpStream::from_std(stream)?))
            }
        }
    }
}

/// Inbox of one serving thread.
struct ThreadInbox {
    connections: mpsc::UnboundedSender<AcceptedConnection>,
    /// Reference count: each connection of the thread holds a clone.
    load: Arc<()>,
}

/// Accepts connections and assigns them to threads.
struct Acceptor {
    threads: Vec<ThreadInbox>,
    slots: Arc<Semaphore>,
}

impl Acceptor {
    async fn accept_unix(&self, listener: &UnixListener) {
        while let Some(permit) = self.permit().await {
            let accepted = listener.accept().await;
            match accepted.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => self.assign(AcceptedSocket::Unix(stream), permit),
                Err(error) => pause_after(&error).await,
            }
        }
    }

    async fn accept_tcp(&self, listener: Option<&TcpListener>) {
        let Some(listener) = listener else {
            return std::future::pending().await;
        };
        while let Some(permit) = self.permit().await {
            let accepted = listener.accept().await;
            match accepted.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => self.assign(AcceptedSocket::Tcp(stream), permit),
                Err(error) => pause_after(&error).await,
            }
        }
    }

    /// Waits for a permit for one more connection. Further connections queue in the listener's backlog.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).acquire_owned().await.ok()
    }

    /// Assigns a connection to the thread with the fewest connections.
    fn assign(&self, socket: AcceptedSocket, permit: OwnedSemaphorePermit) {
        let load = |thread: &&ThreadInbox| Arc::strong_count(&thread.load);
        if let Some(thread) = self.threads.iter().min_by_key(load) {
            let slot = (permit, Arc::clone(&thread.load));
            // Fails only if the thread has panicked; the connection is then closed like all of its connections.
            let _ = thread.connections.send(AcceptedConnection { socket, slot });
        }
    }
}

async fn pause_after(error: &io::Error) {
    warn!("cannot accept a connection: {error}");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_assigned_to_the_thread_with_the_fewest() {
        let (threads, mut inboxes): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| {
                let (connections, inbox) = mpsc::unbounded_channel();
                let load = Arc::new(());
                (ThreadInbox { connections, load }, inbox)
            })
            .unzip();
        let acceptor = Acceptor {
            threads,
            slots: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        };
        let connect = async || {
            let (socket, _) = UnixStream::pair().unwrap();
            let permit = acceptor.permit().await.unwrap();
            acceptor.assign(AcceptedSocket::Unix(socket), permit);
        };
        for _ in 0..5 {
            connect().await;
        }
        let mut taken: Vec<Vec<AcceptedConnection>> = inboxes
            .iter_mut()
            .map(|inbox| std::iter::from_fn(|| inbox.try_recv().ok()).collect())
            .collect();
        assert_eq!((taken[0].len(), taken[1].len()), (3, 2));
        assert_eq!(acceptor.slots.available_permits(), MAX_CONNECTIONS - 5);

        // Two connections of the first thread end.
        taken[0].truncate(1);
        assert_eq!(acceptor.slots.available_permits(), MAX_CONNECTIONS - 3);
        connect().await;
        assert!(inboxes[0].try_recv().is_ok());
    }
}
