//! The threads that serve, and the connections that each of them has.
//!
//! They do nothing else: whatever the process is busy with beside, a request has a thread that waits for it.

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

use super::host::Transport;
use super::{Context, Listeners, connection, stopped};

/// Connections at the same time. A process on Lambda may have 1,024 descriptors.
const MAX_CONNECTIONS: usize = 256;
/// How much of the time for the end is left for refusals.
const REFUSAL_TIME: Duration = Duration::from_millis(100);
/// How long a listener pauses when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The threads that serve.
pub struct Serving(mpsc::Receiver<Infallible>);

impl Serving {
    /// Waits until all of them have ended.
    pub async fn ended(&mut self) {
        while self.0.recv().await.is_some() {}
    }
}

/// Serves with so many threads, at least one, until `stop` says true or its sender is gone; then lets requests under way
/// finish, for at most `grace`. Those that do not are refused at the end of it.
///
/// # Errors
/// What the system says when there can be no such thread.
pub fn start(
    listeners: Listeners,
    context: &Arc<Context>,
    threads: usize,
    stop: watch::Receiver<bool>,
    grace: Duration,
) -> io::Result<Serving> {
    // Nothing is ever sent: it is closed when the last thread has dropped its end.
    let (alive, ended) = mpsc::channel(1);
    let mut outboxes = Vec::new();
    let mut inbox = || {
        let (connections, inbox) = mpsc::unbounded_channel();
        let load = Arc::new(());
        outboxes.push(Outbox { connections, load });
        inbox
    };
    for _ in 1..threads {
        let (alive, inbox, context) = (alive.clone(), inbox(), Arc::clone(context));
        let runtime = runtime()?;
        named().spawn(move || {
            runtime.block_on(serve(inbox, context, grace));
            drop(alive);
        })?;
    }
    // The last one accepts, too, for all of them.
    let (inbox, context, runtime) = (inbox(), Arc::clone(context), runtime()?);
    let inside = runtime.enter();
    let unix = UnixListener::from_std(listeners.unix)?;
    let tcp = listeners.tcp.map(TcpListener::from_std).transpose()?;
    drop(inside);
    let acceptor = Acceptor {
        outboxes,
        places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    };
    named().spawn(move || {
        let accepting = async {
            tokio::select! {
                () = stopped(stop) => {}
                () = acceptor.accept_unix(&unix) => {}
                () = acceptor.accept_tcp(tcp.as_ref()) => {}
            }
            // Nobody connects any more, and each thread has all that it gets.
            drop((unix, tcp, acceptor));
        };
        runtime.block_on(async { tokio::join!(accepting, serve(inbox, context, grace)) });
        drop(alive);
    })?;
    Ok(Serving(ended))
}

fn named() -> thread::Builder {
    thread::Builder::new().name("serve".to_owned())
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Serves what comes; when no more can come, lets what is there finish.
async fn serve(
    mut inbox: mpsc::UnboundedReceiver<Accepted>,
    context: Arc<Context>,
    grace: Duration,
) {
    let connections = GracefulShutdown::new();
    while let Some(Accepted { socket, place }) = inbox.recv().await {
        let transport = socket.transport();
        let stream = match socket.opened() {
            Ok(stream) => stream,
            Err(error) => {
                warn!("a connection was lost: {error}");
                continue;
            }
        };
        let connection =
            connections.watch(connection::serve(stream, transport, Arc::clone(&context)));
        tokio::spawn(async move {
            // A peer that goes away or breaks the protocol ends its own connection and concerns nobody else.
            let _ = connection.await;
            drop(place);
        });
    }
    let ended = connections.shutdown();
    tokio::pin!(ended);
    let patience = grace.saturating_sub(REFUSAL_TIME);
    if tokio::time::timeout(patience, &mut ended).await.is_err() {
        context.refuse_the_rest();
        let _ = tokio::time::timeout(REFUSAL_TIME, ended).await;
    }
}

/// A connection on its way to the thread that serves it.
struct Accepted {
    socket: Socket,
    place: Place,
}

/// What a connection takes, until it is dropped: one of the process's places, and a share of its thread.
type Place = (OwnedSemaphorePermit, Arc<()>);

/// A socket that no runtime watches.
enum Socket {
    Unix(std::os::unix::net::UnixStream),
    Tcp(std::net::TcpStream),
}

/// A connection of either kind. In a box, since all of HTTP would else be in the binary twice.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Socket {
    fn transport(&self) -> Transport {
        match self {
            Socket::Unix(_) => Transport::Unix,
            Socket::Tcp(_) => Transport::Tcp,
        }
    }

    /// As this thread's runtime watches it.
    fn opened(self) -> io::Result<Box<dyn Stream>> {
        match self {
            Socket::Unix(stream) => Ok(Box::new(model_socket::Stream::try_from(stream)?)),
            Socket::Tcp(stream) => {
                // An answer goes out when it is written, not when the next one fills the segment.
                let _ = stream.set_nodelay(true);
                Ok(Box::new(TcpStream::from_std(stream)?))
            }
        }
    }
}

/// The way to one of the threads.
struct Outbox {
    connections: mpsc::UnboundedSender<Accepted>,
    /// Each of its connections has a clone.
    load: Arc<()>,
}

struct Acceptor {
    outboxes: Vec<Outbox>,
    places: Arc<Semaphore>,
}

impl Acceptor {
    async fn accept_unix(&self, listener: &UnixListener) {
        while let Some(place) = self.place().await {
            let accepted = listener.accept().await;
            match accepted.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => self.hand_over(Socket::Unix(stream), place),
                Err(error) => pause_after(&error).await,
            }
        }
    }

    async fn accept_tcp(&self, listener: Option<&TcpListener>) {
        let Some(listener) = listener else {
            return std::future::pending().await;
        };
        while let Some(place) = self.place().await {
            let accepted = listener.accept().await;
            match accepted.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => self.hand_over(Socket::Tcp(stream), place),
                Err(error) => pause_after(&error).await,
            }
        }
    }

    /// A place for one more connection; further ones wait in the listener's backlog.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Gives a connection to the thread that has the fewest, where it stays.
    fn hand_over(&self, socket: Socket, permit: OwnedSemaphorePermit) {
        let load = |outbox: &&Outbox| Arc::strong_count(&outbox.load);
        if let Some(outbox) = self.outboxes.iter().min_by_key(load) {
            let place = (permit, Arc::clone(&outbox.load));
            // A thread that is gone has panicked; its connections end, as this one does.
            let _ = outbox.connections.send(Accepted { socket, place });
        }
    }
}

async fn pause_after(error: &io::Error) {
    warn!("a connection could not be accepted: {error}");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn a_connection_goes_to_the_thread_that_has_the_fewest() {
        let (outboxes, mut inboxes): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| {
                let (connections, inbox) = mpsc::unbounded_channel();
                let load = Arc::new(());
                (Outbox { connections, load }, inbox)
            })
            .unzip();
        let acceptor = Acceptor {
            outboxes,
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        };
        let connect = async || {
            let (socket, _) = UnixStream::pair().unwrap();
            let place = acceptor.place().await.unwrap();
            acceptor.hand_over(Socket::Unix(socket), place);
        };
        for _ in 0..5 {
            connect().await;
        }
        let mut taken: Vec<Vec<Accepted>> = inboxes
            .iter_mut()
            .map(|inbox| std::iter::from_fn(|| inbox.try_recv().ok()).collect())
            .collect();
        assert_eq!((taken[0].len(), taken[1].len()), (3, 2));
        assert_eq!(acceptor.places.available_permits(), MAX_CONNECTIONS - 5);

        // Two of the first one's end.
        taken[0].truncate(1);
        assert_eq!(acceptor.places.available_permits(), MAX_CONNECTIONS - 3);
        connect().await;
        assert!(inboxes[0].try_recv().is_ok());
    }
}
