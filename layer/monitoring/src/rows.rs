//! Rows of the dashboard, from the caller's view down to the cost.
//!
//! Each row opens with a text that says what to do. Charts of metrics that only `MODEL_METRICS_SET=all` sends say so.

use model_sidecar::metrics::defs;

use crate::dashboard::{CHART, Row};
use crate::series::{Metric, Series};
use crate::widget::Widget;
use crate::{alarms, lambda};

/// Returns all rows, from top to bottom.
pub(crate) fn all() -> Vec<Row> {
    vec![
        overview(),
        traffic(),
        latency(),
        starts(),
        versions(),
        model_health(),
        resources(),
        concurrency(),
        cost(),
    ]
}

fn row(text_height: u32, markdown: &str, charts: Vec<Widget>) -> Row {
    Row {
        markdown: markdown.to_owned(),
        text_height,
        charts,
        chart_height: CHART,
    }
}

/// A metric of the sidecar.
fn sidecar(name: &'static str, statistic: &'static str, label: &'static str) -> Series {
    Series::of(Metric::sidecar(name), statistic, label)
}

/// A metric of Lambda.
fn function(name: &'static str, statistic: &'static str, label: &'static str) -> Series {
    Series::of(Metric::lambda(name), statistic, label)
}

/// p50, p90 and p99 of a metric.
fn percentiles(metric: &Metric) -> Vec<Series> {
    ["p50", "p90", "p99"]
        .map(|statistic| Series::of(metric.clone(), statistic, statistic))
        .into()
}

/// A horizontal line. A placeholder is no number in JSON, so an annotation cannot contain one.
fn constant(value: &str, label: &'static str) -> Series {
    Series::expression(&format!("TIME_SERIES({value})"), label)
}

fn overview() -> Row {
    let row = row(
        3,
        "# Model endpoint\n\
         Select function, alias and model above. Charts have periods of 5 minutes, as the alarms do. An alarm's name \
         ends with its key in the runbook, `docs/troubleshooting.md`, section *Alarms*. Charts marked *(all)* need \
         `MODEL_METRICS_SET=all`; they stay empty otherwise. Data sent after a freeze belong to the minutes of their \
         requests and can appear up to hours later.",
        vec![Widget::alarms("Alarms", &alarms::arns())],
    );
    Row {
        chart_height: 3,
        ..row
    }
}

fn traffic() -> Row {
    row(
        2,
        "## Traffic and errors\n\
         **Failed** above 0: read the log for `the model failed`, then roll back. **Rejected**: the caller sends \
         requests that the model's signature does not allow; compare with the last deployment of the caller. \
         **Throttles**: raise the reserved concurrency or the account's limit.",
        vec![
            Widget::stacked(
                "Inference requests",
                "requests",
                &[
                    sidecar(defs::INFERENCES, "Sum", "succeeded"),
                    sidecar(defs::INFERENCE_ERRORS, "Sum", "failed"),
                    sidecar(defs::REJECTED_REQUESTS, "Sum", "rejected as invalid (all)"),
                    sidecar(defs::QUEUE_FULL, "Sum", "queue full (all)"),
                ],
            ),
            Widget::lines(
                "Error rate",
                "percent",
                &[
                    sidecar(defs::INFERENCE_ERRORS, "Sum", "")
                        .id("failed")
                        .hidden(),
                    sidecar(defs::INFERENCES, "Sum", "")
                        .id("succeeded")
                        .hidden(),
                    Series::expression(
                        "100 * FILL(failed, 0) / (FILL(failed, 0) + FILL(succeeded, 0))",
                        "inference requests",
                    ),
                    function(lambda::ERRORS, "Sum", "").id("errors").hidden(),
                    function(lambda::INVOCATIONS, "Sum", "")
                        .id("invocations")
                        .hidden(),
                    Series::expression("100 * FILL(errors, 0) / invocations", "invocations"),
                ],
            ),
            Widget::lines(
                "Invocations",
                "invocations",
                &[
                    function(lambda::INVOCATIONS, "Sum", "invocations"),
                    function(lambda::ERRORS, "Sum", "errors"),
                    function(lambda::THROTTLES, "Sum", "throttles"),
                ],
            ),
        ],
    )
}

fn latency() -> Row {
    row(
        2,
        "## Latency\n\
         Inference slow, queue short: raise the memory size (CPU grows with it) or optimize the model. Queue long: use \
         batches, or fewer concurrent requests per environment. Function slow, inference fast: the time is in the \
         function's own code. After the response: lower `MODEL_TAIL_BUDGET`.",
        vec![
            Widget::lines("Inference latency", "ms", &latency_series()),
            Widget::lines(
                "Function duration",
                "ms",
                &percentiles(&Metric::lambda(lambda::DURATION)),
            ),
            Widget::lines(
                "Queue (all), and held open after the response",
                "ms",
                &[
                    sidecar(defs::QUEUE_TIME, "p99", "queue p99 (all)"),
                    function(
                        lambda::POST_RUNTIME_EXTENSIONS_DURATION,
                        "Average",
                        "after the response, mean",
                    ),
                ],
            ),
        ],
    )
}

fn latency_series() -> Vec<Series> {
    let mut series = percentiles(&Metric::sidecar(defs::INFERENCE_LATENCY));
    series.push(constant("${LatencyP99Milliseconds}", "alarm: p99"));
    series
}

fn starts() -> Row {
    row(
        2,
        "## Cold starts (all)\n\
         Long **fetch**: use a smaller model, more memory or a cache on a file system. Long **load**: optimize the \
         model with `modelctl optimize`. Init over its budget: raise `MODEL_INIT_BUDGET`, or use provisioned \
         concurrency or SnapStart. Failures: the log has the reason. Starts after a kill: mostly out of memory; raise \
         the memory size.",
        vec![
            Widget::lines(
                "Init until the model is active (all)",
                "ms",
                &percentiles(&Metric::sidecar(defs::INIT_TIME)),
            ),
            Widget::stacked(
                "Init by phase, mean (all)",
                "ms",
                &[
                    sidecar(defs::INIT_CONFIGURE_TIME, "Average", "configuration"),
                    sidecar(defs::INIT_BUILD_TIME, "Average", "sockets and clients"),
                    sidecar(
                        defs::ONNXRUNTIME_OPEN_TIME,
                        "Average",
                        "ONNX Runtime (parallel)",
                    ),
                    sidecar(defs::MODEL_CACHE_TIME, "Average", "cache look-up"),
                    sidecar(defs::MODEL_CHECK_TIME, "Average", "version check"),
                    sidecar(defs::MODEL_FETCH_TIME, "Average", "fetch"),
                    sidecar(defs::MODEL_LOAD_TIME, "Average", "load"),
                    sidecar(defs::MODEL_WARM_UP_TIME, "Average", "golden examples"),
                ],
            ),
            Widget::lines(
                "Starts (all)",
                "starts",
                &[
                    sidecar(defs::COLD_STARTS, "Sum", "cold starts"),
                    sidecar(defs::MODEL_CACHE_HITS, "Sum", "with a cached model"),
                    sidecar(defs::INIT_BUDGET_EXCEEDED, "Sum", "Init over its budget"),
                    sidecar(defs::INIT_FAILURES, "Sum", "failed"),
                    sidecar(defs::RESTARTS_AFTER_KILL, "Sum", "after a kill"),
                ],
            ),
        ],
    )
}

fn versions() -> Row {
    row(
        2,
        "## Versions\n\
         Two versions for longer than a poll interval: a rollout, or environments that cannot load the new version. \
         **Rejected**: the log says why; publish a corrected version. **Rollback**: the version failed in production; \
         keep it away until it is fixed. **Age** grows: S3 cannot be reached or denies access.",
        vec![
            Widget::stacked(
                "Environments by active version",
                "environments",
                &[Series::search(defs::ACTIVE_VERSION, "Sum")],
            )
            // An environment counts once in each interval of metrics, by default 60 s.
            .period(60),
            Widget::lines(
                "Age of the last version check, and lag of versions",
                "seconds",
                &[
                    sidecar(defs::MODEL_AGE, "Maximum", "age, oldest environment"),
                    sidecar(
                        defs::MODEL_VERSION_LAG,
                        "Maximum",
                        "lag, slowest environment",
                    ),
                ],
            ),
            Widget::lines(
                "Reloads",
                "versions",
                &[
                    sidecar(defs::MODEL_RELOADS, "Sum", "swaps (all)"),
                    sidecar(defs::MODEL_RELOAD_FAILURES, "Sum", "rejected"),
                    sidecar(defs::MODEL_ROLLBACKS, "Sum", "rollbacks"),
                    sidecar(defs::MODEL_CHECK_FAILURES, "Sum", "failed checks (all)"),
                ],
            ),
        ],
    )
}

fn model_health() -> Row {
    row(
        2,
        "## Model health\n\
         **Confidence** falls, **classes** shift, or **drift** exceeds 0.25: the inputs are unlike the training data. Find the feature \
         in the log line of the drift report, check the caller's preprocessing, then train again. Drift needs a \
         `baseline` in the manifest, and emits nothing below 50 rows per bin.",
        vec![
            Widget::lines(
                "Prediction confidence",
                "probability",
                &[
                    sidecar(defs::PREDICTION_CONFIDENCE, "p10", "p10"),
                    sidecar(defs::PREDICTION_CONFIDENCE, "p50", "p50"),
                    constant("${ConfidenceP10}", "alarm: p10"),
                ],
            ),
            Widget::stacked(
                "Predicted classes (all)",
                "percent",
                &[
                    sidecar(defs::PREDICTED_CLASS, "PR(:0.5)", "class 0"),
                    sidecar(defs::PREDICTED_CLASS, "PR(0.5:1.5)", "class 1"),
                    sidecar(defs::PREDICTED_CLASS, "PR(1.5:2.5)", "class 2"),
                    sidecar(defs::PREDICTED_CLASS, "PR(2.5:)", "further classes"),
                ],
            ),
            Widget::lines(
                "Drift: population stability index",
                "index",
                &[
                    sidecar(defs::FEATURE_DRIFT_WORST, "Maximum", "worst feature"),
                    sidecar(defs::PREDICTION_DRIFT, "Maximum", "predictions"),
                    constant("${DriftIndex}", "alarm"),
                ],
            ),
            Widget::lines(
                "Invalid and missing inputs (all)",
                "share",
                &[
                    sidecar(defs::NULL_FEATURE_SHARE, "Average", "missing features"),
                    sidecar(defs::REJECTED_REQUESTS, "Sum", "")
                        .id("rejected")
                        .hidden(),
                    sidecar(defs::INFERENCES, "Sum", "")
                        .id("succeeded")
                        .hidden(),
                    Series::expression(
                        "FILL(rejected, 0) / (FILL(rejected, 0) + FILL(succeeded, 0))",
                        "rejected requests",
                    ),
                ],
            ),
        ],
    )
}

fn resources() -> Row {
    row(
        2,
        "## Memory, disk and queue\n\
         Memory near the limit: raise the memory size, or set `MODEL_RELOAD=replace`, which loads a version after \
         unloading the previous one. `/tmp` nearly full: raise the ephemeral storage, or set `MODEL_CACHE_MB`. \
         Threads and descriptors are limited to 1,024 each. A queue near `MODEL_QUEUE`: requests are about to get 429; \
         lower the concurrency of callers, or raise `MODEL_QUEUE`.",
        vec![
            Widget::lines(
                "Resident memory of the sidecar",
                "bytes",
                &[
                    sidecar(defs::SIDECAR_MEMORY, "Maximum", "largest environment"),
                    sidecar(defs::SIDECAR_MEMORY, "Average", "mean"),
                    constant("1048576 * ${MemorySize}", "memory size"),
                ],
            ),
            Widget::lines(
                "Disk and request memory (all)",
                "bytes",
                &[
                    sidecar(defs::TMP_FREE, "Minimum", "/tmp, least free"),
                    sidecar(defs::CACHE_BYTES, "Maximum", "cache, largest"),
                    sidecar(defs::REQUEST_MEMORY, "Maximum", "requests, most at once"),
                ],
            ),
            Widget::lines(
                "Queue, threads and descriptors (all)",
                "number",
                &[
                    sidecar(
                        defs::QUEUE_DEPTH,
                        "Maximum",
                        "queued requests, most at once",
                    ),
                    sidecar(defs::THREADS, "Maximum", "threads"),
                    sidecar(defs::FILE_DESCRIPTORS, "Maximum", "file descriptors"),
                ],
            ),
        ],
    )
}

fn concurrency() -> Row {
    row(
        2,
        "## Concurrency\n\
         **Spillover** above 0: provisioned concurrency was used up, and invocations met a cold start; raise it. \
         Utilization low for hours: lower it. Concurrency near the account's limit: ask for a higher one.",
        vec![
            Widget::lines(
                "Concurrent executions",
                "environments",
                &[function(
                    lambda::CONCURRENT_EXECUTIONS,
                    "Maximum",
                    "concurrent executions",
                )],
            ),
            Widget::lines(
                "Provisioned concurrency: spillover",
                "invocations",
                &[Series::of(
                    Metric::alias(lambda::SPILLOVER),
                    "Sum",
                    "spillover",
                )],
            ),
            Widget::lines(
                "Provisioned concurrency: utilization",
                "share",
                &[Series::of(
                    Metric::alias(lambda::PROVISIONED_UTILIZATION),
                    "Maximum",
                    "used share",
                )],
            ),
        ],
    )
}

fn cost() -> Row {
    let compute = "duration / 1000 * ${MemorySize} / 1024 * ${PricePerGbSecond}";
    let requests = "invocations * ${PricePerMillionRequests} / 1000000";
    let operands = || {
        vec![
            function(lambda::DURATION, "Sum", "")
                .id("duration")
                .hidden(),
            function(lambda::INVOCATIONS, "Sum", "")
                .id("invocations")
                .hidden(),
        ]
    };
    let mut split = operands();
    split.push(Series::expression(compute, "compute"));
    split.push(Series::expression(requests, "requests"));
    let mut per_million = operands();
    per_million.push(Series::expression(
        &format!("1000000 * ({compute} + {requests}) / invocations"),
        "dollars per million invocations",
    ));
    let mut total = operands();
    total.push(Series::expression(
        &format!("{compute} + {requests}"),
        "dollars in the time range",
    ));
    row(
        2,
        "## Cost\n\
         An estimate: `Duration`, which includes the time after the response, at ${MemorySize} MB and \
         ${PricePerGbSecond} dollars a GB-second, and ${PricePerMillionRequests} dollars a million invocations. Init is billed as well and is not \
         part of `Duration`. Not included: provisioned concurrency, S3, logs, and the metrics themselves.",
        vec![
            Widget::numbers("Cost, estimated", &total),
            Widget::stacked("Cost per hour, estimated", "dollars", &split).period(3600),
            Widget::lines(
                "Cost per million invocations, estimated",
                "dollars",
                &per_million,
            )
            .period(3600),
        ],
    )
}
