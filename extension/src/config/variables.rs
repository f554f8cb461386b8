//! Table of all environment variables.

use super::environment::Environment;

/// Environment variable, as the help text and the documentation show it.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Name of the variable.
    pub name: &'static str,
    /// Default value, or how the default is determined; empty if there is none.
    pub default: &'static str,
    /// Meaning of the value.
    pub meaning: &'static str,
}

const fn variable(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable {
        name,
        default,
        meaning,
    }
}

/// All variables, in the order of the documentation.
pub const VARIABLES: &[Variable] = &[
    variable(
        "MODEL_URI",
        "",
        "location of the model, its manifest or its repository: `s3://BUCKET/KEY`, or `file:///PATH` for a file on \
         a mount or in a layer",
    ),
    variable(
        "MODEL_BUCKET",
        "",
        "bucket of the model; set together with `MODEL_KEY`, instead of `MODEL_URI`",
    ),
    variable(
        "MODEL_KEY",
        "",
        "key of the model; set together with `MODEL_BUCKET`",
    ),
    variable(
        "MODEL_NAME",
        "derived from the key",
        "name of the model in requests",
    ),
    variable(
        "MODELS",
        "",
        "several models: `NAME=URI,NAME=URI,…`, instead of the four variables above",
    ),
    variable(
        "MODEL_VERSION",
        "newest version",
        "fixed version: its name in a manifest, the number of its folder in a repository, or its version ID in S3; \
         for several models `NAME=VERSION,…`",
    ),
    variable(
        "MODEL_LABEL",
        "",
        "label of the version in the manifest, such as `stable`; for several models `NAME=LABEL,…`",
    ),
    variable(
        "MODEL_REQUIRED",
        "false",
        "`true`: Init fails if a model cannot be loaded, which also fails a deployment",
    ),
    variable(
        "MODEL_REFRESH_INTERVAL",
        "60s",
        "maximum time between two version checks of a model. Up to 10 % jitter (50 % after the start) spreads the \
         polls of a fleet, and repeated failures extend the time. `0`: a check at every invocation",
    ),
    variable(
        "MODEL_MAX_STALENESS",
        "off",
        "maximum age of the last successful version check. Beyond it, a request first waits for a check, for at \
         most half of its time. If that check fails, the active version serves the request, counted in \
         `StaleResponses`",
    ),
    variable(
        "MODEL_RELOAD",
        "auto",
        "how a new version replaces the active one. `overlap`: it is loaded alongside the active version. \
         `replace`: the active version is unloaded first, and requests wait. `auto`: `overlap` if memory allows, \
         else `replace`. `off`: no version checks, and no reloads",
    ),
    variable(
        "MODEL_REPOSITORY_API",
        "false",
        "`true`: enables Triton's `load` call, which polls S3 immediately; callers from outside the function also \
         need `MODEL_REMOTE_OPERATIONS`",
    ),
    variable(
        "MODEL_REMOTE_OPERATIONS",
        "false",
        "`true`: callers from outside the function, which reach the sidecar through the handler, may read \
         statistics and use the model repository's calls",
    ),
    variable(
        "MODEL_HANDLER",
        "forward",
        "receiver of the function's events; `forward`: its own process, such as the handler's `bootstrap`; `attach`: \
         the sidecar itself, while the handler's `bootstrap` only waits; read by both",
    ),
    variable(
        "MODEL_BASE_PATH",
        "",
        "prefix, such as `/scoring`, that the handler removes from request paths",
    ),
    variable(
        "MODEL_INIT_BUDGET",
        "9s; 120s for provisioned concurrency, SnapStart and managed instances",
        "maximum time that Init waits for the models; afterwards Init ends, and requests wait",
    ),
    variable(
        "MODEL_TAIL_BUDGET",
        "500ms",
        "maximum time by which a version check, a reload or a flush of metrics may extend an invocation; `0`: none",
    ),
    variable(
        "MODEL_SOCKET",
        "/tmp/model-sidecar.sock",
        "path of the Unix socket",
    ),
    variable("MODEL_PORT", "2774", "TCP port on 127.0.0.1; `0`: no TCP"),
    variable(
        "MODEL_TOKEN",
        "off",
        "`session`: every request must carry the value of `AWS_SESSION_TOKEN` in the header `X-Model-Token`",
    ),
    variable(
        "MODEL_CACHE_DIR",
        "/tmp/model-sidecar",
        "directory for model files, which later starts of the execution environment reuse; if it is not writable, \
         /tmp/model-sidecar is used",
    ),
    variable(
        "MODEL_CACHE_MB",
        "free disk space, at most half of the disk for inactive versions",
        "maximum size of the cache in MB, inactive versions included",
    ),
    variable(
        "MODEL_CACHE_SHARED",
        "true on NFS (EFS), else false",
        "`true`: other environments use `MODEL_CACHE_DIR` as well; nothing in it is locked or removed",
    ),
    variable(
        "MODEL_THREADS",
        "number of vCPUs for the memory size; 1 on managed instances and outside Lambda",
        "threads for one run of a model, 1 to 256; concurrent runs are limited to the number of vCPUs divided by \
         this value",
    ),
    variable(
        "MODEL_QUEUE",
        "200",
        "maximum number of requests that wait for a run of a model, 0 to 65536; further requests get status 429",
    ),
    variable(
        "MODEL_REQUEST_MEMORY_MB",
        "free part of the memory size",
        "maximum memory in MB for receiving and decoding requests and for their responses; requests beyond it get \
         status 413 or 503",
    ),
    variable(
        "MODEL_BATCH_MAX",
        "off",
        "maximum number of rows in a batch, 2 to 65536; concurrent requests are combined into one run",
    ),
    variable(
        "MODEL_BATCH_DELAY",
        "0",
        "with `MODEL_BATCH_MAX`, time that a request waits for a batch to fill although the model is idle; at most \
         half of the request's time",
    ),
    variable(
        "MODEL_CUSTOM_OPS",
        "",
        "libraries of custom operators for ONNX Runtime: absolute paths, separated by colons",
    ),
    variable(
        "MODEL_METRICS",
        "cloudwatch",
        "destination of the metrics: `cloudwatch`, `emf` (lines in the log) or `none`",
    ),
    variable(
        "MODEL_METRICS_SET",
        "default",
        "`default`: at most 12 metrics for each function and model; `all`: every metric",
    ),
    variable(
        "MODEL_METRICS_DIMENSIONS",
        "",
        "further dimensions, at most 5, separated by commas: `NAME=VALUE` for a constant, `FunctionVersion`, \
         `MemorySize`, `Region` or `ModelVersion`; each combination of values is a metric that CloudWatch charges for",
    ),
    variable(
        "MODEL_CONFIDENCE_OUTPUT",
        "recognised",
        "output of a classifier for `PredictionConfidence`: probabilities, logits, or the probability of the second of \
         two classes; for several models `NAME=OUTPUT,…`",
    ),
    variable(
        "MODEL_METRICS_NAMESPACE",
        "ModelSidecar",
        "CloudWatch namespace",
    ),
    variable(
        "MODEL_METRICS_INTERVAL",
        "60s",
        "minimum time between two deliveries of metrics; `0`: a delivery at every invocation",
    ),
    variable(
        "MODEL_DRIFT_SAMPLE",
        "1",
        "number of random rows of each request that are compared with the manifest's `baseline`, 0 to 1000; `0`: none",
    ),
    variable(
        "MODEL_LOG_LEVEL",
        "AWS_LAMBDA_LOG_LEVEL, else INFO",
        "`TRACE` (the same as `DEBUG` in release builds), `DEBUG`, `INFO`, `WARN` or `ERROR`",
    ),
    variable(
        "AWS_LAMBDA_LOG_FORMAT",
        "Text",
        "`JSON` or `Text`; set by the function's logging configuration",
    ),
    variable(
        "AWS_LAMBDA_LOG_LEVEL",
        "INFO",
        "log level of the function, used if `MODEL_LOG_LEVEL` is not set",
    ),
    variable(
        "ORT_DYLIB_PATH",
        "in the layer",
        "path of another ONNX Runtime library, version 1.28 or newer",
    ),
];

impl Environment {
    /// Names of set variables that start with `MODEL_` and are not in the table: misspelled, or used by the function
    /// itself.
    #[must_use]
    pub fn unknown(&self) -> Vec<&str> {
        self.own_names()
            .filter(|name| VARIABLES.iter().all(|variable| variable.name != *name))
            .collect()
    }
}
