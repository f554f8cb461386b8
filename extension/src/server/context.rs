//! State that the connections of a server share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model_handler::trace::Exporter;
use tokio::sync::{Semaphore, mpsc, watch};

use super::attachment::Attachment;
use super::idle_timeout::IdleTicks;
use super::observer::InferenceObserver;
use crate::clock::{Clock, Thaws};
use crate::config::Token;
use crate::ids::ModelName;
use crate::metrics::Recorder;
use crate::metrics::defs::{self, MODEL_LABEL};
use crate::models::Models;
use crate::request_memory::Account;
use crate::scheduler::{ExecutorLimits, Scheduler};
use crate::status::Status;

/// Models, settings and limits of a server.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent setting"
)]
pub struct ServerContext {
    pub(super) models: Arc<Models>,
    pub(super) status: Arc<Status>,
    pub(super) scheduler: Scheduler,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) thaws: Thaws,
    /// Maximum time since the last version check; `None` for no maximum.
    pub(super) max_staleness: Option<Duration>,
    /// `true` if callers may start a version check.
    pub(super) allows_loads: bool,
    /// `true` if callers from outside the execution environment may use the operator's calls.
    pub(super) allows_remote_operations: bool,
    /// `true` if the next part of a long body is polled for without sleep.
    pub(super) polls_bodies_eagerly: bool,
    /// `true` once running requests are rejected.
    rejects_requests: watch::Sender<bool>,
    pub(super) observer: InferenceObserver,
    /// Recorder of the metrics that `GET /metrics` shows.
    pub(super) recorder: Recorder,
    /// Token that requests must carry; `None` for no authentication.
    pub(super) token: Option<Token>,
    /// Memory of requests.
    pub(super) account: Arc<Account>,
    /// One permit for each large body that may be decompressed, decoded or encoded concurrently.
    pub(super) large_bodies: Semaphore,
    /// Receiver of the function's process; `None` if none may attach.
    pub(super) attachments: Option<mpsc::Sender<Attachment>>,
    /// `true` on a machine that is never frozen and that may run a browser.
    pub(super) is_local_machine: bool,
    /// Exporter of spans for requests on connections; `None` without a collector.
    pub(super) exporter: Option<Exporter>,
    idle_ticks: IdleTicks,
}

impl ServerContext {
    /// Creates a context with these limits for the runs of each model. A version that was last confirmed longer ago
    /// than `max_staleness` serves requests only after a check. The metrics recorder must be installed before.
    #[must_use]
    pub fn new(
        models: Arc<Models>,
        status: Arc<Status>,
        limits: ExecutorLimits,
        clock: Arc<dyn Clock>,
        thaws: Thaws,
        max_staleness: Option<Duration>,
    ) -> Self {
        let account = Arc::new(Account::unlimited());
        let recorder = Recorder::new(Arc::clone(&clock));
        let names = models.names().cloned();
        let scheduler = Scheduler::new(names, limits, Arc::clone(&clock), thaws.clone(), &account);
        let observer = InferenceObserver::new(
            Arc::clone(&models),
            Arc::clone(&status),
            Arc::clone(&clock),
            limits.batch.is_some(),
        );
        Self {
            models,
            status,
            scheduler,
            clock,
            thaws,
            max_staleness,
            allows_loads: false,
            allows_remote_operations: false,
            polls_bodies_eagerly: false,
            rejects_requests: watch::Sender::default(),
            observer,
            recorder,
            token: None,
            account,
            large_bodies: Semaphore::new(crate::sys::cpus()),
            attachments: None,
            is_local_machine: false,
            exporter: None,
            idle_ticks: IdleTicks::default(),
        }
    }

    /// Sets whether the machine is never frozen and may run a browser. On such a machine, idle connections are closed,
    /// and requests over TCP must name this machine in `Host`.
    #[must_use]
    pub fn on_local_machine(self, is_local_machine: bool) -> Self {
        Self {
            is_local_machine,
            ..self
        }
    }

    /// Enables or disables Triton's `load` call, which polls the source immediately.
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

    /// Sets whether the next part of a long body is polled for without sleep. Only for a process with a second CPU: on
    /// a single CPU it would delay the sender.
    #[must_use]
    pub fn poll_bodies_eagerly(self, polls_bodies_eagerly: bool) -> Self {
        Self {
            polls_bodies_eagerly,
            ..self
        }
    }

    /// Requires this token of every request; `None` for no authentication.
    #[must_use]
    pub fn require_token(self, token: Option<Token>) -> Self {
        Self { token, ..self }
    }

    /// Sends the first process that attaches to `attachments`, which must be a channel of one; `None` rejects all.
    #[must_use]
    pub fn accept_attachment(self, attachments: Option<mpsc::Sender<Attachment>>) -> Self {
        Self {
            attachments,
            ..self
        }
    }

    /// Observes the predictions in these outputs, instead of recognising classifiers.
    #[must_use]
    pub fn with_confidence_outputs(mut self, outputs: BTreeMap<ModelName, String>) -> Self {
        self.observer.set_confidence_outputs(outputs);
        self
    }

    /// Shows the metrics of this recorder.
    #[must_use]
    pub fn with_recorder(self, recorder: Recorder) -> Self {
        Self { recorder, ..self }
    }

    /// Takes the memory of requests from this account.
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

    /// Exports spans of requests on connections.
    #[must_use]
    pub fn with_exporter(self, exporter: Option<Exporter>) -> Self {
        Self { exporter, ..self }
    }

    /// Observes the maximum number of requests that waited for each model since the last call.
    pub fn observe_queues(&self) {
        for (model, peak) in self.scheduler.take_queue_peaks() {
            let peak = u32::try_from(peak).unwrap_or(u32::MAX);
            metrics::gauge!(defs::QUEUE_DEPTH, MODEL_LABEL => model.to_string()).set(peak);
        }
    }

    /// Source of the ticks that close idle connections; `None` where a freeze can be the reason for idleness.
    pub(super) fn idle_ticks(&self) -> Option<&IdleTicks> {
        self.is_local_machine.then_some(&self.idle_ticks)
    }

    /// Rejects running requests from here on.
    pub(super) fn reject_requests(&self) {
        self.rejects_requests.send_replace(true);
    }

    /// Waits until running requests are rejected.
    pub(super) async fn requests_rejected(&self) {
        stopped(self.rejects_requests.subscribe()).await;
    }
}

/// Waits until `stop` is `true` or its sender is dropped.
pub(super) async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
