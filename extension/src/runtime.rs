//! The function's runtime, with `MODEL_HANDLER=attach`: polls the Runtime API, and answers events in this process.
//!
//! The handler's `bootstrap` starts as the function's runtime, [attaches](Attachment), and waits. From then on the
//! sidecar polls: an event becomes calls with the handler's library, which the server's router handles without a
//! connection. So an invocation wakes one process, and a body is copied through one socket.
//!
//! ```text
//! api ─▶ invocations ─▶ model_handler::Handler ─▶ in_process ─▶ server
//!             └─▶ lifecycle::Driver (what is due)
//! ```
//!
//! Due work is decided when an event arrives, and runs in parallel with the inference. `next` is called once the
//! answer is posted, or after at most `MODEL_TAIL_BUDGET` while jobs are running.
//!
//! The threads are dedicated and start before the main thread yields to the function, so that background work never
//! delays a request.

mod api;
mod in_process;
mod invocations;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use model_handler::Handler;
use model_handler::attachment::FunctionProcess;
use model_handler::event::BasePath;
use model_handler::trace::{Exporter, Traced, Tracer};
use tokio::runtime::Builder;
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::config::{Config, Environment};
use crate::lifecycle::Driver;
use crate::server::{Attachment, ServerContext};
use api::RuntimeApi;
pub use api::RuntimeApiError;
use in_process::InProcess;

/// Function's runtime whose process is not attached yet, or is not polled for yet.
pub struct FunctionRuntime {
    attachments: mpsc::Receiver<Attachment>,
    attached: Option<Attachment>,
    /// Exporter of spans.
    exporter: Option<Exporter>,
    threads: Vec<oneshot::Sender<Start>>,
    failures: mpsc::Receiver<PollError>,
    stop: watch::Sender<bool>,
}

/// Start of the polls of one thread.
struct Start {
    /// Number of concurrent polls.
    polls: usize,
    /// Decides what is due at an invocation; `None` if timers do.
    driver: Option<OwnedMutexGuard<Driver>>,
    /// Traces the invocations, with the function's address of the X-Ray daemon.
    tracer: Option<Arc<Tracer>>,
}

/// Polls that run until they are dropped.
pub struct Polls {
    failures: mpsc::Receiver<PollError>,
    attachment: Option<Attachment>,
    tracer: Option<Arc<Tracer>>,
    /// Stops the threads when it is dropped.
    _stop: watch::Sender<bool>,
}

/// Reason why the sidecar cannot continue as the function's runtime.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// The Runtime API failed.
    #[error(transparent)]
    Api(#[from] RuntimeApiError),
    /// The attached process has ended.
    #[error("the function's bootstrap has ended")]
    Detached,
    /// A thread of the polls has ended, by a panic.
    #[error("no thread polls the Runtime API any more")]
    NoThread,
}

impl FunctionRuntime {
    /// Starts this number of threads, which wait for [`Self::poll`]. `attachments` receives the function's process.
    ///
    /// # Errors
    /// The system's error if a thread or its runtime cannot be created.
    pub fn start(
        environment: &Environment,
        config: &Config,
        threads: usize,
        attachments: mpsc::Receiver<Attachment>,
        context: &Arc<ServerContext>,
        exporter: Option<Exporter>,
    ) -> io::Result<Self> {
        let server = InProcess::new(Arc::clone(context));
        let base_path = BasePath::new(&config.base_path);
        let address = environment.get("AWS_LAMBDA_RUNTIME_API");
        let address = address.unwrap_or_default().to_owned();
        let api = RuntimeApi::new(address, Config::is_snap_start(environment));
        let (stop, stopped) = watch::channel(false);
        let (failed, failures) = mpsc::channel(1);
        let mut starts = Vec::new();
        for _ in 0..threads {
            let (start, started) = oneshot::channel();
            let work = PollThread {
                api: api.clone(),
                server: server.clone(),
                base_path: base_path.clone(),
                started,
                stopped: stopped.clone(),
                failed: failed.clone(),
            };
            let runtime = Builder::new_current_thread().enable_all().build()?;
            thread::Builder::new()
                .name("invoke".to_owned())
                .spawn(move || {
                    let failed = work.failed.clone();
                    runtime.block_on(work.run());
                    // Ends the polls, which hold the driver.
                    drop(runtime);
                    drop(failed);
                })?;
            starts.push(start);
        }
        Ok(Self {
            attachments,
            attached: None,
            exporter,
            threads: starts,
            failures,
            stop,
        })
    }

    /// Waits for the function's process, for at most `limit`. Cancel-safe.
    pub async fn attached(&mut self, limit: Duration) -> Option<&FunctionProcess> {
        if self.attached.is_none() {
            let received = tokio::time::timeout(limit, self.attachments.recv()).await;
            self.attached = received.ok().flatten();
        }
        self.attached.as_ref().map(|attached| &attached.process)
    }

    /// Begins to poll. `driver` decides what is due at an invocation; `None` if timers do.
    #[must_use]
    pub fn poll(self, mut driver: Option<OwnedMutexGuard<Driver>>) -> Polls {
        let attached = self.attached.as_ref();
        let concurrency = attached.map_or(1, |attached| attached.process.concurrency());
        let threads = self.threads.len();
        let xray_daemon = attached.and_then(|attached| attached.process.xray_daemon());
        let tracer = Tracer::new(xray_daemon, self.exporter);
        // Threads that are not needed end, as their sender is dropped.
        for (index, thread) in self.threads.into_iter().take(concurrency).enumerate() {
            // Without a thread, `Polls::failure` returns.
            let _ = thread.send(Start {
                polls: (concurrency - index).div_ceil(threads),
                driver: driver.take(),
                tracer: tracer.clone(),
            });
        }
        Polls {
            failures: self.failures,
            attachment: self.attached,
            tracer,
            _stop: self.stop,
        }
    }
}

/// Sends the traces of invocations whose answer was posted, and whose thread has not sent them yet.
impl Drop for Polls {
    fn drop(&mut self) {
        if let Some(tracer) = &self.tracer {
            tracer.flush();
        }
    }
}

impl Polls {
    /// Waits until the sidecar cannot continue as the runtime.
    pub async fn failure(&mut self) -> PollError {
        let attachment = self.attachment.take();
        let detached = async {
            match attachment {
                Some(attachment) => attachment.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            failure = self.failures.recv() => failure.unwrap_or(PollError::NoThread),
            () = detached => PollError::Detached,
        }
    }
}

/// Work of one thread.
struct PollThread {
    api: RuntimeApi,
    server: InProcess,
    base_path: BasePath,
    started: oneshot::Receiver<Start>,
    stopped: watch::Receiver<bool>,
    failed: mpsc::Sender<PollError>,
}

impl PollThread {
    /// Waits for the start, and polls until the polls are stopped or one of them fails.
    async fn run(mut self) {
        let Ok(Start {
            polls,
            mut driver,
            tracer,
        }) = self.started.await
        else {
            return;
        };
        let handler =
            Handler::new(Traced::new(self.server, tracer.clone())).with_base_path(self.base_path);
        let mut tasks = JoinSet::new();
        for _ in 0..polls {
            // Spawned, because waking a task takes no system call.
            tasks.spawn(invocations::poll(
                self.api.clone(),
                handler.clone(),
                tracer.clone(),
                driver.take(),
            ));
        }
        let failure = tokio::select! {
            _ = self.stopped.wait_for(|stop| *stop) => return,
            ended = tasks.join_next() => ended,
        };
        let failure = match failure {
            Some(Ok(error)) => PollError::Api(error),
            Some(Err(_)) | None => PollError::NoThread,
        };
        let _ = self.failed.try_send(failure);
    }
}
