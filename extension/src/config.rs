//! Configuration, from environment variables only.
//!
//! [`VARIABLES`] declares every variable once; the help text prints the table, and a test compares the documentation
//! with it. The environment is passed in as a map, so that tests need no global state. All errors are reported
//! together, each with the variable, its value and what is allowed. An invalid value is never replaced by a default.

mod environment;
mod metrics;
mod models;
mod token;
mod units;
mod variables;
mod version_choice;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use environment::Environment;
pub use metrics::{MetricsDimensions, MetricsSink};
pub use models::{Form, Location, ModelSettings};
pub use token::Token;
use units::VariableReader;
pub use variables::{VARIABLES, Variable};

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line, with `timestamp`, `level` and `message`.
    Json,
    /// Plain text.
    Text,
}

/// Way in which a new version replaces the active one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reload {
    /// `Overlap` if memory allows, else `Replace`.
    #[default]
    Auto,
    /// The new version is loaded alongside the active one.
    Overlap,
    /// The active version is unloaded first; requests wait until the new one is loaded.
    Replace,
    /// Versions are never replaced.
    Off,
}

/// Initialization type of the execution environment, from `AWS_LAMBDA_INITIALIZATION_TYPE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitializationType {
    /// On demand, while a request waits; an Init over 10 s is aborted and repeated.
    OnDemand,
    /// Ahead of requests (provisioned concurrency), with minutes for Init.
    Ahead,
    /// Before a snapshot (`SnapStart`), with minutes for Init. Execution environments are clones of the snapshot.
    SnapStart,
    /// Lambda Managed Instances: no freezes, concurrent invocations, no INVOKE events.
    ManagedInstances,
}

/// Receiver of the function's events, from `MODEL_HANDLER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandlerMode {
    /// The function's own process: the handler's `bootstrap`, which forwards them, or other code.
    #[default]
    Forward,
    /// The sidecar, to which the handler's `bootstrap` attaches.
    Attach,
}

/// Log settings, which are read first, so that errors in other settings can be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Format of the lines.
    pub format: LogFormat,
    /// Least severe level that is logged.
    pub level: tracing::Level,
}

/// Configuration of the extension.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a variable of its own"
)]
pub struct Config {
    /// Models, at least one, with unique names.
    pub models: Vec<ModelSettings>,
    /// `true` if Init fails when a model cannot be loaded.
    pub required: bool,
    /// Maximum time between two version checks of a model; zero for a check at every invocation.
    pub refresh_interval: Duration,
    /// Maximum age of the last successful version check without another check before a request; `None` for any age.
    pub max_staleness: Option<Duration>,
    /// Way in which a new version replaces the active one.
    pub reload: Reload,
    /// `true` if callers may trigger a version check.
    pub repository_api: bool,
    /// `true` if callers from outside the execution environment may use the operator's calls.
    pub remote_operations: bool,
    /// Secret that every request must carry; `None` if none is required.
    pub token: Option<Token>,
    /// Maximum duration of Init before `next` is called although models are missing.
    pub init_budget: Duration,
    /// Maximum time by which jobs hold back `next` at an invocation.
    pub tail_budget: Duration,
    /// Prefix that is removed from request paths; empty for none.
    pub base_path: String,
    /// Path of the Unix socket.
    pub socket: PathBuf,
    /// TCP address; `None` for the Unix socket alone.
    pub tcp: Option<SocketAddr>,
    /// Directory of the cache.
    pub cache_dir: PathBuf,
    /// Maximum size of the cache in bytes; `None` for the limits of the disk.
    pub cache_bytes: Option<u64>,
    /// `true` if other environments use the cache as well; `None` to detect that from the file system (NFS).
    pub cache_shared: Option<bool>,
    /// Memory size of the function in MB; `None` outside Lambda.
    pub memory_mb: Option<u64>,
    /// Number of vCPUs for the memory size, rounded up; all CPUs of the machine outside Lambda.
    pub cpus: usize,
    /// Number of threads for one run of a model.
    pub threads: usize,
    /// Maximum number of concurrent runs of a model.
    pub runs: usize,
    /// Maximum number of requests in the queue of a model.
    pub queue: usize,
    /// Memory for all requests in bytes; `None` for a share of the free memory.
    pub request_bytes: Option<usize>,
    /// Maximum number of rows in a batch; `None` if requests are not batched.
    pub batch_rows: Option<usize>,
    /// Time that a request waits for a batch to fill.
    pub batch_delay: Duration,
    /// Path of ONNX Runtime's library.
    pub onnxruntime: PathBuf,
    /// Libraries of custom operators.
    pub custom_ops: Vec<PathBuf>,
    /// Destination of the metrics.
    pub metrics: MetricsSink,
    /// `true` if all metrics are sent, `false` for the default set.
    pub has_all_metrics: bool,
    /// Dimensions of the metrics, in addition to `FunctionName` and `ModelName`.
    pub metrics_dimensions: MetricsDimensions,
    /// CloudWatch namespace of the metrics.
    pub metrics_namespace: String,
    /// Time between two deliveries of metrics.
    pub metrics_interval: Duration,
    /// Number of rows of a request that are compared with the baseline; zero for none.
    pub drift_rows: usize,
    /// Name of the function, a dimension of every metric; `None` outside Lambda.
    pub function_name: Option<String>,
    /// `true` for a custom S3 endpoint, where buckets are part of the path.
    pub custom_s3_endpoint: bool,
}

/// All errors of the configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid configuration: {}", .0.join("; "))]
pub struct ConfigError(pub Vec<String>);

/// Default directory of the cache. It also holds the state of this environment if the configured cache is shared.
pub const DEFAULT_CACHE_DIR: &str = "/tmp/model-sidecar";

/// Default length of a model's queue. It exceeds the concurrency of an environment on Lambda. It is below the number of
/// connections, so that a slow model leaves connections for health checks and other models.
pub const DEFAULT_QUEUE: usize = 200;

/// Memory that buys one vCPU on Lambda, in MB.
const MB_PER_VCPU: usize = 1_769;

impl LogSettings {
    /// Reads the log settings. An invalid value yields the default here, and an error in [`Config::read`].
    #[must_use]
    pub fn read(environment: &Environment) -> Self {
        Self::from_reader(&mut VariableReader::new(environment))
    }

    fn from_reader(reader: &mut VariableReader<'_>) -> Self {
        let format = reader
            .choice(
                "AWS_LAMBDA_LOG_FORMAT",
                &[("JSON", LogFormat::Json), ("Text", LogFormat::Text)],
            )
            .unwrap_or(LogFormat::Text);
        let levels = [
            ("TRACE", tracing::Level::TRACE),
            ("DEBUG", tracing::Level::DEBUG),
            ("INFO", tracing::Level::INFO),
            ("WARN", tracing::Level::WARN),
            ("ERROR", tracing::Level::ERROR),
            ("FATAL", tracing::Level::ERROR),
        ];
        let platform = reader.choice("AWS_LAMBDA_LOG_LEVEL", &levels);
        let own = reader.choice("MODEL_LOG_LEVEL", &levels[..5]);
        Self {
            format,
            level: own.or(platform).unwrap_or(tracing::Level::INFO),
        }
    }
}

impl Config {
    /// Returns the initialization type, which is needed before the registration. An unknown type counts as
    /// [`InitializationType::Ahead`].
    #[must_use]
    pub fn initialization(environment: &Environment) -> InitializationType {
        match environment.get("AWS_LAMBDA_INITIALIZATION_TYPE") {
            None | Some("on-demand") => InitializationType::OnDemand,
            Some("lambda-managed-instances") => InitializationType::ManagedInstances,
            Some("snap-start") => InitializationType::SnapStart,
            Some(_) => InitializationType::Ahead,
        }
    }

    /// Returns the receiver of the function's events, which is needed before the registration. An invalid value counts
    /// as the default here, and is an error in [`Config::read`].
    #[must_use]
    pub fn handler_mode(environment: &Environment) -> HandlerMode {
        read_handler_mode(&mut VariableReader::new(environment))
    }

    /// Returns `true` if this process becomes a snapshot, from which environments are restored.
    #[must_use]
    pub fn is_snap_start(environment: &Environment) -> bool {
        Self::initialization(environment) == InitializationType::SnapStart
    }

    /// Reads the configuration. The error lists all problems.
    pub fn read(environment: &Environment) -> Result<Self, ConfigError> {
        let mut reader = VariableReader::new(environment);
        reader.check_characters();
        let _ = LogSettings::from_reader(&mut reader);
        // Needed before; see there. The handler reads these two variables as well, but cannot report errors.
        read_handler_mode(&mut reader);
        let base_path = reader.base_path("MODEL_BASE_PATH").unwrap_or_default();
        let mut models = models::read(&mut reader);
        version_choice::read(&mut reader, &mut models);
        metrics::read_confidence_outputs(&mut reader, &mut models);
        let initialization = Self::initialization(environment);
        // On demand, Lambda aborts Init after 10 s; one second is left for the work after the load.
        let init_budget = match initialization {
            InitializationType::OnDemand => Duration::from_secs(9),
            InitializationType::Ahead
            | InitializationType::SnapStart
            | InitializationType::ManagedInstances => Duration::from_secs(120),
        };
        let port = reader
            .number("MODEL_PORT", 0, u64::from(u16::MAX))
            .unwrap_or(2774);
        let memory = reader.number("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 1, 1 << 20);
        let is_alone =
            environment.is_lambda() && initialization != InitializationType::ManagedInstances;
        let cpus = cpus(memory.filter(|_| is_alone));
        let threads = read_count(&mut reader, "MODEL_THREADS", 1, 256);
        let threads = threads.unwrap_or(if is_alone { cpus } else { 1 });
        let (batch_rows, batch_delay) = read_batching(&mut reader);
        let config = Self {
            models,
            required: reader
                .choice("MODEL_REQUIRED", &[("true", true), ("false", false)])
                .unwrap_or(false),
            refresh_interval: reader
                .duration("MODEL_REFRESH_INTERVAL")
                .unwrap_or(Duration::from_secs(60)),
            max_staleness: reader.duration("MODEL_MAX_STALENESS"),
            reload: read_reload(&mut reader),
            repository_api: reader
                .choice("MODEL_REPOSITORY_API", &[("true", true), ("false", false)])
                .unwrap_or(false),
            remote_operations: reader
                .choice(
                    "MODEL_REMOTE_OPERATIONS",
                    &[("true", true), ("false", false)],
                )
                .unwrap_or(false),
            token: token::read(&mut reader),
            init_budget: reader.duration("MODEL_INIT_BUDGET").unwrap_or(init_budget),
            tail_budget: reader
                .duration("MODEL_TAIL_BUDGET")
                .unwrap_or(Duration::from_millis(500)),
            base_path,
            socket: reader
                .socket_path("MODEL_SOCKET")
                .unwrap_or_else(|| "/tmp/model-sidecar.sock".into()),
            tcp: u16::try_from(port)
                .ok()
                .filter(|&port| port != 0)
                .map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)),
            cache_dir: reader
                .absolute_path("MODEL_CACHE_DIR")
                .unwrap_or_else(|| DEFAULT_CACHE_DIR.into()),
            cache_bytes: reader
                .number("MODEL_CACHE_MB", 1, 1 << 30)
                .map(|mb| mb * 1024 * 1024),
            cache_shared: reader.choice("MODEL_CACHE_SHARED", &[("true", true), ("false", false)]),
            memory_mb: memory,
            cpus,
            threads,
            runs: (cpus / threads).max(1),
            queue: read_count(&mut reader, "MODEL_QUEUE", 0, 65_536).unwrap_or(DEFAULT_QUEUE),
            request_bytes: read_count(&mut reader, "MODEL_REQUEST_MEMORY_MB", 1, 1 << 20)
                .map(|mb| mb.saturating_mul(1024 * 1024)),
            batch_rows,
            batch_delay,
            onnxruntime: reader
                .absolute_path("ORT_DYLIB_PATH")
                .unwrap_or_else(|| environment.bundled_onnxruntime()),
            custom_ops: reader.files("MODEL_CUSTOM_OPS"),
            metrics: metrics::read_sink(&mut reader),
            has_all_metrics: reader
                .choice("MODEL_METRICS_SET", &[("default", false), ("all", true)])
                .unwrap_or(false),
            metrics_dimensions: metrics::read_dimensions(&mut reader),
            metrics_namespace: reader
                .namespace("MODEL_METRICS_NAMESPACE")
                .unwrap_or_else(|| "ModelSidecar".to_owned()),
            metrics_interval: reader
                .duration("MODEL_METRICS_INTERVAL")
                .unwrap_or(Duration::from_secs(60)),
            drift_rows: read_count(&mut reader, "MODEL_DRIFT_SAMPLE", 0, 1_000).unwrap_or(1),
            function_name: reader.text("AWS_LAMBDA_FUNCTION_NAME").map(str::to_owned),
            custom_s3_endpoint: reader
                .text("AWS_ENDPOINT_URL_S3")
                .or(reader.text("AWS_ENDPOINT_URL"))
                .is_some(),
        };
        reader.finish(config)
    }
}

fn read_handler_mode(reader: &mut VariableReader<'_>) -> HandlerMode {
    let choices = [
        ("forward", HandlerMode::Forward),
        ("attach", HandlerMode::Attach),
    ];
    reader.choice("MODEL_HANDLER", &choices).unwrap_or_default()
}

fn read_reload(reader: &mut VariableReader<'_>) -> Reload {
    let choices = [
        ("auto", Reload::Auto),
        ("overlap", Reload::Overlap),
        ("replace", Reload::Replace),
        ("off", Reload::Off),
    ];
    let reload = reader.choice("MODEL_RELOAD", &choices).unwrap_or_default();
    if let (Reload::Off, Some(staleness)) = (reload, reader.text("MODEL_MAX_STALENESS")) {
        let allowed = "no value together with MODEL_RELOAD=off, which disables version checks";
        reader.wrong("MODEL_MAX_STALENESS", staleness, allowed);
    }
    reload
}

fn read_count(reader: &mut VariableReader<'_>, name: &str, min: u64, max: u64) -> Option<usize> {
    let count = reader.number(name, min, max)?;
    usize::try_from(count).ok()
}

fn read_batching(reader: &mut VariableReader<'_>) -> (Option<usize>, Duration) {
    let rows = read_count(reader, "MODEL_BATCH_MAX", 2, 65_536);
    let delay = reader.duration("MODEL_BATCH_DELAY");
    if let (None, Some(delay)) = (
        reader.text("MODEL_BATCH_MAX"),
        reader.text("MODEL_BATCH_DELAY"),
    ) {
        let allowed = "no value without MODEL_BATCH_MAX, which enables batches";
        reader.wrong("MODEL_BATCH_DELAY", delay, allowed);
    }
    (rows, delay.unwrap_or_default())
}

/// Returns the number of vCPUs for a memory size, rounded up; all CPUs without a memory size. More threads than vCPUs
/// slow down a run.
fn cpus(memory_mb: Option<u64>) -> usize {
    let cpus = crate::sys::cpus();
    memory_mb
        .and_then(|mb| usize::try_from(mb).ok())
        .map_or(cpus, |mb| mb.div_ceil(MB_PER_VCPU).clamp(1, cpus))
}

#[cfg(test)]
mod tests;
