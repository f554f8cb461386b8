//! `PutMetricData`, within its limits.
//!
//! A request takes 1,000 metrics and 1 MB; a metric takes 150 distinct values with their counts, which is what
//! keeps percentiles real. Several data of one metric and minute add up.
//! Source: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html>.

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::error::{DisplayErrorContext, SdkError};
use aws_sdk_cloudwatch::operation::put_metric_data::PutMetricDataError;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit};
use futures_core::future::BoxFuture;

use super::defs::Unit;
use super::{Datum, Sink, SinkError};
use crate::aws::Unreachable;

const MOST_VALUES: usize = 150;
/// Below the limit of 1,000, so that a request full of distributions stays below 1 MB.
const MOST_METRICS: usize = 300;

/// Sends metrics to CloudWatch.
#[derive(Debug)]
pub struct CloudWatchSink {
    client: Client,
    namespace: String,
    function: Option<String>,
}

impl CloudWatchSink {
    /// A sink for this namespace; `function` is a dimension of every metric.
    #[must_use]
    pub fn new(aws: &SdkConfig, namespace: String, function: Option<String>) -> Self {
        Self {
            client: Client::new(aws),
            namespace,
            function,
        }
    }

    async fn put(&self, metrics: Vec<MetricDatum>) -> Result<(), String> {
        let sent = self
            .client
            .put_metric_data()
            .namespace(&self.namespace)
            .set_metric_data(Some(metrics))
            .send()
            .await;
        sent.map(drop).map_err(|error| explain(&error))
    }

    fn metrics(&self, datum: &Datum) -> Vec<MetricDatum> {
        let dimension =
            |name: &str, value: &str| Dimension::builder().name(name).value(value).build();
        let dimensions: Vec<Dimension> = self
            .function
            .iter()
            .map(|function| dimension("FunctionName", function))
            .chain(
                datum
                    .model
                    .iter()
                    .map(|model| dimension(super::defs::MODEL_LABEL, model)),
            )
            .collect();
        let unit = match datum.unit() {
            Unit::Count => StandardUnit::Count,
            Unit::Milliseconds => StandardUnit::Milliseconds,
            Unit::Seconds => StandardUnit::Seconds,
            Unit::Bytes => StandardUnit::Bytes,
        };
        let minute = i64::try_from(datum.minute.0).unwrap_or(i64::MAX);
        datum
            .values
            .chunks(MOST_VALUES)
            .map(|values| {
                MetricDatum::builder()
                    .metric_name(&datum.name)
                    .set_dimensions(Some(dimensions.clone()))
                    .timestamp(DateTime::from_millis(minute))
                    .unit(unit.clone())
                    .set_values(Some(values.iter().map(|(value, _)| *value).collect()))
                    .set_counts(Some(values.iter().map(|(_, count)| *count).collect()))
                    .build()
            })
            .collect()
    }
}

/// What went wrong, and what may help.
fn explain(error: &SdkError<PutMetricDataError>) -> String {
    if let Some(unreachable) = Unreachable::find(error) {
        return unreachable.in_full();
    }
    let status = error.raw_response().map(|raw| raw.status().as_u16());
    let advice = match status {
        Some(401 | 403) => " (the role needs cloudwatch:PutMetricData)",
        _ => "",
    };
    format!(
        "CloudWatch did not take the metrics{advice}: {}",
        DisplayErrorContext(error)
    )
}

impl Sink for CloudWatchSink {
    fn send<'a>(&'a self, data: &'a [Datum]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let mut delivered = 0;
            let mut batch: Vec<MetricDatum> = Vec::new();
            let mut batched = 0;
            for datum in data {
                let metrics = self.metrics(datum);
                if !batch.is_empty() && batch.len() + metrics.len() > MOST_METRICS {
                    let full = std::mem::take(&mut batch);
                    self.put(full)
                        .await
                        .map_err(|reason| SinkError { delivered, reason })?;
                    delivered += std::mem::take(&mut batched);
                }
                batch.extend(metrics);
                batched += 1;
            }
            self.put(batch)
                .await
                .map_err(|reason| SinkError { delivered, reason })
        })
    }
}

#[cfg(test)]
mod tests;
