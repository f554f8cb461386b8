//! HTTP/1.1 on a Unix socket and on loopback TCP.
//!
//! Takes bound listeners and a signal to stop, and has threads of its own. Limits: connections, the size of headers and body, and the time
//! that a sender may take for each, freezes not counted. An idle connection has no limit on Lambda: it may have been
//! frozen for an hour, and closing it at the thaw would race the next request.

mod about;
mod acceptor;
mod answer;
mod auth;
mod await_model;
mod awake_timeout;
mod body;
mod compression;
mod connection;
mod document;
mod error;
mod host;
mod listen;
mod media_type;
mod off_thread;
mod repository;
mod response_body;
mod rollback_policy;
mod route;
mod statistics;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot, watch};

pub use acceptor::{Serving, start};
pub use listen::{BindError, Listeners};

use crate::clock::{Clock, Thaws};
use crate::config::Token;
use crate::ids::ByName;
use crate::metrics::defs::{self, MODEL_LABEL};
use crate::models::{Loaded, Models};
use crate::request_memory::Account;
use crate::scheduler::{Limits, RunError, RunOutcome, Scheduler};
use crate::status::{RollbackRequest, Status};
use rollback_policy::{Failure, Input, Trial};
use statistics::Statistics;

/// The largest body. Lambda's own limit is 6 MB; code in the function may send more, and memory is finite.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// How long the rest of a request's head may take from its first byte on.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a body may take without one byte arriving.
const BODY_STALL: Duration = Duration::from_secs(10);
/// How long the server waits for a body in all. What a sender keeps back while the server is busy with what came is not
/// counted.
const BODY_TIME: Duration = Duration::from_secs(60);

/// How long a peer may take none of a response.
const WRITE_STALL: Duration = Duration::from_secs(30);
/// How long a connection may be idle, where no freeze can be the reason.
const IDLE_TIME: Duration = Duration::from_secs(60);

/// What answers need.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own"
)]
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
    /// Permission for callers from outside the execution environment to use the operator's calls.
    allows_remote_operations: bool,
    /// Whether a body's next part may be waited for awake.
    is_eager: bool,
    /// Whether there is no time left for requests under way.
    is_over: watch::Sender<bool>,
    metrics: ByName<ModelMetrics>,
    trials: ByName<Mutex<Trial>>,
    statistics: Statistics,
    /// What a request must carry; `None` for nothing.
    token: Option<Token>,
    /// The memory of requests.
    account: Arc<Account>,
    /// A place for each large body that is decompressed or decoded at the same time.
    large_bodies: Semaphore,
    /// Whether this is a machine that is never frozen and that a browser may run on.
    is_open_machine: bool,
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
        let account = Arc::new(Account::unlimited());
        let scheduler = Scheduler::new(names, limits, Arc::clone(&clock), thaws.clone(), &account);
        let statistics = Statistics::new(models.names());
        Self {
            models,
            status,
            scheduler,
            clock,
            thaws,
            max_staleness,
            allows_loads: false,
            allows_remote_operations: false,
            is_eager: false,
            is_over: watch::Sender::default(),
            metrics,
            trials,
            statistics,
            token: None,
            account,
            large_bodies: Semaphore::new(crate::sys::cpus()),
            is_open_machine: false,
        }
    }

    /// As it is, for a machine that is never frozen and that a browser may run on, if it is one: connections that stay
    /// idle are closed, and requests over TCP must name this machine in `Host`.
    #[must_use]
    pub fn on_an_open_machine(self, is_one: bool) -> Self {
        Self {
            is_open_machine: is_one,
            ..self
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

    /// Sets whether callers from outside the execution environment may use the operator's calls.
    #[must_use]
    pub fn allow_remote_operations(self, allows_remote_operations: bool) -> Self {
        Self {
            allows_remote_operations,
            ..self
        }
    }

    /// As it is, with or without a moment awake between the parts of a long body, which is for a process with a CPU to
    /// spare: on its only one it would be in its sender's way.
    #[must_use]
    pub fn wait_awake(self, is_eager: bool) -> Self {
        Self { is_eager, ..self }
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

    /// As it is, with the memory of its requests from this account.
    #[must_use]
    pub fn with_account(self, account: Arc<Account>) -> Self {
        let scheduler = Scheduler::new(
            self.models.names().cloned(),
            self.scheduler.limits(),
            Arc::clone(&self.clock),
            self.thaws.clone(),
            &account,
        );
        Self {
            scheduler,
            account,
            ..self
        }
    }

    /// Notes how a run ended, and asks for a rollback when most runs of a version on trial fail. The inputs of a run that
    /// failed are taken out of the error.
    fn watch(&self, loaded: &Loaded, run: &mut Result<RunOutcome, RunError>) {
        let Some(trial) = self.trials.get(&loaded.name) else {
            return;
        };
        let lock = || trial.lock().unwrap_or_else(PoisonError::into_inner);
        let (digest, loaded_at) = (&loaded.digest, loaded.loaded_at);
        let Err(error) = run else {
            return lock().succeeded(digest, loaded_at);
        };
        let Some(failure) = error.engine().and_then(Failure::of) else {
            return;
        };
        let Some(random) = lock().wants(digest, loaded_at) else {
            return;
        };
        let input = match error {
            RunError::Failed(failed) => failed.request.take(),
            _ => None,
        };
        let input = input.and_then(|request| Input::new(request, &random));
        let now = self.clock.now();
        let mut trial = lock();
        if let Some(evidence) = trial.failed(digest, loaded_at, failure, input, now) {
            let (outcome, receiver) = oneshot::channel();
            let is_heard = self.status.want_rollback(RollbackRequest {
                model: loaded.name.clone(),
                digest: digest.clone(),
                evidence,
                outcome,
            });
            if is_heard {
                trial.requested(receiver, now);
            }
        }
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
