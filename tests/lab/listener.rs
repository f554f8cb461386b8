//! Listener shared by the lab's servers: a port on loopback with HTTP/1.1. It can go down and come
//! up again, and its connections can break in the middle of a response.
//!
//! While it is down the port refuses connections, and open ones are closed. The port stays leased,
//! so that no other server takes it. A handler gets with each request its [`ConnectionControl`].
//! With it the handler can wait until its output was sent, and choose a close or a reset for a
//! broken response.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::ports::{NoFreePort, Port};
use crate::tls::{Tls, TlsError};

mod wire;

use wire::{Stream, Wire};

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The server's port is not available.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Port 0 was requested, and no port is free.
    #[error(transparent)]
    NoFreePort(#[from] NoFreePort),
    /// The TLS setup failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port is taken or may not be bound.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Bind {
        /// Requested port.
        port: u16,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// Handles requests; shared by all connections of a server.
pub(crate) trait Handler: Send + Sync + 'static {
    fn handle(
        &self,
        request: http::Request<Incoming>,
        line: Arc<ConnectionControl>,
    ) -> impl Future<Output = http::Response<Body>> + Send;
}

/// Control of one connection by a handler.
#[derive(Debug, Default)]
pub(crate) struct ConnectionControl {
    flushed: AtomicBool,
    waiting: AtomicWaker,
    reset: AtomicBool,
}

impl ConnectionControl {
    /// Waits until all output so far was passed to the kernel. May only be awaited within a
    /// response's body, because hyper flushes when the body is pending.
    pub(crate) async fn flushed(&self) {
        self.flushed.store(false, Ordering::Release);
        poll_fn(|context| {
            self.waiting.register(context.waker());
            if self.flushed.load(Ordering::Acquire) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Makes the connection end in a reset instead of a close.
    pub(crate) fn end_in_reset(&self) {
        self.reset.store(true, Ordering::Release);
    }
}

/// Connections of a listener that are open at the moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenConnections(watch::Sender<()>);

impl OpenConnections {
    /// Closes each connection: an idle one now, any other after the response to its request.
    pub(crate) fn close(&self) {
        self.0.send_replace(());
    }
}

pub(crate) struct Listener<H> {
    handler: Arc<H>,
    connections: OpenConnections,
    tls: Option<Tls>,
    port: u16,
    _lease: Option<Port>,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl<H: Handler> Listener<H> {
    /// Listens on `port` of 127.0.0.1, or on a leased port if it is 0.
    pub(crate) async fn start(port: u16, handler: Arc<H>) -> Result<Self, ListenError> {
        Self::start_with(None, port, handler).await
    }

    /// Like [`Self::start`], with TLS.
    pub(crate) async fn start_with(
        tls: Option<Tls>,
        port: u16,
        handler: Arc<H>,
    ) -> Result<Self, ListenError> {
        let lease = if port == 0 {
            Some(Port::lease()?)
        } else {
            None
        };
        let mut listener = Self {
            handler,
            connections: OpenConnections::default(),
            tls,
            port: lease.as_ref().map_or(port, Port::number),
            _lease: lease,
            running: None,
        };
        listener.up().await?;
        Ok(listener)
    }

    pub(crate) fn connections(&self) -> OpenConnections {
        self.connections.clone()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Certificate of the authority to trust, in PEM; `None` without TLS.
    pub(crate) fn authority(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| &*tls.authority)
    }

    /// Listens again; without effect if it already does.
    pub(crate) async fn up(&mut self) -> Result<(), ListenError> {
        if self.running.is_some() {
            return Ok(());
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let socket = TcpListener::bind(address)
            .await
            .map_err(|source| ListenError::Bind {
                port: self.port,
                source,
            })?;
        let (stop, stopped) = oneshot::channel();
        let (tls, handler) = (self.tls.clone(), Arc::clone(&self.handler));
        let open = self.connections.clone();
        let task = tokio::spawn(accept(socket, tls, handler, open, stopped));
        self.running = Some(Running { stop, task });
        Ok(())
    }

    /// Closes the port and every connection; both are closed on return.
    pub(crate) async fn down(&mut self) {
        if let Some(running) = self.running.take() {
            let _ = running.stop.send(());
            let _ = running.task.await;
        }
    }
}

impl<H> Drop for Listener<H> {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.task.abort();
        }
    }
}

async fn accept<H: Handler>(
    socket: TcpListener,
    tls: Option<Tls>,
    handler: Arc<H>,
    open: OpenConnections,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = socket.accept() => {
                if let Ok((stream, _)) = accepted {
                    let _ = stream.set_nodelay(true);
                    let (tls, handler) = (tls.clone(), Arc::clone(&handler));
                    let closed = open.0.subscribe();
                    connections.spawn(async move {
                        match tls {
                            None => serve(stream, handler, closed).await,
                            // A connection whose handshake fails is dropped, like an idle one.
                            Some(tls) => if let Ok(stream) = tls.acceptor.accept(stream).await {
                                serve(Box::new(stream), handler, closed).await;
                            }
                        }
                    });
                }
            }
            Some(_) = connections.join_next() => {}
            _ = &mut stopped => break,
        }
    }
    drop(socket);
    connections.shutdown().await;
}

async fn serve<H: Handler>(stream: impl Stream, handler: Arc<H>, mut closed: watch::Receiver<()>) {
    let line = Arc::new(ConnectionControl::default());
    let wire = Wire::new(stream, Arc::clone(&line));
    let service = service_fn(|request| {
        let handler = Arc::clone(&handler);
        let line = Arc::clone(&line);
        async move { Ok::<_, Infallible>(handler.handle(request, line).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new());
    let connection = http.serve_connection(TokioIo::new(wire), service);
    tokio::pin!(connection);
    loop {
        tokio::select! {
            // An error means that a fault was injected or the client disconnected.
            _ = &mut connection => return,
            Ok(()) = closed.changed() => connection.as_mut().graceful_shutdown(),
        }
    }
}
