//! The listening side that the lab's servers share: a port of loopback with HTTP/1.1 on it, that
//! can go down and come up again, and whose connections can be broken in the middle of an answer.
//!
//! While it is down the port refuses connections, and those that stood are gone; the port stays
//! leased, so that nobody else comes up on it. A handler gets with each request the [`Line`] it
//! came on: the means to know that what it has answered so far has left for the client, and to
//! choose whether a broken answer ends in a close or in a reset.

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
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::ports::{NoFreePort, Port};
use crate::tls::{Tls, TlsError};

mod wire;

use wire::{Stream, Wire};

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A server's port could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// No port was asked for, and none is free.
    #[error(transparent)]
    NoFreePort(#[from] NoFreePort),
    /// It was to speak TLS, and cannot.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The port is taken or may not be bound.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Bind {
        /// The port that was asked for.
        port: u16,
        /// What the system answered.
        source: io::Error,
    },
}

/// Answers requests; shared by all connections of a server.
pub(crate) trait Handler: Send + Sync + 'static {
    fn handle(
        &self,
        request: http::Request<Incoming>,
        line: Arc<Line>,
    ) -> impl Future<Output = http::Response<Body>> + Send;
}

/// One connection, as a handler sees it.
#[derive(Debug, Default)]
pub(crate) struct Line {
    flushed: AtomicBool,
    waiting: AtomicWaker,
    reset: AtomicBool,
}

impl Line {
    /// Waits until all that was answered so far is in the kernel's hands. To be awaited from
    /// within a response's body, and nowhere else: it is the body's pause that lets hyper flush.
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

    /// From now on the connection ends in a reset and not in a close.
    pub(crate) fn end_in_reset(&self) {
        self.reset.store(true, Ordering::Release);
    }
}

pub(crate) struct Listener<H> {
    handler: Arc<H>,
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
    /// Listens on `port` of 127.0.0.1, or on a leased one when it is 0.
    pub(crate) async fn start(port: u16, handler: Arc<H>) -> Result<Self, ListenError> {
        Self::start_with(None, port, handler).await
    }

    /// The same, in TLS.
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
            tls,
            port: lease.as_ref().map_or(port, Port::number),
            _lease: lease,
            running: None,
        };
        listener.up().await?;
        Ok(listener)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The certificate of the authority to trust, in PEM; `None` without TLS.
    pub(crate) fn authority(&self) -> Option<&str> {
        self.tls.as_ref().map(|tls| &*tls.authority)
    }

    /// Listens again; without effect when it does.
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
        let task = tokio::spawn(accept(socket, tls, handler, stopped));
        self.running = Some(Running { stop, task });
        Ok(())
    }

    /// Closes the port and every connection; on return both are gone.
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
    mut stopped: oneshot::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = socket.accept() => {
                if let Ok((stream, _)) = accepted {
                    let _ = stream.set_nodelay(true);
                    let (tls, handler) = (tls.clone(), Arc::clone(&handler));
                    connections.spawn(async move {
                        match tls {
                            None => serve(stream, handler).await,
                            // One that does not shake hands is gone, as one that says nothing.
                            Some(tls) => if let Ok(stream) = tls.acceptor.accept(stream).await {
                                serve(Box::new(stream), handler).await;
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

async fn serve<H: Handler>(stream: impl Stream, handler: Arc<H>) {
    let line = Arc::new(Line::default());
    let wire = Wire::new(stream, Arc::clone(&line));
    let service = service_fn(|request| {
        let handler = Arc::clone(&handler);
        let line = Arc::clone(&line);
        async move { Ok::<_, Infallible>(handler.handle(request, line).await) }
    });
    // A connection that ends badly does so because a fault asked for it or the client left.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(wire), service)
        .await;
}
