//! Series of a function in CloudWatch, by the minute.
//!
//! `ListMetrics` finds the combinations of dimensions, which `MODEL_METRICS_DIMENSIONS` can extend. `GetMetricData`
//! then reads each of them.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use anyhow::bail;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::http::HttpResponse;
use aws_sdk_cloudwatch::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{
    DimensionFilter, Metric, MetricDataQuery, MetricStat, RecentlyActive,
};
use model_sidecar::metrics::defs::{FUNCTION_LABEL, find};

use crate::aws_error;
use crate::context::Context;

/// Maximum number of queries in one request.
const MAX_QUERIES: usize = 500;
/// Period of every statistic, in seconds: the resolution of the sidecar's metrics.
const PERIOD: i32 = 60;
/// Range that CloudWatch's list of recently active metrics covers.
const RECENT: Duration = Duration::from_hours(3);

/// Values by the start of their minute, in seconds since 1970.
pub(super) type Minutes = BTreeMap<u64, f64>;

/// Metric with one combination of dimensions.
pub(super) struct Series {
    pub(super) metric: &'static str,
    pub(super) dimensions: BTreeMap<String, String>,
    pub(super) minutes: Minutes,
}

/// Statistic of a metric that combines the environments' values: a sum, or the largest of a state.
pub(super) fn statistic(metric: &str) -> &'static str {
    find(metric).map_or("Sum", |definition| definition.statistics()[0])
}

/// Reads these metrics of a function in a range of time.
pub(super) async fn read(
    context: &Context,
    namespace: &str,
    function: &str,
    metrics: &[&'static str],
    (start, end): (SystemTime, SystemTime),
) -> anyhow::Result<Vec<Series>> {
    let client = Client::new(context.aws().await);
    let failed = Failed {
        namespace,
        function,
    };
    let is_recent = start.elapsed().is_ok_and(|age| age < RECENT);
    let mut pages = client
        .list_metrics()
        .namespace(namespace)
        .dimensions(
            DimensionFilter::builder()
                .name(FUNCTION_LABEL)
                .value(function)
                .build(),
        )
        .set_recently_active(is_recent.then_some(RecentlyActive::Pt3H))
        .into_paginator()
        .send();
    let mut found = Vec::new();
    let mut has_any = false;
    while let Some(page) = pages.next().await {
        let page = page.map_err(|error| failed.error(&error))?;
        for metric in page.metrics.unwrap_or_default() {
            has_any = true;
            let name = metric.metric_name().unwrap_or_default();
            if let Some(name) = metrics.iter().find(|wanted| **wanted == name) {
                found.push((*name, metric));
            }
        }
    }
    if !has_any {
        let within = if is_recent { "3 hours" } else { "2 weeks" };
        bail!(
            "cannot find metrics of function {function:?} in namespace {namespace:?}: none was reported in the last \
             {within}; check the function's name, AWS_REGION, --namespace, and that MODEL_METRICS is not none"
        );
    }
    let mut series = Vec::new();
    for chunk in found.chunks(MAX_QUERIES) {
        let queries = chunk.iter().enumerate();
        let queries = queries.map(|(index, (name, metric))| query(index, name, metric));
        let mut pages = client
            .get_metric_data()
            .set_metric_data_queries(Some(queries.collect()))
            .start_time(DateTime::from(start))
            .end_time(DateTime::from(end))
            .into_paginator()
            .send();
        let mut values: HashMap<String, Minutes> = HashMap::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed.error(&error))?;
            for result in page.metric_data_results() {
                let minutes = values
                    .entry(result.id().unwrap_or_default().to_owned())
                    .or_default();
                let points = result.timestamps().iter().zip(result.values());
                minutes.extend(
                    points.filter_map(|(time, value)| {
                        Some((u64::try_from(time.secs()).ok()?, *value))
                    }),
                );
            }
        }
        for (index, (metric, description)) in chunk.iter().enumerate() {
            let dimensions = description
                .dimensions()
                .iter()
                .filter_map(|one| Some((one.name()?.to_owned(), one.value()?.to_owned())));
            series.push(Series {
                metric,
                dimensions: dimensions.collect(),
                minutes: values.remove(&id(index)).unwrap_or_default(),
            });
        }
    }
    Ok(series)
}

fn query(index: usize, name: &str, metric: &Metric) -> MetricDataQuery {
    let stat = MetricStat::builder()
        .metric(metric.clone())
        .period(PERIOD)
        .stat(statistic(name))
        .build();
    MetricDataQuery::builder()
        .id(id(index))
        .metric_stat(stat)
        .build()
}

/// Identifier of a query: begins with a lower-case letter.
fn id(index: usize) -> String {
    format!("m{index}")
}

/// Errors of the calls.
struct Failed<'a> {
    namespace: &'a str,
    function: &'a str,
}

impl Failed<'_> {
    /// Returns the error with a remedy.
    fn error<E>(&self, error: &SdkError<E, HttpResponse>) -> anyhow::Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let Self {
            namespace,
            function,
        } = self;
        let what = format!("read metrics of function {function:?} in namespace {namespace:?}");
        aws_error::describe(&what, "CloudWatch", error, |status, code, _| {
            match (status, code) {
                (403, _) | (_, "AccessDenied") => {
                    Some("grant cloudwatch:ListMetrics and cloudwatch:GetMetricData".to_owned())
                }
                (_, "Throttling") => Some("run the command again".to_owned()),
                _ => None,
            }
        })
    }
}
