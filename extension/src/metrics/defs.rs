//! Table of all metrics: name, unit and meaning. All metrics have the dimension `FunctionName` (inside Lambda);
//! metrics of a model also have `ModelName`.

/// Unit of CloudWatch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A count.
    Count,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A number without a unit.
    None,
}

impl Unit {
    /// Returns the name of the unit in CloudWatch.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Unit::Count => "Count",
            Unit::Milliseconds => "Milliseconds",
            Unit::Seconds => "Seconds",
            Unit::Bytes => "Bytes",
            Unit::None => "None",
        }
    }
}

/// Definition of a metric, as CloudWatch and the documentation show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Name of the metric.
    pub name: &'static str,
    /// Unit of the values.
    pub unit: Unit,
    /// Meaning of the values.
    pub meaning: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $unit:ident, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $constant: &str = $name;)*

        /// All metrics, in the order of the documentation.
        pub const ALL: &[Definition] = &[
            $(Definition { name: $name, unit: Unit::$unit, meaning: $meaning },)*
        ];
    };
}

metrics! {
    INFERENCES = "Inferences", Count, "inference requests that succeeded";
    INFERENCE_LATENCY = "InferenceLatency", Milliseconds, "time from the last byte of a request to its response, queueing included";
    INFERENCE_ERRORS = "InferenceErrors", Count, "requests that failed on the server side: no model, a failed run, or a deadline that passed";
    VALIDATION_ERRORS = "ValidationErrors", Count, "requests rejected as invalid";
    STALE_RESPONSES = "StaleResponses", Count, "responses although the last successful version check was older than `MODEL_MAX_STALENESS`";
    QUEUE_FULL = "QueueFull", Count, "requests rejected because the queue was full (`MODEL_QUEUE`)";
    QUEUE_TIME = "QueueTime", Milliseconds, "time that a request waited in the queue";
    BATCH_SIZE = "BatchSize", Count, "requests combined in one run, if `MODEL_BATCH_MAX` is set";
    INIT_TIME = "InitTime", Milliseconds, "time from the start of the sidecar until all models are active, freezes excluded; recorded also if Init ended earlier";
    INIT_BUDGET_EXCEEDED = "InitBudgetExceeded", Count, "starts in which `MODEL_INIT_BUDGET` ended Init before all models were active";
    INIT_FAILURES = "InitFailures", Count, "starts in which a model could not be loaded during Init";
    INIT_REGISTER_TIME = "InitRegisterTime", Milliseconds, "part of Init: registration with the platform";
    INIT_CONFIGURE_TIME = "InitConfigureTime", Milliseconds, "part of Init: reading the configuration";
    INIT_BUILD_TIME = "InitBuildTime", Milliseconds, "part of Init: opening sockets, cache and clients";
    ONNXRUNTIME_OPEN_TIME = "OnnxRuntimeOpenTime", Milliseconds, "part of Init: opening ONNX Runtime, in parallel with other work";
    MODEL_CACHE_TIME = "ModelCacheTime", Milliseconds, "part of Init: looking up a model in the cache, in parallel with the first version check";
    MODEL_CHECK_TIME = "ModelCheckTime", Milliseconds, "part of Init: first version check, from the request to the response of the source";
    MODEL_FETCH_TIME = "ModelFetchTime", Milliseconds, "duration of the fetch of a version's files, freezes excluded";
    MODEL_FETCH_BYTES = "ModelFetchBytes", Bytes, "bytes of models transferred";
    MODEL_LOAD_TIME = "ModelLoadTime", Milliseconds, "duration of the load of a model by ONNX Runtime, freezes excluded";
    MODEL_WARM_UP_TIME = "ModelWarmUpTime", Milliseconds, "duration of the golden examples of a version before it becomes active; the first one is the warm-up";
    MODEL_RELOADS = "ModelReloads", Count, "swaps to another version of a model";
    MODEL_RELOAD_FAILURES = "ModelReloadFailures", Count, "new versions that could not become active: invalid manifest, failed fetch, load or validation, or rejected before";
    MODEL_ROLLBACKS = "ModelRollbacks", Count, "rollbacks to the previous version because runs failed";
    MODEL_CHECK_FAILURES = "ModelCheckFailures", Count, "version checks that failed";
    MODEL_AGE = "ModelAge", Seconds, "time since the last successful version check";
    MODEL_CACHE_HITS = "ModelCacheHits", Count, "starts that found the model's file in the cache";
    COLD_STARTS = "ColdStarts", Count, "starts of the sidecar";
    FEATURE_DRIFT_WORST = "FeatureDriftWorst", None, "largest population stability index of an input against the baseline; one value for each window with enough rows";
    PREDICTION_DRIFT = "PredictionDrift", None, "largest population stability index of an output against the baseline; one value for each window with enough rows";
    METRICS_DROPPED = "MetricsDropped", Count, "data dropped because CloudWatch rejected them, because they were too old or out of range, or because too many were undelivered";
    SIDECAR_MEMORY = "SidecarMemory", Bytes, "resident memory of the sidecar";
}

/// Label of the model that an observation is about.
pub const MODEL_LABEL: &str = "ModelName";

/// Returns the definition of a metric; `None` for a name that is not in the table.
#[must_use]
pub fn find(name: &str) -> Option<&'static Definition> {
    ALL.iter().find(|metric| metric.name == name)
}
