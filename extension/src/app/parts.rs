//! Construction of single parts from the configuration.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use aws_config::SdkConfig;
use model_handler::trace::{Exporter, OtlpSettings};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::warn;

use super::start_error::StartError;
use crate::cache::{Cache, CacheError, CacheSettings};
use crate::clock::{Clock, Thaws};
use crate::config::{
    Config, DEFAULT_CACHE_DIR, Environment, HandlerMode, InitializationType, Location,
    ModelSettings,
};
use crate::engine::{Engine, OnnxRuntime};
use crate::fetch::PartLimits;
use crate::ids::ModelName;
use crate::metrics::Recorder;
use crate::models::Models;
use crate::reload::{EngineSlot, Loads, Memory, Reloader, Shared};
use crate::request_memory::Account;
use crate::runtime::FunctionRuntime;
use crate::scheduler::ExecutorLimits;
use crate::server::{self, Listeners, ServerContext, ServerHandle};
use crate::source::{LocalFolder, ModelFolder, S3Folder};
use crate::status::Status;
use crate::sys::{MemoryProbe as _, SystemMemory};

/// Parts that the server and the reloaders share.
pub(super) struct Common {
    pub(super) models: Arc<Models>,
    pub(super) status: Arc<Status>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) thaws: Thaws,
    /// Memory that requests and loads occupy.
    pub(super) account: Arc<Account>,
    pub(super) recorder: Recorder,
    /// Exporter of spans, for OpenTelemetry.
    pub(super) exporter: Option<Exporter>,
}

/// The running server.
pub(super) struct Server {
    pub(super) context: Weak<ServerContext>,
    pub(super) handle: ServerHandle,
    /// The function's runtime, with `MODEL_HANDLER=attach` on Lambda.
    pub(super) runtime: Option<FunctionRuntime>,
}

/// Builds the slot that opens ONNX Runtime when it is first needed.
pub(super) fn engine(config: &Config) -> Arc<EngineSlot> {
    let (library, threads) = (config.onnxruntime.clone(), config.threads);
    let custom_ops = config.custom_ops.clone();
    let memory = config.memory_mb.map(|mb| mb << 20);
    let memory = memory.or_else(|| SystemMemory::new(None).free());
    // Opened once in a process, even if registering the custom operators fails.
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
}

/// Builds the account of the memory that requests and loads occupy.
pub(super) fn account(config: &Config) -> Arc<Account> {
    let (fixed, memory_mb) = (config.request_bytes, config.memory_mb);
    let probe = SystemMemory::new(memory_mb.map(|mb| mb << 20));
    Arc::new(Account::new(fixed, memory_mb, Box::new(probe)))
}

/// Builds the exporter of spans, if OpenTelemetry's variables name a collector. Exports run on this runtime.
pub(super) fn exporter(environment: &Environment) -> Option<Exporter> {
    let (settings, errors) = OtlpSettings::read(|name| environment.get(name).map(str::to_owned));
    for problem in errors {
        warn!("{problem}");
    }
    settings.map(|settings| Exporter::new(settings, Handle::current()))
}

/// Binds the sockets, and starts the server, which ends within `grace` after `stopped` turns `true`. With
/// `MODEL_HANDLER=attach` on Lambda, also starts the function's runtime, whose process attaches over the socket.
pub(super) fn server(
    config: &Config,
    environment: &Environment,
    common: &Common,
    stopped: watch::Receiver<bool>,
    grace: Duration,
) -> Result<Server, StartError> {
    let listeners = Listeners::bind(&config.socket, config.tcp)?;
    let context = ServerContext::new(
        Arc::clone(&common.models),
        Arc::clone(&common.status),
        ExecutorLimits::of(config),
        Arc::clone(&common.clock),
        common.thaws.clone(),
        config.max_staleness,
    );
    let is_runtime =
        environment.is_lambda() && Config::handler_mode(environment) == HandlerMode::Attach;
    let (attach, attachments) = is_runtime.then(|| mpsc::channel(1)).unzip();
    let context = context
        .accept_attachment(attach)
        .allow_loads(config.repository_api)
        .allow_remote_operations(config.remote_operations)
        .poll_bodies_eagerly(config.cpus > 1)
        .require_token(config.token.clone())
        .on_local_machine(!environment.is_lambda())
        .with_confidence_outputs(confidence_outputs(config))
        .with_recorder(common.recorder.clone())
        .with_account(Arc::clone(&common.account))
        .with_exporter(common.exporter.clone());
    // As many threads as concurrent runs.
    let context = Arc::new(context);
    let handle = server::start(listeners, &context, config.runs, stopped, grace)
        .map_err(StartError::Server)?;
    let is_managed = Config::initialization(environment) == InitializationType::ManagedInstances;
    let threads = if is_managed { config.runs } else { 1 };
    let runtime = attachments.map(|attachments| {
        let exporter = common.exporter.clone();
        FunctionRuntime::start(
            environment,
            config,
            threads,
            attachments,
            &context,
            exporter,
        )
    });
    Ok(Server {
        context: Arc::downgrade(&context),
        handle,
        runtime: runtime.transpose().map_err(StartError::Server)?,
    })
}

fn confidence_outputs(config: &Config) -> BTreeMap<ModelName, String> {
    let of_model = |model: &ModelSettings| {
        let output = model.confidence_output.clone()?;
        Some((model.name.clone(), output))
    };
    config.models.iter().filter_map(of_model).collect()
}

/// Opens the configured cache directory; if it is not writable, the default directory, so that models are served all
/// the same.
pub(super) fn cache(config: &Config) -> Result<Cache, CacheError> {
    let default = Path::new(DEFAULT_CACHE_DIR);
    let mut settings = CacheSettings {
        max_bytes: config.cache_bytes,
        is_shared: config.cache_shared,
        private_directory: Some(default.to_owned()),
    };
    let error = match Cache::open_with(&config.cache_dir, &settings) {
        Err(error) if config.cache_dir != default => error,
        opened => return opened,
    };
    warn!("{error}; using {DEFAULT_CACHE_DIR} instead");
    settings.is_shared = None;
    Cache::open_with(default, &settings)
}

/// Bundles the parts that all reloaders share.
pub(super) fn shared(
    config: &Config,
    common: &Common,
    cache: &Cache,
    engine: Arc<EngineSlot>,
) -> Shared {
    Shared {
        cache: cache.clone(),
        parts: PartLimits::for_memory(config.memory_mb),
        engine,
        models: Arc::clone(&common.models),
        memory: Arc::new(Memory {
            mode: config.reload,
            probe: Box::new(Arc::clone(&common.account)),
            loads: Loads::default(),
            account: Arc::clone(&common.account),
        }),
        status: Arc::clone(&common.status),
        clock: Arc::clone(&common.clock),
        thaws: common.thaws.clone(),
        drift_rows: config.drift_rows,
    }
}

/// Builds the reloader of each model.
pub(super) fn reloaders(
    config: &Config,
    aws: &SdkConfig,
    shared: &Shared,
) -> BTreeMap<ModelName, Arc<Reloader>> {
    let reloader = |model: &ModelSettings| {
        let folder = folder(config, aws, &model.location);
        let reloader = Reloader::new(model.clone(), folder, shared.clone());
        (model.name.clone(), Arc::new(reloader))
    };
    config.models.iter().map(reloader).collect()
}

/// Builds the folder from which a model is read.
fn folder(config: &Config, aws: &SdkConfig, location: &Location) -> Box<dyn ModelFolder> {
    let folder = location.folder();
    match location {
        Location::S3 { bucket, .. } => {
            let is_custom = config.custom_s3_endpoint;
            Box::new(S3Folder::new(aws, is_custom, bucket, folder))
        }
        Location::File { .. } => Box::new(LocalFolder::new(folder)),
    }
}
