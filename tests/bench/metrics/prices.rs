//! Price of the metrics of one environment, from the number and the size of its deliveries.
//!
//! Prices are those of us-east-1, without the free tier. Source: <https://aws.amazon.com/cloudwatch/pricing/>.

use lab::soak::deliveries::{DeliveryCost, SteadyTraffic};

use crate::figures::{Figures, Goal};

/// Dollars for a metric in a month, and the number of metrics up to which that price applies.
const METRIC: f64 = 0.30;
const FIRST_METRICS: f64 = 10_000.0;
/// Dollars for each further metric in a month, up to 250,000.
const FURTHER_METRIC: f64 = 0.10;
/// Dollars for a thousand calls of `PutMetricData`.
const THOUSAND_CALLS: f64 = 0.01;
/// Dollars for the ingestion of 10^9 bytes of log.
const GIGABYTE: f64 = 0.50;
/// Bytes that are charged for each event of a log, in addition to its length.
/// Source: the quotas of `PutLogEvents`.
const EVENT_OVERHEAD: f64 = 26.0;
/// Requests per second of a busy environment.
const BUSY: f64 = 10.0;
/// Default of `MODEL_METRICS_INTERVAL` allows this many deliveries in an hour.
const MAX_CALLS: f64 = 60.0;

/// Adds the figures of one hour.
pub(super) fn add(figures: &mut Figures, name: &str, traffic: SteadyTraffic, cost: DeliveryCost) {
    let mut figure =
        |what: &str, value: f64, unit| figures.add(format!("{name}: {what}"), value, unit);
    figure("requests in the hour", cost.requests, "");
    figure("metrics", cost.metrics, "");
    figure("bytes of log in the hour", cost.log_bytes, "B");
    if cost.calls > 0.0 {
        figure("bytes of a call", cost.call_bytes / cost.calls, "B");
    }
    let hour = cost.calls / 1000.0 * THOUSAND_CALLS
        + (cost.log_bytes + cost.lines * EVENT_OVERHEAD) / 1e9 * GIGABYTE;
    figure(
        "calls or log, dollars per environment and 1,000 hours",
        hour * 1000.0,
        "$",
    );
    figure(
        "the same per million requests at this rate",
        hour * 1e6 / cost.requests,
        "$",
    );
    if cost.requests >= MAX_CALLS {
        figure(
            "the same per million requests at 10 a second",
            hour * 1e6 / (BUSY * 3600.0),
            "$",
        );
    }
    figure(
        "metrics, dollars per function and month",
        cost.metrics * METRIC,
        "$",
    );
    figure(
        "metrics, dollars per 1,000 functions and month",
        metrics(1000.0 * cost.metrics),
        "$",
    );
    let calls = format!("{name}: calls of PutMetricData in the hour");
    let most = cost.requests.min(MAX_CALLS) + 1.0;
    let is_log = traffic.metrics == "emf";
    figures.add_with_goal(
        calls,
        cost.calls,
        "",
        Goal::AtMost(if is_log { 0.0 } else { most }),
    );
}

/// Dollars for this many metrics in a month.
fn metrics(count: f64) -> f64 {
    count.min(FIRST_METRICS) * METRIC + (count - FIRST_METRICS).max(0.0) * FURTHER_METRIC
}
