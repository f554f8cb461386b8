//! Composition root: builds the parts from the configuration, and runs them on Lambda or on another machine.
//!
//! Construction order follows the cold start. ONNX Runtime opens first, on a thread of its own, because that takes
//! longest. Then the sockets are bound, so that requests can wait for the model. The clients for S3 and CloudWatch come
//! last.

mod lambda;
mod local;
mod parts;
mod start_error;
mod startup;
mod startup_report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use model_handler::trace::{Exporter, LAST_EXPORT};
use tokio::sync::{self, watch};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::aws;
use crate::cache::Cache;
use crate::clock::{Clock, SystemClock, Thaws};
use crate::config::{Config, Environment};
use crate::engine::{self, EngineError};
use crate::lifecycle::machine::Intervals;
use crate::lifecycle::{Driver, FirstChecks, JobRunner, Observation, follow_version, init_time};
use crate::metrics::{Recorder, Reporter, defs};
use crate::models::Models;
use crate::reload::EngineSlot;
use crate::runtime::FunctionRuntime;
use crate::server::ServerHandle;
use crate::status::Status;
use parts::Common;
use start_error::StartError;
use startup::Startup;
use startup_report::Phases;

/// Exit code after a shutdown that was requested.
const EXIT_SUCCESS: i32 = 0;

/// Runs the sidecar until the platform or a signal ends it; returns the exit code.
pub async fn run(environment: Environment) -> i32 {
    if environment.is_lambda() {
        lambda::run(&environment).await
    } else {
        local::run(&environment).await
    }
}

/// The running parts.
struct App {
    config: Config,
    cache: Cache,
    runner: Arc<JobRunner>,
    /// Locked while it is in use, on this thread or on the one that handles invocations.
    driver: Arc<sync::Mutex<Driver>>,
    /// The function's runtime, with `MODEL_HANDLER=attach`; taken when it begins to poll.
    function: Option<FunctionRuntime>,
    /// First version checks; taken by the startup.
    checks: Option<FirstChecks>,
    /// Opening of ONNX Runtime; taken by the startup.
    opening: Option<JoinHandle<Result<Duration, EngineError>>>,
    stop: watch::Sender<bool>,
    server: ServerHandle,
    /// Exporter of spans.
    exporter: Option<Exporter>,
}

impl App {
    /// Builds the parts, and begins to fetch and load the models.
    async fn build(environment: &Environment, phases: &mut Phases) -> Result<Self, StartError> {
        let configuring = Instant::now();
        let config = Config::read(environment)?;
        engine::read_ahead(&config.onnxruntime);
        for name in environment.unknown() {
            warn!(
                "{name} is not a variable of the sidecar, and is ignored; --help lists all variables"
            );
        }
        phases.configure = configuring.elapsed();

        let building = Instant::now();
        let engine = parts::engine(&config);
        // Opens in parallel with the rest; every user of the engine waits for this same opening.
        let opening = tokio::spawn({
            let engine = Arc::clone(&engine);
            async move { engine.get().await.map(|(_, time)| time) }
        });
        // The runtime has one thread, and the steps below rarely wait: without a yield, the opening would begin after
        // them.
        tokio::task::yield_now().await;
        let app = Self::assemble(config, environment, engine, opening).await?;
        phases.build = building.elapsed();
        let status = Arc::clone(&app.runner.status);
        tokio::spawn(init_time::record(status, phases.elapsed()));
        Ok(app)
    }

    async fn assemble(
        config: Config,
        environment: &Environment,
        engine: Arc<EngineSlot>,
        opening: JoinHandle<Result<Duration, EngineError>>,
    ) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let recorder = Recorder::new(Arc::clone(&clock));
        metrics::set_global_recorder(recorder.clone()).map_err(|_| StartError::Recorder)?;
        metrics::counter!(defs::COLD_STARTS).increment(1);
        let names = || config.models.iter().map(|model| model.name.clone());
        let (status, commands) = Status::new(names());
        let status = status.for_snapshot(Config::is_snap_start(environment));
        let common = Common {
            models: Arc::new(Models::new(names())),
            status: Arc::new(status),
            clock,
            thaws: Thaws::default(),
            account: parts::account(&config),
            recorder,
            exporter: parts::exporter(environment),
        };

        let (stop, stopped) = watch::channel(false);
        let grace = if environment.is_lambda() {
            lambda::GRACE
        } else {
            local::GRACE
        };
        let parts::Server {
            context,
            handle: server,
            runtime: function,
        } = parts::server(&config, environment, &common, stopped, grace)?;
        // Registration with the platform continues between steps that never wait.
        tokio::task::yield_now().await;

        let cache = parts::cache(&config)?;
        if cache.is_restart() {
            metrics::counter!(defs::RESTARTS).increment(1);
        }
        if cache.is_after_kill() {
            metrics::counter!(defs::RESTARTS_AFTER_KILL).increment(1);
        }
        let shared = parts::shared(&config, &common, &cache, engine);
        tokio::task::yield_now().await;
        let aws = aws::load(environment, &common.clock, &common.thaws).await;
        let reloaders = parts::reloaders(&config, &aws, &shared);
        let log_level = environment.get("AWS_LAMBDA_LOG_LEVEL");
        for model in names() {
            let status = Arc::clone(&common.status);
            tokio::spawn(follow_version(model, status, common.recorder.clone()));
        }
        let (recorder, clock) = (common.recorder.clone(), Arc::clone(&common.clock));
        let reporter = Reporter::from_config(&config, log_level, &aws, recorder, clock);
        let observation = Arc::new(Observation::new(
            Arc::clone(&common.status),
            cache.clone(),
            Arc::clone(&common.account),
            Arc::clone(&common.clock),
            config.metrics_interval,
            move || {
                if let Some(context) = context.upgrade() {
                    context.observe_queues();
                }
            },
        ));
        common.recorder.observe_with({
            let observation = Arc::clone(&observation);
            move || observation.observe()
        });
        let runner = Arc::new(JobRunner {
            reloaders,
            reporter,
            models: common.models,
            status: common.status,
            clock: common.clock,
            thaws: common.thaws,
            observation,
            restore: sync::OnceCell::new(),
        });
        let intervals = Intervals::from_config(&config);
        let (driver, checks) = Driver::start(Arc::clone(&runner), commands, intervals);
        Ok(Self {
            config,
            cache,
            runner,
            driver: Arc::new(sync::Mutex::new(driver)),
            function,
            checks: Some(checks),
            opening: Some(opening),
            stop,
            server,
            exporter: common.exporter,
        })
    }

    /// Returns the rest of the startup; must be called once.
    fn startup(&mut self, phases: Phases, is_lambda: bool) -> Startup {
        Startup {
            checks: self.checks.take(),
            phases,
            opening: self.opening.take(),
            runner: Arc::clone(&self.runner),
            socket: self.config.socket.clone(),
            is_required: self.config.required,
            yields_to_function: is_lambda,
        }
    }

    /// Shuts down within `time`: ends version checks and loads, stops accepting, lets requests finish for `grace`, and
    /// delivers the metrics and spans.
    async fn shut_down(&mut self, grace: Duration, time: Duration) {
        let started = Instant::now();
        let mut driver = self.driver.lock().await;
        driver.stop_checks();
        // No load begins from here on. A load in progress ends with the process, and its version is not rejected for
        // it.
        self.cache.close_loads();
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(grace, self.server.ended()).await;
        let spans = async {
            if let Some(exporter) = &self.exporter {
                exporter.drain(LAST_EXPORT).await;
            }
        };
        let left = time.saturating_sub(started.elapsed());
        tokio::join!(driver.flush_finally(left), spans);
        let _ = std::fs::remove_file(&self.config.socket);
    }
}
