//! Table of all metrics: name, unit, kind, scope, set and description.
//!
//! The table is the source of the documentation, of the dashboard and of the alarms.

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
    /// A number without a unit, such as a share.
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

/// Form of a metric's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Number of events; a minute has their sum.
    Counter,
    /// State; a minute has the last value.
    Gauge,
    /// Observations; a minute has each value with its count, so that percentiles are known.
    Distribution,
    /// Observations of a number that names a category; a minute has the count of each. CloudWatch's statistic
    /// `PR(0.5:1.5)` is the share of category 1.
    Category,
}

/// Subject of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The execution environment.
    Function,
    /// One model.
    Model,
    /// One version of one model.
    Version,
}

/// Smallest set of metrics that includes a metric (`MODEL_METRICS_SET`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// Sent by default.
    Default,
    /// Sent with `MODEL_METRICS_SET=all`.
    All,
}

impl Set {
    /// Returns the value of `MODEL_METRICS_SET`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Set::Default => "default",
            Set::All => "all",
        }
    }
}

/// Maximum number of metrics in the default set, which limits the cost of a function with one model.
pub const MAX_DEFAULT: usize = 12;

/// Definition of a metric, as CloudWatch and the documentation show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Name of the metric.
    pub name: &'static str,
    /// Unit of the values.
    pub unit: Unit,
    /// Form of the values.
    pub kind: Kind,
    /// Subject of the values.
    pub scope: Scope,
    /// Smallest set that includes the metric.
    pub set: Set,
    /// Meaning of the values, in Markdown.
    pub description: &'static str,
}

impl Definition {
    /// Returns the names of the dimensions, without those of `MODEL_METRICS_DIMENSIONS`. Outside Lambda,
    /// `FunctionName` is absent.
    #[must_use]
    pub fn dimensions(&self) -> &'static [&'static str] {
        let all = &[FUNCTION_LABEL, MODEL_LABEL, VERSION_LABEL];
        match self.scope {
            Scope::Function => &all[..1],
            Scope::Model => &all[..2],
            Scope::Version => all,
        }
    }

    /// Returns CloudWatch's statistics that are meaningful for the metric, the most useful one first. A distribution
    /// also has every other percentile, such as `p10`.
    #[must_use]
    pub fn statistics(&self) -> &'static [&'static str] {
        match (self.kind, self.scope) {
            (Kind::Counter, _) | (Kind::Gauge, Scope::Version) => &["Sum"],
            (Kind::Gauge, _) => &["Maximum", "Average", "Minimum"],
            (Kind::Category, _) => &["SampleCount"],
            (Kind::Distribution, _) => &["p50", "p90", "p99", "p99.9", "Average", "SampleCount"],
        }
    }
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $unit:ident, $kind:ident, $scope:ident, $set:ident, $description:literal;)*) => {
        $(#[doc = $description] pub const $constant: &str = $name;)*

        /// All metrics, in the order of the documentation.
        pub const ALL: &[Definition] = &[
            $(Definition {
                name: $name,
                unit: Unit::$unit,
                kind: Kind::$kind,
                scope: Scope::$scope,
                set: Set::$set,
                description: $description,
            },)*
        ];
    };
}

metrics! {
    INFERENCES = "Inferences", Count, Counter, Model, Default, "inference requests that succeeded";
    INFERENCE_LATENCY = "InferenceLatency", Milliseconds, Distribution, Model, Default, "time from the last byte of a request to its response, queueing included";
    INFERENCE_ERRORS = "InferenceErrors", Count, Counter, Model, Default, "requests that failed on the server side: no model, a failed run, or a deadline that passed";
    PREDICTION_CONFIDENCE = "PredictionConfidence", None, Distribution, Model, Default, "highest probability of a classifier's prediction; up to 16 rows of a request";
    PREDICTED_CLASS = "PredictedClass", None, Category, Model, All, "class with that probability: its position among the model's classes, from 0";
    NULL_FEATURE_SHARE = "NullFeatureShare", None, Distribution, Model, All, "share of missing values (NaN) among the floating-point features of a request's first row";
    REJECTED_REQUESTS = "RejectedRequests", Count, Counter, Model, All, "requests rejected as invalid";
    STALE_RESPONSES = "StaleResponses", Count, Counter, Model, All, "responses although the last successful version check was older than `MODEL_MAX_STALENESS`";
    QUEUE_FULL = "QueueFull", Count, Counter, Model, All, "requests rejected because the queue was full (`MODEL_QUEUE`)";
    QUEUE_TIME = "QueueTime", Milliseconds, Distribution, Model, All, "time that a request waited in the queue";
    QUEUE_DEPTH = "QueueDepth", Count, Gauge, Model, All, "maximum number of requests that waited in the queue together since the last delivery; sent once a request has waited";
    BATCH_SIZE = "BatchSize", Count, Distribution, Model, All, "requests combined in one run, if `MODEL_BATCH_MAX` is set";
    INIT_TIME = "InitTime", Milliseconds, Distribution, Function, All, "time from the start of the sidecar until all models are active, freezes excluded; recorded also if Init ended earlier";
    INIT_BUDGET_EXCEEDED = "InitBudgetExceeded", Count, Counter, Function, All, "starts in which `MODEL_INIT_BUDGET` ended Init before all models were active";
    INIT_FAILURES = "InitFailures", Count, Counter, Function, All, "starts in which a model could not be loaded during Init";
    INIT_REGISTER_TIME = "InitRegisterTime", Milliseconds, Distribution, Function, All, "part of Init: registration with the platform";
    INIT_CONFIGURE_TIME = "InitConfigureTime", Milliseconds, Distribution, Function, All, "part of Init: reading the configuration";
    INIT_BUILD_TIME = "InitBuildTime", Milliseconds, Distribution, Function, All, "part of Init: opening sockets, cache and clients";
    ONNXRUNTIME_OPEN_TIME = "OnnxRuntimeOpenTime", Milliseconds, Distribution, Function, All, "part of Init: opening ONNX Runtime, in parallel with other work";
    MODEL_CACHE_TIME = "ModelCacheTime", Milliseconds, Distribution, Model, All, "part of Init: looking up a model in the cache, in parallel with the first version check";
    MODEL_CHECK_TIME = "ModelCheckTime", Milliseconds, Distribution, Model, All, "part of Init: first version check, from the request to the response of the source";
    MODEL_FETCH_TIME = "ModelFetchTime", Milliseconds, Distribution, Model, All, "duration of the fetch of a version's files, freezes excluded";
    MODEL_FETCH_BYTES = "ModelFetchBytes", Bytes, Counter, Model, All, "bytes of models transferred";
    MODEL_LOAD_TIME = "ModelLoadTime", Milliseconds, Distribution, Model, All, "duration of the load of a model by ONNX Runtime, freezes excluded";
    MODEL_WARM_UP_TIME = "ModelWarmUpTime", Milliseconds, Distribution, Model, All, "duration of the golden examples of a version before it becomes active; the first one is the warm-up";
    MODEL_LOADS = "ModelLoads", Count, Counter, Model, All, "versions that were loaded and validated";
    MODEL_LOAD_FAILURES = "ModelLoadFailures", Count, Counter, Model, All, "versions that could not be loaded";
    MODEL_VALIDATION_FAILURES = "ModelValidationFailures", Count, Counter, Model, All, "versions that were loaded and failed validation: signature or golden examples";
    MODEL_RELOADS = "ModelReloads", Count, Counter, Model, All, "swaps to another version of a model";
    MODEL_RELOAD_FAILURES = "ModelReloadFailures", Count, Counter, Model, Default, "new versions that could not become active: invalid manifest, failed fetch, load or validation, or rejected before";
    MODEL_ROLLBACKS = "ModelRollbacks", Count, Counter, Model, Default, "rollbacks to the previous version because runs failed";
    MODEL_CHECK_FAILURES = "ModelCheckFailures", Count, Counter, Model, All, "version checks that failed";
    MODEL_AGE = "ModelAge", Seconds, Gauge, Model, Default, "time since the last successful version check";
    MODEL_VERSION_LAG = "ModelVersionLag", Seconds, Gauge, Model, Default, "time since a wanted version was seen that is not active; 0 if the wanted version is active";
    ACTIVE_VERSION = "ActiveVersion", Count, Gauge, Version, Default, "1 for the active version, once per environment and interval; the sum is the number of environments";
    MODEL_CACHE_HITS = "ModelCacheHits", Count, Counter, Model, All, "starts that found the model's file in the cache";
    COLD_STARTS = "ColdStarts", Count, Counter, Function, All, "starts of the sidecar";
    RESTARTS = "Restarts", Count, Counter, Function, All, "starts in an execution environment that an earlier process of the sidecar has used; Init ends at once, and requests wait";
    RESTARTS_AFTER_KILL = "RestartsAfterKill", Count, Counter, Function, All, "starts after a process that ended without a shutdown, such as by SIGKILL";
    FEATURE_DRIFT_WORST = "FeatureDriftWorst", None, Distribution, Model, Default, "largest population stability index of an input against the baseline; one value for each window with enough rows";
    PREDICTION_DRIFT = "PredictionDrift", None, Distribution, Model, Default, "largest population stability index of an output against the baseline; one value for each window with enough rows";
    METRICS_DROPPED = "MetricsDropped", Count, Counter, Function, All, "data dropped because CloudWatch rejected them, because they were too old or out of range, or because too many were undelivered";
    SIDECAR_MEMORY = "SidecarMemory", Bytes, Gauge, Function, Default, "resident memory of the sidecar";
    REQUEST_MEMORY = "RequestMemory", Bytes, Gauge, Function, All, "maximum memory that requests held together since the last delivery";
    CACHE_BYTES = "CacheBytes", Bytes, Gauge, Function, All, "size of the files in the cache, unless other environments share it";
    TMP_FREE = "TmpFree", Bytes, Gauge, Function, All, "free space of `/tmp`";
    THREADS = "Threads", Count, Gauge, Function, All, "threads of the sidecar";
    FILE_DESCRIPTORS = "FileDescriptors", Count, Gauge, Function, All, "open file descriptors of the sidecar";
}

/// Dimension of the function.
pub const FUNCTION_LABEL: &str = "FunctionName";
/// Dimension of the model, and label of the model that an observation is about.
pub const MODEL_LABEL: &str = "ModelName";
/// Dimension of the version, and label of the version that an observation is about.
pub const VERSION_LABEL: &str = "ModelVersion";

/// Returns the definition of a metric; `None` for a name that is not in the table.
#[must_use]
pub fn find(name: &str) -> Option<&'static Definition> {
    ALL.iter().find(|metric| metric.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_set_is_small() {
        let in_default = ALL.iter().filter(|metric| metric.set == Set::Default);
        assert!(in_default.count() <= MAX_DEFAULT);
    }
}
