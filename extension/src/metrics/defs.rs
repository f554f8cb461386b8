//! Every metric: name, unit, and what it says. All have the dimensions `FunctionName` (inside Lambda) and,
//! where they are about one model, `ModelName`.

/// A CloudWatch unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// CloudWatch's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Unit::Count => "Count",
            Unit::Milliseconds => "Milliseconds",
            Unit::Seconds => "Seconds",
            Unit::Bytes => "Bytes",
        }
    }
}

/// A metric as CloudWatch and the README know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// The unit of its values.
    pub unit: Unit,
    /// What it says.
    pub meaning: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $unit:ident, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $constant: &str = $name;)*

        /// The table of metrics.
        pub const ALL: &[Definition] = &[
            $(Definition { name: $name, unit: Unit::$unit, meaning: $meaning },)*
        ];
    };
}

metrics! {
    INFERENCES = "Inferences", Count, "requests that the model answered";
    INFERENCE_LATENCY = "InferenceLatency", Milliseconds, "from a request's last byte to its answer, waiting included";
    INFERENCE_ERRORS = "InferenceErrors", Count, "requests that failed inside: no model, a failed run, a deadline";
    VALIDATION_ERRORS = "ValidationErrors", Count, "requests that were refused because of what they said";
    STALE_ANSWERS = "StaleAnswers", Count, "requests answered although the last good check was longer ago than `MODEL_MAX_STALENESS`";
    QUEUE_FULL = "QueueFull", Count, "requests that were refused because as many waited as `MODEL_QUEUE` allows";
    QUEUE_TIME = "QueueTime", Milliseconds, "how long a request waited for its turn";
    BATCH_SIZE = "BatchSize", Count, "requests that one run answered, where `MODEL_BATCH_MAX` is set";
    INIT_TIME = "InitTime", Milliseconds, "from the sidecar's start until all models are active, freezes not counted; also where Init ended before";
    INIT_BUDGET_EXCEEDED = "InitBudgetExceeded", Count, "starts where `MODEL_INIT_BUDGET` ended Init before all models were active";
    INIT_FAILURES = "InitFailures", Count, "starts where a model could not be loaded in Init";
    INIT_REGISTER_TIME = "InitRegisterTime", Milliseconds, "of that, registering with the platform";
    INIT_CONFIGURE_TIME = "InitConfigureTime", Milliseconds, "of that, reading the configuration";
    INIT_BUILD_TIME = "InitBuildTime", Milliseconds, "of that, opening sockets, cache and clients";
    ONNXRUNTIME_OPEN_TIME = "OnnxRuntimeOpenTime", Milliseconds, "opening ONNX Runtime, beside all else";
    MODEL_CACHE_TIME = "ModelCacheTime", Milliseconds, "looking into the cache at a start, beside the question to the source";
    MODEL_ASK_TIME = "ModelAskTime", Milliseconds, "from a start's question to the source until its answer";
    MODEL_FETCH_TIME = "ModelFetchTime", Milliseconds, "duration of the fetch of a version's files, freezes not counted";
    MODEL_FETCH_BYTES = "ModelFetchBytes", Bytes, "bytes of models transferred";
    MODEL_LOAD_TIME = "ModelLoadTime", Milliseconds, "duration of the load of a model by ONNX Runtime, freezes not counted";
    MODEL_WARM_UP_TIME = "ModelWarmUpTime", Milliseconds, "how long the runs of a version's golden examples took before it answers, of which the first warms it up";
    MODEL_RELOADS = "ModelReloads", Count, "swaps to another version of a model";
    MODEL_RELOAD_FAILURES = "ModelReloadFailures", Count, "new versions that could not be fetched or loaded";
    MODEL_WITHDRAWALS = "ModelWithdrawals", Count, "rollbacks to the previous version because runs failed inside";
    MODEL_CHECK_FAILURES = "ModelCheckFailures", Count, "checks for a new version that got no answer";
    MODEL_AGE = "ModelAge", Seconds, "how long ago the source last said which version is the newest";
    MODEL_CACHE_HITS = "ModelCacheHits", Count, "starts that found the model's file in the cache";
    COLD_STARTS = "ColdStarts", Count, "starts of the sidecar";
    METRICS_DROPPED = "MetricsDropped", Count, "metric data that were dropped: too old or out of range for CloudWatch, rejected by it as invalid, or too many while it could not be reached";
    SIDECAR_MEMORY = "SidecarMemory", Bytes, "resident memory of the sidecar";
}

/// The label that names the model an observation is about.
pub const MODEL_LABEL: &str = "ModelName";

/// The definition of a metric; `None` for a name that is not in the table.
#[must_use]
pub fn find(name: &str) -> Option<&'static Definition> {
    ALL.iter().find(|metric| metric.name == name)
}
