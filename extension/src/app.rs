//! The composition root: builds the parts from the configuration, and runs them.

mod startup;
mod startup_report;

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use aws_config::SdkConfig;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use crate::aws::Proxies;
use crate::cache::{self, Cache, CacheError};
use crate::clock::{Clock, SystemClock, Thaws};
use crate::config::{
    Config, ConfigError, DEFAULT_CACHE_DIR, Environment, InitializationType, Location, MetricsSink,
};
use crate::engine::{Engine, EngineError, OnnxRuntime};
use crate::fetch::PartLimits;
use crate::ids::ByName;
use crate::lifecycle::machine::Intervals;
use crate::lifecycle::{Driver, FirstChecks, Work, init_time, lambda};
use crate::metrics::{CloudWatchSink, EmfSink, NoSink, Recorder, Reporter, Sink, defs};
use crate::models::Models;
use crate::reload::{EngineSlot, Loads, Memory, Reloader, Shared};
use crate::request_memory::Account;
use crate::scheduler::Limits;
use crate::server::{self, BindError, Listeners, ServerContext, ServerHandle};
use crate::source::{LocalFolder, ModelFolder, S3Folder};
use crate::status::Status;
use crate::sys::{MemoryProbe as _, SystemMemory};
use startup::Startup;
use startup_report::Phases;

/// Exit codes: the end that was asked for, a failure, and, as `EX_USAGE` of sysexits.h, a configuration that
/// cannot be used.
const EXIT_SUCCESS: i32 = 0;
const EXIT_FAILURE: i32 = 1;
const EXIT_USAGE: i32 = 64;
/// How long requests under way may take at the end on a machine that is not Lambda.
const LOCAL_GRACE: Duration = Duration::from_secs(10);
/// The same on Lambda, where all of SHUTDOWN has 2 s.
const LAMBDA_GRACE: Duration = Duration::from_millis(300);
/// Time for the last flush where the startup failed, whose limit of 10 s is not over, or where the platform is gone.
const LAMBDA_LAST_FLUSH: Duration = Duration::from_secs(1);
/// How long the last flush may take on a machine that is not Lambda.
const LOCAL_LAST_FLUSH: Duration = Duration::from_secs(5);

/// Runs the sidecar until the platform, or a signal, ends it; gives the exit code.
pub async fn run(environment: Environment) -> i32 {
    if environment.is_lambda() {
        on_lambda(&environment).await
    } else {
        on_this_machine(&environment).await
    }
}

/// Why the parts could not be built.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("the server has no thread: {0}")]
    Server(std::io::Error),
    #[error("the metrics recorder was installed twice")]
    Recorder,
    #[error("MODEL_REQUIRED is true, and {0}")]
    Required(String),
}

impl StartError {
    /// The error's type, as Lambda shows it.
    fn kind(&self) -> &'static str {
        match self {
            StartError::Config(_) => "Extension.Configuration",
            StartError::Cache(_) => "Extension.Cache",
            StartError::Bind(_) => "Extension.Socket",
            StartError::Server(_) | StartError::Recorder => "Extension.Internal",
            StartError::Required(_) => "Extension.ModelRequired",
        }
    }

    fn exit_code(&self) -> i32 {
        if matches!(self, StartError::Config(_)) {
            EXIT_USAGE
        } else {
            EXIT_FAILURE
        }
    }
}

async fn on_lambda(environment: &Environment) -> i32 {
    let mut phases = Phases::new(Instant::now());
    let initialization = Config::initialization(environment);
    let managed = initialization == InitializationType::ManagedInstances;
    let events: &[&str] = if managed {
        &["SHUTDOWN"]
    } else {
        &["INVOKE", "SHUTDOWN"]
    };
    let name = environment.extension_name();
    let registering = async {
        let begun = Instant::now();
        let registered = lambda::register(&name, events).await;
        registered.map(|registration| (registration, begun.elapsed()))
    };
    // Beside each other: nobody needs the platform's answer before Init ends, well or not.
    let building = Box::pin(App::build(environment, &mut phases));
    let (registered, built) = tokio::join!(registering, building);
    let registration = match registered {
        Ok((registration, time)) => {
            phases.register = Some(time);
            registration
        }
        Err(problem) => {
            error!("the platform did not register this extension: {problem}");
            return EXIT_FAILURE;
        }
    };
    let mut app = match built {
        Ok(app) => app,
        Err(problem) => return fail_init(registration, &problem).await,
    };
    let mut startup = app.startup(phases, true);
    if app.cache.is_restart() {
        Startup::at_once();
    } else if let Err(problem) = startup.within(app.config.init_budget).await {
        app.cache.close_loads();
        // After `init/error` the platform may end the process at once.
        app.driver.flush_finally(LAMBDA_LAST_FLUSH).await;
        return fail_init(registration, &problem).await;
    }
    app.driver
        .discard_metrics_of_snapshot(initialization == InitializationType::SnapStart);
    let events = registration.ready();
    let ended = tokio::select! {
        // A startup that has failed calls `next` no more.
        biased;
        problem = startup.failure() => {
            error!("{problem}");
            app.end(LAMBDA_GRACE, LAMBDA_LAST_FLUSH).await;
            events.exit_error(problem.kind(), &problem.to_string()).await;
            return problem.exit_code();
        }
        ended = app.follow(&events, managed) => ended,
    };
    match ended {
        Ok(left) => {
            app.end(LAMBDA_GRACE, left).await;
            EXIT_SUCCESS
        }
        Err(problem) => {
            error!("the connection to the platform broke: {problem}");
            app.end(LAMBDA_GRACE, LAMBDA_LAST_FLUSH).await;
            EXIT_FAILURE
        }
    }
}

async fn fail_init(registration: lambda::Registration, problem: &StartError) -> i32 {
    error!("{problem}");
    registration
        .init_error(problem.kind(), &problem.to_string())
        .await;
    problem.exit_code()
}

async fn on_this_machine(environment: &Environment) -> i32 {
    let mut phases = Phases::new(Instant::now());
    // From the start: a first fetch may take minutes, and whoever stops the sidecar meanwhile means it.
    let stop = signal();
    tokio::pin!(stop);
    let mut app = match App::build(environment, &mut phases).await {
        Ok(app) => app,
        Err(problem) => {
            error!("{problem}");
            return problem.exit_code();
        }
    };
    let mut startup = app.startup(phases, false);
    let started = tokio::select! {
        started = startup.within(app.config.init_budget) => Some(started),
        () = &mut stop => None,
    };
    let failure = match started {
        Some(Ok(())) => tokio::select! {
            () = app.driver.run_on_timers(stop) => None,
            problem = startup.failure() => Some(problem),
        },
        Some(Err(problem)) => Some(problem),
        None => {
            info!("stopped before it was ready");
            app.end(LOCAL_GRACE, LOCAL_LAST_FLUSH).await;
            return EXIT_SUCCESS;
        }
    };
    if let Some(problem) = failure {
        error!("{problem}");
        app.cache.close_loads();
        app.driver.flush_finally(LOCAL_LAST_FLUSH).await;
        return problem.exit_code();
    }
    info!("shutting down");
    app.end(LOCAL_GRACE, LOCAL_LAST_FLUSH).await;
    EXIT_SUCCESS
}

/// SIGTERM or Ctrl-C.
fn signal() -> impl Future<Output = ()> {
    let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    async {
        let terminated = async {
            match terminate {
                Ok(mut terminate) => {
                    terminate.recv().await;
                }
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = terminated => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
}

/// The running parts.
struct App {
    config: Config,
    cache: Cache,
    work: Arc<Work>,
    driver: Driver,
    /// The first checks and the opening of ONNX Runtime, until the startup has them.
    checks: Option<FirstChecks>,
    opening: Option<JoinHandle<Result<Duration, EngineError>>>,
    stop: watch::Sender<bool>,
    server: ServerHandle,
}

impl App {
    /// Builds the parts, and begins to fetch and load the models.
    async fn build(environment: &Environment, phases: &mut Phases) -> Result<Self, StartError> {
        let configuring = Instant::now();
        let config = Config::read(environment)?;
        for name in environment.unknown() {
            warn!("{name} means nothing to the sidecar; --help lists its variables");
        }
        phases.configure = configuring.elapsed();

        let building = Instant::now();
        let engine = {
            let (library, threads) = (config.onnxruntime.clone(), config.threads);
            let custom_ops = config.custom_ops.clone();
            let memory = config.memory_mb.map(|mb| mb << 20);
            let memory = memory.or_else(|| SystemMemory::new(None).free());
            // Opened once in a process, whatever becomes of the operators.
            let opened: OnceLock<Arc<OnnxRuntime>> = OnceLock::new();
            EngineSlot::new(move || {
                let engine = match opened.get() {
                    Some(engine) => engine,
                    None => {
                        let engine = Arc::new(OnnxRuntime::open(&library, threads, memory)?);
                        opened.get_or_init(|| engine)
                    }
                };
                engine.use_custom_ops(&custom_ops)?;
                Ok(Arc::clone(engine) as Arc<dyn Engine>)
            })
        };
        // Beside all that follows; who needs the engine waits for this same opening.
        let opening = tokio::spawn({
            let engine = Arc::clone(&engine);
            async move { engine.get().await.map(|(_, time)| time) }
        });
        // The runtime has one thread, and much of what follows never waits: the opening would begin after it.
        tokio::task::yield_now().await;
        let app = build(config, environment, engine, opening).await?;
        phases.build = building.elapsed();
        let status = Arc::clone(&app.work.status);
        tokio::spawn(init_time::record(status, phases.elapsed()));
        Ok(app)
    }

    /// Returns the rest of the startup. To be called once.
    fn startup(&mut self, phases: Phases, gives_way: bool) -> Startup {
        Startup {
            checks: self.checks.take(),
            phases,
            opening: self.opening.take(),
            work: Arc::clone(&self.work),
            socket: self.config.socket.clone(),
            is_required: self.config.required,
            gives_way,
        }
    }

    /// Does what the platform's events ask for, until SHUTDOWN; gives the time that is left for the end.
    async fn follow(
        &mut self,
        events: &lambda::Events,
        managed: bool,
    ) -> Result<Duration, lambda::Error> {
        let clock = Arc::clone(&self.work.clock);
        if !managed {
            return events.invocations(&mut self.driver, &*clock).await;
        }
        let (over, left) = oneshot::channel();
        let end = async {
            let _ = over.send(events.shutdown(&*clock).await);
        };
        self.driver.run_on_timers(end).await;
        left.await.unwrap_or_else(|error| Err(error.into()))
    }
}

/// The cache where the configuration wants it; where that cannot be written, in the ordinary place, so that models answer
/// all the same.
fn open_cache(config: &Config) -> Result<Cache, CacheError> {
    let ordinary = Path::new(DEFAULT_CACHE_DIR);
    let mut settings = cache::CacheSettings {
        max_bytes: config.cache_bytes,
        is_shared: config.cache_shared,
        private_directory: Some(ordinary.to_owned()),
    };
    let error = match Cache::open_with(&config.cache_dir, &settings) {
        Err(error) if config.cache_dir != ordinary => error,
        opened => return opened,
    };
    warn!("{error}; model files go to {DEFAULT_CACHE_DIR} meanwhile");
    settings.is_shared = None;
    Cache::open_with(ordinary, &settings)
}

/// The settings of AWS's clients, which go through the proxies of this environment.
async fn load_aws(environment: &Environment, clock: &Arc<dyn Clock>, thaws: &Thaws) -> SdkConfig {
    let proxies = Proxies::of(|name| environment.get(name));
    let on_lambda = environment.is_lambda();
    crate::aws::load(Arc::clone(clock), thaws.clone(), proxies, on_lambda).await
}

/// The account of the memory that requests and loads take.
fn account(config: &Config) -> Arc<Account> {
    let (fixed, memory_mb) = (config.request_bytes, config.memory_mb);
    let probe = SystemMemory::new(memory_mb.map(|mb| mb << 20));
    Arc::new(Account::new(fixed, memory_mb, Box::new(probe)))
}

/// The reloader of each model.
fn reloaders(config: &Config, aws: &SdkConfig, shared: &Shared) -> ByName<Arc<Reloader>> {
    config
        .models
        .iter()
        .map(|model| {
            let folder = model.location.folder();
            let place: Box<dyn ModelFolder> = match &model.location {
                Location::S3 { bucket, .. } => Box::new(S3Folder::new(
                    aws,
                    config.custom_s3_endpoint,
                    bucket,
                    folder,
                )),
                Location::File { .. } => Box::new(LocalFolder::new(folder)),
            };
            let reloader = Reloader::new(model.clone(), place, shared.clone());
            (model.name.clone(), Arc::new(reloader))
        })
        .collect()
}

async fn build(
    config: Config,
    environment: &Environment,
    engine: Arc<EngineSlot>,
    opening: JoinHandle<Result<Duration, EngineError>>,
) -> Result<App, StartError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let thaws = Thaws::default();
    let recorder = Recorder::new(Arc::clone(&clock));
    metrics::set_global_recorder(recorder.clone()).map_err(|_| StartError::Recorder)?;
    metrics::counter!(defs::COLD_STARTS).increment(1);
    let names = || config.models.iter().map(|model| model.name.clone());
    let models = Arc::new(Models::new(names()));
    let (status, wanted) = Status::new(names());
    let status = Arc::new(status);

    let listeners = Listeners::bind(&config.socket, config.tcp)?;
    let (stop, stopped) = watch::channel(false);
    let context = ServerContext::new(
        Arc::clone(&models),
        Arc::clone(&status),
        Limits::of(&config),
        Arc::clone(&clock),
        thaws.clone(),
        config.max_staleness,
    );
    let context = context
        .allow_loads(config.repository_api)
        .allow_remote_operations(config.remote_operations)
        .poll_bodies_eagerly(config.cpus > 1);
    let account = account(&config);
    let context = context
        .require_token(config.token.clone())
        .on_local_machine(!environment.is_lambda())
        .with_account(Arc::clone(&account));
    let context = Arc::new(context);
    let grace = if environment.is_lambda() {
        LAMBDA_GRACE
    } else {
        LOCAL_GRACE
    };
    // Where several runs go on at once, so do requests.
    let server = server::start(listeners, &context, config.runs, stopped, grace)
        .map_err(StartError::Server)?;
    // The registration goes on between steps that never wait.
    tokio::task::yield_now().await;

    let cache = open_cache(&config)?;
    let shared = Shared {
        cache: cache.clone(),
        parts: PartLimits::for_memory(config.memory_mb),
        engine,
        models: Arc::clone(&models),
        memory: Arc::new(Memory {
            mode: config.reload,
            probe: Box::new(Arc::clone(&account)),
            loads: Loads::default(),
            account,
        }),
        status: Arc::clone(&status),
        clock: Arc::clone(&clock),
        thaws: thaws.clone(),
        snap_start: Config::is_snap_start(environment),
    };
    tokio::task::yield_now().await;
    let aws = load_aws(environment, &clock, &thaws).await;
    let reloaders = reloaders(&config, &aws, &shared);
    let reporter = reporter(&config, environment, &aws, recorder, Arc::clone(&clock));
    let work = Arc::new(Work {
        reloaders,
        reporter,
        models,
        status,
        clock,
        thaws,
        unobserved: Mutex::default(),
    });
    let intervals = Intervals {
        refresh: config.refresh_interval,
        flush: config.metrics_interval,
        tail: config.tail_budget,
    };
    let (driver, checks) = Driver::start(Arc::clone(&work), wanted, intervals);
    Ok(App {
        config,
        cache,
        work,
        driver,
        checks: Some(checks),
        opening: Some(opening),
        stop,
        server,
    })
}

fn reporter(
    config: &Config,
    environment: &Environment,
    aws: &SdkConfig,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
) -> Reporter {
    let (namespace, function) = (
        config.metrics_namespace.clone(),
        config.function_name.clone(),
    );
    let level = environment.get("AWS_LAMBDA_LOG_LEVEL").unwrap_or("INFO");
    let emf = EmfSink::new(namespace.clone(), function.clone(), level);
    let sink: Arc<dyn Sink> = match config.metrics {
        MetricsSink::CloudWatch => Arc::new(CloudWatchSink::new(aws, namespace, function)),
        MetricsSink::Emf => Arc::new(emf.clone()),
        MetricsSink::None => Arc::new(NoSink),
    };
    Reporter::new(recorder, clock, sink, emf)
}

impl App {
    /// Ends checks and loads, stops accepting, lets requests finish, sends the metrics; all within `time`.
    async fn end(&mut self, grace: Duration, time: Duration) {
        let started = Instant::now();
        self.driver.stop_checks();
        // No load begins from here on. One that is under way ends with the process, and no version is blamed for that.
        self.cache.close_loads();
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(grace, self.server.ended()).await;
        self.driver
            .flush_finally(time.saturating_sub(started.elapsed()))
            .await;
        let _ = std::fs::remove_file(&self.config.socket);
    }
}
