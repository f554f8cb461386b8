//! Every variable, once.

use super::Environment;

/// A variable as the help text and the README show it.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What holds when it is not set.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

const fn variable(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable {
        name,
        default,
        meaning,
    }
}

/// The table of variables.
pub const VARIABLES: &[Variable] = &[
    variable(
        "MODEL_URI",
        "",
        "the model, its manifest or its repository: `s3://BUCKET/KEY`, or `file:///PATH` of what is mounted or in a layer",
    ),
    variable(
        "MODEL_BUCKET",
        "",
        "the model's bucket, together with `MODEL_KEY`, instead of `MODEL_URI`",
    ),
    variable(
        "MODEL_KEY",
        "",
        "the model's key, together with `MODEL_BUCKET`",
    ),
    variable(
        "MODEL_NAME",
        "from the key",
        "the name by which callers address the model",
    ),
    variable(
        "MODELS",
        "",
        "several models: `NAME=URI,NAME=URI,…`, instead of the four above",
    ),
    variable(
        "MODEL_VERSION",
        "the newest",
        "always this version: its name in a manifest, its folder's number in a repository, its S3 version id; of several \
         models `NAME=VERSION,…`",
    ),
    variable(
        "MODEL_LABEL",
        "",
        "the version that the manifest gives this label, such as `stable`; of several models `NAME=LABEL,…`",
    ),
    variable(
        "MODEL_REQUIRED",
        "false",
        "`true`: Init fails when a model cannot be loaded, and so does a deployment",
    ),
    variable(
        "MODEL_REFRESH_INTERVAL",
        "60s",
        "how long a version is trusted, at most, before S3 is asked again: each time a little less by chance, so that \
         a fleet does not come at once, and longer while checks fail; `0`: at every invocation",
    ),
    variable(
        "MODEL_MAX_STALENESS",
        "off",
        "a request waits for a check, for half of its time at most, when the last good one is older; if that fails, \
         the loaded version answers, and `StaleAnswers` counts it",
    ),
    variable(
        "MODEL_RELOAD",
        "auto",
        "`overlap`: a new version is loaded beside the one that answers; `replace`: in its place, while requests wait; \
         `auto`: beside it if memory bears both; `off`: what is loaded stays, and S3 is not asked again",
    ),
    variable(
        "MODEL_REPOSITORY_API",
        "false",
        "`true`: enables Triton's `load` call, which polls S3 immediately; for callers from outside the function \
         `MODEL_REMOTE_OPERATIONS` must allow it as well",
    ),
    variable(
        "MODEL_REMOTE_OPERATIONS",
        "false",
        "`true`: callers from outside the function, who reach the sidecar through the handler, may read statistics and \
         use the model repository's calls",
    ),
    variable(
        "MODEL_BASE_PATH",
        "",
        "for the handler: a path, such as `/scoring`, that is removed where a request's path begins with it",
    ),
    variable(
        "MODEL_INIT_BUDGET",
        "9s, or 120s ahead of requests",
        "how long Init waits for the model before it goes on without",
    ),
    variable(
        "MODEL_TAIL_BUDGET",
        "500ms",
        "how long a check, reload or flush may hold back the end of an invocation; `0`: never",
    ),
    variable(
        "MODEL_SOCKET",
        "/tmp/model-sidecar.sock",
        "the Unix socket's path",
    ),
    variable("MODEL_PORT", "2774", "the port on 127.0.0.1; `0`: no TCP"),
    variable(
        "MODEL_TOKEN",
        "off",
        "`session`: a request must carry `AWS_SESSION_TOKEN`'s value in the header `X-Model-Token`",
    ),
    variable(
        "MODEL_CACHE_DIR",
        "/tmp/model-sidecar",
        "where models are kept between starts in one execution environment; where it cannot be written, /tmp/model-sidecar is taken instead",
    ),
    variable(
        "MODEL_CACHE_MB",
        "what the disk has, at most half of it for earlier versions",
        "how many MB they may take, earlier versions included",
    ),
    variable(
        "MODEL_CACHE_SHARED",
        "true on NFS (EFS), else false",
        "`true`: other environments use `MODEL_CACHE_DIR` as well, and nothing in it is locked or removed",
    ),
    variable(
        "MODEL_THREADS",
        "the CPUs that the memory size buys; 1 on managed instances and outside Lambda",
        "threads for one run of a model, 1 to 256; as many runs go on at once as there are CPUs for",
    ),
    variable(
        "MODEL_QUEUE",
        "200",
        "requests that may wait for a model's runs, 0 to 65536; one more is answered 429",
    ),
    variable(
        "MODEL_REQUEST_MEMORY_MB",
        "what the memory size leaves",
        "how many MB requests may take together while they are received and decoded, and their responses; more is answered 413 or 503",
    ),
    variable(
        "MODEL_BATCH_MAX",
        "off",
        "requests that come together are one run, of at most so many rows (2 to 65536)",
    ),
    variable(
        "MODEL_BATCH_DELAY",
        "0",
        "with `MODEL_BATCH_MAX`, how long a request waits for others, although the model is free; at most half of its time",
    ),
    variable(
        "MODEL_CUSTOM_OPS",
        "",
        "libraries of operators that models need beside ONNX Runtime's own: absolute paths, separated by colons",
    ),
    variable(
        "MODEL_METRICS",
        "cloudwatch",
        "where metrics go: `cloudwatch`, `emf` (lines in the log), `none`",
    ),
    variable(
        "MODEL_METRICS_NAMESPACE",
        "ModelSidecar",
        "the CloudWatch namespace",
    ),
    variable(
        "MODEL_METRICS_INTERVAL",
        "60s",
        "how often metrics are sent, at an invocation; `0`: at every one",
    ),
    variable(
        "MODEL_LOG_LEVEL",
        "AWS_LAMBDA_LOG_LEVEL, else INFO",
        "`TRACE` (in what ships no more than `DEBUG`), `DEBUG`, `INFO`, `WARN` or `ERROR`",
    ),
    variable(
        "AWS_LAMBDA_LOG_FORMAT",
        "Text",
        "`JSON` or `Text`, as the function's logging settings say",
    ),
    variable(
        "AWS_LAMBDA_LOG_LEVEL",
        "INFO",
        "the function's log level, where `MODEL_LOG_LEVEL` is not set",
    ),
    variable(
        "ORT_DYLIB_PATH",
        "in the layer",
        "another ONNX Runtime library, 1.28 or newer",
    ),
];

impl Environment {
    /// Variables that start with `MODEL_` and mean nothing here: a misspelling, or the function's own.
    #[must_use]
    pub fn unknown(&self) -> Vec<&str> {
        self.own_names()
            .filter(|name| VARIABLES.iter().all(|variable| variable.name != *name))
            .collect()
    }
}
