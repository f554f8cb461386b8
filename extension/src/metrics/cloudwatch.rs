//! `PutMetricData`, within its limits.
//!
//! A request takes 1,000 metrics and 1 MB; a metric takes 150 distinct values with their counts, which keeps
//! percentiles exact. Several data of one metric and minute add up. CloudWatch rejects a whole request for one
//! invalid datum. Such a request is halved until the datum is found; that datum is dropped, and the rest is
//! delivered. Source: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html>.

use std::collections::VecDeque;
use std::ops::Range;

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_cloudwatch::operation::put_metric_data::PutMetricDataError;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit};
use futures_core::future::BoxFuture;

use super::datum::Datum;
use super::defs::Unit;
use super::dimensions::Dimensions;
use super::sink::{DeliveryProgress, Rejection, Sink};
use crate::aws::{RandomIds, Unreachable};

/// Maximum number of distinct values of a metric in a request.
const MAX_VALUES: usize = 150;
/// Maximum number of metrics in a request: below the limit of 1,000, so that a request of distributions stays below 1
/// MB.
const MAX_METRICS: usize = 300;
/// Maximum number of times that a rejected request is halved. The few remaining data are sent individually.
const MAX_HALVINGS: u32 = 6;
/// Maximum number of requests of one delivery; the remaining data wait for the next delivery.
const MAX_REQUESTS: usize = 40;

/// Error of one attempt.
enum PutError {
    /// The request is invalid or too large; some of its data may be valid.
    Invalid(String),
    /// Any other reason; the same request may succeed later.
    Unavailable(String),
}

/// Sink that sends metrics to CloudWatch.
#[derive(Debug)]
pub struct CloudWatchSink {
    client: Client,
    namespace: String,
    dimensions: Dimensions,
}

impl CloudWatchSink {
    /// Creates a sink for `namespace`.
    #[must_use]
    pub fn new(aws: &SdkConfig, namespace: String, dimensions: Dimensions) -> Self {
        let config = aws_sdk_cloudwatch::config::Builder::from(aws)
            .invocation_id_generator(RandomIds)
            .build();
        Self {
            client: Client::from_conf(config),
            namespace,
            dimensions,
        }
    }

    async fn put(&self, data: &[Datum]) -> Result<(), PutError> {
        let metrics = data.iter().flat_map(|datum| self.metrics(datum)).collect();
        let sent = self
            .client
            .put_metric_data()
            .namespace(&self.namespace)
            .set_metric_data(Some(metrics))
            .send()
            .await;
        sent.map(drop).map_err(|error| {
            let reason = explain(&error);
            if is_invalid(&error) {
                PutError::Invalid(reason)
            } else {
                PutError::Unavailable(reason)
            }
        })
    }

    fn metrics(&self, datum: &Datum) -> Vec<MetricDatum> {
        let dimensions: Vec<Dimension> = self
            .dimensions
            .of(datum)
            .into_iter()
            .map(|(name, value)| Dimension::builder().name(name).value(value).build())
            .collect();
        let unit = match datum.metric.unit {
            Unit::Count => StandardUnit::Count,
            Unit::Milliseconds => StandardUnit::Milliseconds,
            Unit::Seconds => StandardUnit::Seconds,
            Unit::Bytes => StandardUnit::Bytes,
            Unit::None => StandardUnit::None,
        };
        let minute = i64::try_from(datum.minute.0).unwrap_or(i64::MAX);
        datum
            .values
            .chunks(MAX_VALUES)
            .map(|values| {
                MetricDatum::builder()
                    .metric_name(datum.metric.name)
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

/// Describes the error, with a hint.
fn explain(error: &SdkError<PutMetricDataError>) -> String {
    if let Some(unreachable) = Unreachable::find(error) {
        return unreachable.in_full();
    }
    let status = error.raw_response().map(|raw| raw.status().as_u16());
    let hint = match status {
        Some(401 | 403) => " (the role needs cloudwatch:PutMetricData)",
        _ => "",
    };
    format!(
        "cannot deliver metrics to CloudWatch{hint}: {}",
        DisplayErrorContext(error)
    )
}

/// Returns `true` if CloudWatch rejected the contents of the request, so that the same request never succeeds.
fn is_invalid(error: &SdkError<PutMetricDataError>) -> bool {
    let status = error.raw_response().map(|raw| raw.status().as_u16());
    let code = error
        .as_service_error()
        .and_then(ProvideErrorMetadata::code);
    let codes = [
        "InvalidParameterValue",
        "InvalidParameterCombination",
        "MissingParameter",
        "MissingRequiredParameter",
        "InvalidFormat",
        "ValidationError",
        "ValidationException",
        "RequestEntityTooLarge",
    ];
    let has_code = code.is_some_and(|code| {
        let code = code.strip_suffix("Exception").unwrap_or(code);
        codes
            .iter()
            .any(|invalid| invalid.strip_suffix("Exception").unwrap_or(invalid) == code)
    });
    status == Some(413) || has_code
}

/// Splits `data` into requests within the limits.
fn requests(data: &[Datum]) -> Vec<Range<usize>> {
    let mut requests: Vec<Range<usize>> = Vec::new();
    let mut metrics = 0;
    for (at, datum) in data.iter().enumerate() {
        let of_datum = datum.values.len().div_ceil(MAX_VALUES);
        metrics += of_datum;
        match requests.last_mut() {
            Some(request) if metrics <= MAX_METRICS => request.end = at + 1,
            _ => {
                metrics = of_datum;
                requests.push(at..at + 1);
            }
        }
    }
    requests
}

/// Splits a rejected request into the parts that are sent again: halves, or single data after [`MAX_HALVINGS`].
fn split(request: Range<usize>, halvings: u32) -> Vec<Range<usize>> {
    if halvings == MAX_HALVINGS {
        return request.map(|at| at..at + 1).collect();
    }
    let middle = request.start + request.len() / 2;
    vec![request.start..middle, middle..request.end]
}

impl Sink for CloudWatchSink {
    fn send<'a>(
        &'a self,
        data: &'a [Datum],
        progress: &'a DeliveryProgress,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let requests = requests(data).into_iter().map(|request| (request, 0));
            let mut pending: VecDeque<(Range<usize>, u32)> = requests.collect();
            for _ in 0..MAX_REQUESTS {
                let Some((request, halvings)) = pending.pop_front() else {
                    return Ok(());
                };
                match self.put(&data[request.clone()]).await {
                    Ok(()) => progress.settle(request.end),
                    Err(PutError::Invalid(reason)) if request.len() == 1 => {
                        let metric = data[request.start].metric.name;
                        progress.reject(request.end, Rejection { metric, reason });
                    }
                    Err(PutError::Invalid(_)) => {
                        for part in split(request, halvings).into_iter().rev() {
                            pending.push_front((part, halvings + 1));
                        }
                    }
                    Err(PutError::Unavailable(reason)) => return Err(reason),
                }
            }
            if pending.is_empty() {
                return Ok(());
            }
            Err(format!("{MAX_REQUESTS} requests did not deliver all data"))
        })
    }
}

#[cfg(test)]
mod tests;
