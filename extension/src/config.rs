//! The configuration: environment variables, and nothing else.
//!
//! [`VARIABLES`] declares every variable once; the help text prints it and a test holds the README against it.
//! The environment is handed in as a map, so that tests need no global state. Every mistake is reported at
//! once, each with the variable, its value and what is allowed; a wrong value is never replaced by a default.

mod choice;
mod environment;
mod models;
mod token;
mod units;
mod variables;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use choice::Choice;
pub use environment::Environment;
pub use models::{Form, Location, ModelSettings};
pub use token::Token;
use units::Reader;
pub use variables::{VARIABLES, Variable};

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, with `timestamp`, `level` and `message`.
    Json,
    /// Plain text.
    Text,
}

/// Where the metrics go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsSink {
    /// `PutMetricData`.
    CloudWatch,
    /// Embedded Metric Format: lines in the log that CloudWatch turns into metrics.
    Emf,
    /// Nowhere.
    None,
}

/// How a new version comes in the place of the one that answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reload {
    /// Beside it where memory bears both, else in its place.
    #[default]
    Auto,
    /// Always beside it.
    Overlap,
    /// Always in its place: requests wait meanwhile.
    Replace,
    /// Not at all.
    Off,
}

/// How the execution environment came to be, from `AWS_LAMBDA_INITIALIZATION_TYPE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitializationType {
    /// For a request that is waiting; an Init over 10 s is abandoned and repeated.
    OnDemand,
    /// Ahead of requests (provisioned concurrency), with minutes for Init.
    Ahead,
    /// Ahead of a snapshot (`SnapStart`), with minutes for Init. Each execution environment is a clone of the snapshot.
    SnapStart,
    /// Lambda Managed Instances: never frozen, several invocations at once, no INVOKE events.
    ManagedInstances,
}

/// Settings of the log, known before all others so that mistakes in the others can be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// Text or JSON.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: tracing::Level,
}

/// Everything that the extension can be told.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a variable of its own"
)]
pub struct Config {
    /// The models, at least one, with different names.
    pub models: Vec<ModelSettings>,
    /// Whether Init fails when a model cannot be loaded.
    pub required: bool,
    /// How long a model's version is trusted before S3 is asked again; zero means at every invocation.
    pub refresh_interval: Duration,
    /// How old the last good check may be when a request is answered without another; `None` for any age.
    pub max_staleness: Option<Duration>,
    /// How a new version is brought in.
    pub reload: Reload,
    /// Whether callers may have a model's source asked now.
    pub repository_api: bool,
    /// Permission for callers from outside the execution environment to use the operator's calls.
    pub remote_operations: bool,
    /// The secret that every request must carry; `None` where none is asked for.
    pub token: Option<Token>,
    /// How long Init may take before `next` is called all the same.
    pub init_budget: Duration,
    /// How long work that is due may hold back `next` at an invocation.
    pub tail_budget: Duration,
    /// The Unix socket's path.
    pub socket: PathBuf,
    /// The TCP address; `None` for the Unix socket alone.
    pub tcp: Option<SocketAddr>,
    /// Where models are kept between starts.
    pub cache_dir: PathBuf,
    /// How many bytes the cache may take; `None` for what the disk has.
    pub cache_bytes: Option<u64>,
    /// Whether other environments use the cache as well; `None` for if it is on NFS.
    pub cache_shared: Option<bool>,
    /// The function's memory size in MB; `None` outside Lambda.
    pub memory_mb: Option<u64>,
    /// The CPUs that the memory size buys, rounded up; all of the machine's outside Lambda.
    pub cpus: usize,
    /// Threads for one run of a model.
    pub threads: usize,
    /// Runs of a model at the same time.
    pub runs: usize,
    /// How many requests may wait for a model's runs.
    pub queue: usize,
    /// How many bytes requests may take together; `None` for what the environment has left.
    pub request_bytes: Option<usize>,
    /// The most rows of a run that answers several requests; `None` where each has its own.
    pub batch_rows: Option<usize>,
    /// How long a request waits for others to share its run.
    pub batch_delay: Duration,
    /// Where ONNX Runtime's library is.
    pub onnxruntime: PathBuf,
    /// Libraries of operators beside ONNX Runtime's own.
    pub custom_ops: Vec<PathBuf>,
    /// Where the metrics go.
    pub metrics: MetricsSink,
    /// The CloudWatch namespace.
    pub metrics_namespace: String,
    /// How often metrics are sent.
    pub metrics_interval: Duration,
    /// The function's name, a dimension of every metric; `None` outside Lambda.
    pub function_name: Option<String>,
    /// Whether S3 is at an address of the user's own, where buckets are named in the path.
    pub custom_s3_endpoint: bool,
}

/// All that is wrong with the configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration is wrong: {}", .0.join("; "))]
pub struct ConfigError(pub Vec<String>);

/// Where models are kept; and what concerns one environment alone, when they are kept where others see them.
pub const DEFAULT_CACHE_DIR: &str = "/tmp/model-sidecar";

/// How many requests may wait for a model, unless it is set. More than Lambda gives an environment at once, and fewer than
/// there are connections, so that a model that is at work for minutes leaves some for health checks and other models.
pub const DEFAULT_QUEUE: usize = 200;

/// Memory that buys one vCPU on Lambda, in MB.
const MB_PER_VCPU: usize = 1_769;

impl LogSettings {
    /// Reads the log's settings; a wrong value gives the default here and an error in [`Config::read`].
    #[must_use]
    pub fn read(environment: &Environment) -> Self {
        Self::from_reader(&mut Reader::new(environment))
    }

    fn from_reader(reader: &mut Reader<'_>) -> Self {
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
    /// How the execution environment came to be: the one thing to be known before registering. A type that is
    /// new to us is one that runs ahead of requests, as all but the first are.
    #[must_use]
    pub fn initialization(environment: &Environment) -> InitializationType {
        match environment.get("AWS_LAMBDA_INITIALIZATION_TYPE") {
            None | Some("on-demand") => InitializationType::OnDemand,
            Some("lambda-managed-instances") => InitializationType::ManagedInstances,
            Some("snap-start") => InitializationType::SnapStart,
            Some(_) => InitializationType::Ahead,
        }
    }

    /// Whether this process is to be stored in a snapshot, from which many environments are restored.
    #[must_use]
    pub fn is_snap_start(environment: &Environment) -> bool {
        Self::initialization(environment) == InitializationType::SnapStart
    }

    /// Reads the whole configuration, or says everything that is wrong with it.
    pub fn read(environment: &Environment) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(environment);
        reader.check_characters();
        let _ = LogSettings::from_reader(&mut reader);
        // The handler reads it, and cannot report what is wrong with it.
        reader.base_path("MODEL_BASE_PATH");
        let mut models = models::read(&mut reader);
        choice::read(&mut reader, &mut models);
        let initialization = Self::initialization(environment);
        // On demand, Lambda abandons an Init after 10 s; a second is left for what comes after the model.
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
            metrics: reader
                .choice(
                    "MODEL_METRICS",
                    &[
                        ("cloudwatch", MetricsSink::CloudWatch),
                        ("emf", MetricsSink::Emf),
                        ("none", MetricsSink::None),
                    ],
                )
                .unwrap_or(MetricsSink::CloudWatch),
            metrics_namespace: reader
                .namespace("MODEL_METRICS_NAMESPACE")
                .unwrap_or_else(|| "ModelSidecar".to_owned()),
            metrics_interval: reader
                .duration("MODEL_METRICS_INTERVAL")
                .unwrap_or(Duration::from_secs(60)),
            function_name: reader.text("AWS_LAMBDA_FUNCTION_NAME").map(str::to_owned),
            custom_s3_endpoint: reader
                .text("AWS_ENDPOINT_URL_S3")
                .or(reader.text("AWS_ENDPOINT_URL"))
                .is_some(),
        };
        reader.finish(config)
    }
}

fn read_reload(reader: &mut Reader<'_>) -> Reload {
    let choices = [
        ("auto", Reload::Auto),
        ("overlap", Reload::Overlap),
        ("replace", Reload::Replace),
        ("off", Reload::Off),
    ];
    let reload = reader.choice("MODEL_RELOAD", &choices).unwrap_or_default();
    if let (Reload::Off, Some(staleness)) = (reload, reader.text("MODEL_MAX_STALENESS")) {
        let allowed = "nothing beside MODEL_RELOAD=off, which makes no checks to wait for";
        reader.wrong("MODEL_MAX_STALENESS", staleness, allowed);
    }
    reload
}

fn read_count(reader: &mut Reader<'_>, name: &str, least: u64, most: u64) -> Option<usize> {
    let count = reader.number(name, least, most)?;
    usize::try_from(count).ok()
}

fn read_batching(reader: &mut Reader<'_>) -> (Option<usize>, Duration) {
    let rows = read_count(reader, "MODEL_BATCH_MAX", 2, 65_536);
    let delay = reader.duration("MODEL_BATCH_DELAY");
    if let (None, Some(delay)) = (
        reader.text("MODEL_BATCH_MAX"),
        reader.text("MODEL_BATCH_DELAY"),
    ) {
        let allowed = "nothing without MODEL_BATCH_MAX, which joins requests";
        reader.wrong("MODEL_BATCH_DELAY", delay, allowed);
    }
    (rows, delay.unwrap_or_default())
}

/// The CPUs that the memory size buys, rounded up; all CPUs without one. A thread more than there are CPUs makes a run
/// slower, not faster.
fn cpus(memory_mb: Option<u64>) -> usize {
    let cpus = crate::sys::cpus();
    memory_mb
        .and_then(|mb| usize::try_from(mb).ok())
        .map_or(cpus, |mb| mb.div_ceil(MB_PER_VCPU).clamp(1, cpus))
}

#[cfg(test)]
mod tests;
