//! HTTP/1.1 on a Unix socket and on loopback TCP.
//!
//! Takes bound listeners and a signal to stop. Limits: connections, the size of headers and body, and the time
//! that a sender may take for each, freezes not counted. An idle connection has no limit: it may have been frozen
//! for an hour, and closing it at the thaw would race the next request.

mod about;
mod admission;
mod answer;
mod body;
mod connection;
mod document;
mod encoding;
mod error;
mod listen;
mod patience;
mod pieces;
mod repository;
mod route;
mod statistics;
mod trial;
mod wait;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::warn;

pub use listen::{BindError, Listeners};

use crate::clock::{Clock, Thaws};
use crate::config::Token;
use crate::engine::EngineError;
use crate::ids::ByName;
use crate::metrics::defs::{self, MODEL_LABEL};
use crate::models::{Loaded, Models};
use crate::schedule::{Limits, Ran, RunError, Scheduler};
use crate::status::{Status, Withdrawal};
use statistics::Statistics;
use trial::{Ended, Trial};

/// Connections at the same time. A process on Lambda may have 1,024 descriptors.
const MOST_CONNECTIONS: usize = 256;
/// The largest body. Lambda's own limit is 6 MB; code in the function may send more, and memory is finite.
const MOST_BODY: usize = 64 * 1024 * 1024;
/// How long the rest of a request's head may take from its first byte on.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a body may take without one byte arriving.
const BODY_STALL: Duration = Duration::from_secs(10);
/// How much of the time for the end is left for refusals.
const REFUSAL_TIME: Duration = Duration::from_millis(100);
/// How long the server waits for a body in all. What a sender keeps back while the server is busy with what came is not
/// counted.
const BODY_TIME: Duration = Duration::from_secs(60);
/// How long a listener pauses when the process has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What answers need.
pub struct Context {
    models: Arc<Models>,
    status: Arc<Status>,
    scheduler: Scheduler,
    clock: Arc<dyn Clock>,
    thaws: Thaws,
    /// How long ago a version may have been confirmed that answers without a check; `None` for any time.
    max_staleness: Option<Duration>,
    /// Whether a caller may have a source asked now.
    allows_loads: bool,
    /// Whether there is no time left for requests under way.
    is_over: watch::Sender<bool>,
    metrics: ByName<ModelMetrics>,
    trials: ByName<Mutex<Trial>>,
    statistics: Statistics,
    /// What a request must carry; `None` for nothing.
    token: Option<Token>,
}

/// A model's metrics, looked up once.
struct ModelMetrics {
    inferences: metrics::Counter,
    latency: metrics::Histogram,
    queue: metrics::Histogram,
    batch: metrics::Histogram,
    full: metrics::Counter,
    errors: metrics::Counter,
    refused: metrics::Counter,
    stale: metrics::Counter,
}

impl Context {
    /// Everything that answers need, with these limits for each model's runs; a version that was confirmed longer ago than `max_staleness` answers only
    /// after a check. The metrics recorder must stand already.
    #[must_use]
    pub fn new(
        models: Arc<Models>,
        status: Arc<Status>,
        limits: Limits,
        clock: Arc<dyn Clock>,
        thaws: Thaws,
        max_staleness: Option<Duration>,
    ) -> Self {
        let metrics = models
            .names()
            .map(|name| {
                let label = name.to_string();
                let metrics = ModelMetrics {
                    inferences: metrics::counter!(defs::INFERENCES, MODEL_LABEL => label.clone()),
                    latency: metrics::histogram!(defs::INFERENCE_LATENCY, MODEL_LABEL => label.clone()),
                    queue: metrics::histogram!(defs::QUEUE_TIME, MODEL_LABEL => label.clone()),
                    batch: metrics::histogram!(defs::BATCH_SIZE, MODEL_LABEL => label.clone()),
                    full: metrics::counter!(defs::QUEUE_FULL, MODEL_LABEL => label.clone()),
                    errors: metrics::counter!(defs::INFERENCE_ERRORS, MODEL_LABEL => label.clone()),
                    refused: metrics::counter!(defs::VALIDATION_ERRORS, MODEL_LABEL => label.clone()),
                    stale: metrics::counter!(defs::STALE_ANSWERS, MODEL_LABEL => label),
                };
                (name.clone(), metrics)
            })
            .collect();
        let trials = models.names().map(|name| (name.clone(), Mutex::default()));
        let trials = trials.collect();
        let names = models.names().cloned();
        let scheduler = Scheduler::new(names, limits, Arc::clone(&clock), thaws.clone());
        let statistics = Statistics::new(models.names());
        Self {
            models,
            status,
            scheduler,
            clock,
            thaws,
            max_staleness,
            allows_loads: false,
            is_over: watch::Sender::default(),
            metrics,
            trials,
            statistics,
            token: None,
        }
    }

    /// As it is, with or without Triton's call that has a model's source asked now.
    #[must_use]
    pub fn allow_loads(self, allows_loads: bool) -> Self {
        Self {
            allows_loads,
            ..self
        }
    }

    /// Requests under way are refused from now on.
    fn refuse_the_rest(&self) {
        self.is_over.send_replace(true);
    }

    /// Waits until requests under way are refused.
    async fn over(&self) {
        stopped(self.is_over.subscribe()).await;
    }

    /// As it is, for requests that carry this token alone, if it is one.
    #[must_use]
    pub fn require_token(self, token: Option<Token>) -> Self {
        Self { token, ..self }
    }

    /// Takes note of a run that has ended, and asks that its version be withdrawn when it is not fit to answer.
    fn watch(&self, loaded: &Loaded, run: &Result<Ran, RunError>) {
        let ended = match run {
            Ok(_) => Ended::Well,
            Err(RunError::Engine(EngineError::Node(_))) => Ended::RefusedInside,
            Err(RunError::Engine(error)) if error.is_inside() => Ended::Failed,
            Err(_) => return,
        };
        let Some(trial) = self.trials.get(&loaded.name) else {
            return;
        };
        let mut trial = trial.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(doubt) = trial.ran(loaded, ended) {
            let heard = self.status.want_withdrawal(Withdrawal {
                model: loaded.name.clone(),
                digest: loaded.digest.clone(),
                reason: doubt.to_string(),
            });
            if heard {
                trial.settle();
            }
        }
    }
}

/// Serves until `stop` says true or its sender is gone; then lets requests under way finish, for at most `grace`. Those
/// that do not are refused at the end of it.
pub async fn serve(
    listeners: Listeners,
    context: Arc<Context>,
    stop: watch::Receiver<bool>,
    grace: Duration,
) {
    let server = Server {
        context: Arc::clone(&context),
        places: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
        connections: Arc::new(GracefulShutdown::new()),
    };
    let Listeners { unix, tcp } = listeners;
    tokio::select! {
        () = stopped(stop) => {}
        () = server.accept_unix(&unix) => {}
        () = server.accept_tcp(tcp.as_ref()) => {}
    }
    drop((unix, tcp));
    if let Ok(connections) = Arc::try_unwrap(server.connections) {
        let ended = connections.shutdown();
        tokio::pin!(ended);
        let patience = grace.saturating_sub(REFUSAL_TIME);
        if tokio::time::timeout(patience, &mut ended).await.is_err() {
            context.refuse_the_rest();
            let _ = tokio::time::timeout(REFUSAL_TIME, ended).await;
        }
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// A connection of either kind. In a box, since all of HTTP would else be in the binary twice.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

struct Server {
    context: Arc<Context>,
    places: Arc<Semaphore>,
    connections: Arc<GracefulShutdown>,
}

impl Server {
    async fn accept_unix(&self, listener: &tokio::net::UnixListener) {
        while let Some(place) = self.place().await {
            match listener.accept().await {
                Ok((stream, _)) => self.spawn(Box::new(stream), place),
                Err(error) => pause_after(&error).await,
            }
        }
    }

    async fn accept_tcp(&self, listener: Option<&tokio::net::TcpListener>) {
        let Some(listener) = listener else {
            return std::future::pending().await;
        };
        while let Some(place) = self.place().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // An answer goes out when it is written, not when the next one fills the segment.
                    let _ = stream.set_nodelay(true);
                    self.spawn(Box::new(stream), place);
                }
                Err(error) => pause_after(&error).await,
            }
        }
    }

    /// A place for one more connection; further ones wait in the listener's backlog.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    fn spawn(&self, stream: Box<dyn Stream>, place: OwnedSemaphorePermit) {
        let connection = self
            .connections
            .watch(connection::serve(stream, Arc::clone(&self.context)));
        tokio::spawn(async move {
            // A peer that goes away or breaks the protocol ends its own connection and concerns nobody else.
            let _ = connection.await;
            drop(place);
        });
    }
}

async fn pause_after(error: &std::io::Error) {
    warn!("a connection could not be accepted: {error}");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}
