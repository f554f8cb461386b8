//! CBOR representation of requests, in particular of `PutMetricData`, and of responses.

use std::time::{Duration, SystemTime};

use ciborium::Value;
use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::CloudWatchError;
use crate::listener::Body;

pub(super) const CBOR: HeaderValue = HeaderValue::from_static("application/cbor");

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct PutMetricData {
    pub(super) namespace: Option<String>,
    pub(super) metric_data: Vec<Datum>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Datum {
    pub(super) metric_name: Option<String>,
    pub(super) dimensions: Vec<Dimension>,
    pub(super) timestamp: Option<Timestamp>,
    pub(super) value: Option<f64>,
    pub(super) statistic_values: Option<StatisticSet>,
    pub(super) values: Option<Vec<f64>>,
    pub(super) counts: Option<Vec<f64>>,
    pub(super) unit: Option<String>,
    pub(super) storage_resolution: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Dimension {
    pub(super) name: Option<String>,
    pub(super) value: Option<String>,
}

/// A statistic set: a summary without a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StatisticSet {
    /// Number of observations.
    pub sample_count: f64,
    /// Sum of the observations.
    pub sum: f64,
    /// Smallest observation.
    pub minimum: f64,
    /// Largest observation.
    pub maximum: f64,
}

/// Seconds since the epoch, with or without a fraction, under CBOR's tag 1.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(super) struct Timestamp(pub(super) SystemTime);

impl TryFrom<Value> for Timestamp {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let Value::Tag(1, seconds) = value else {
            return Err(format!("a timestamp is tagged 1, this is {value:?}"));
        };
        let whole = |seconds: ciborium::value::Integer| {
            let seconds = u64::try_from(seconds).ok()?;
            Some(Duration::from_secs(seconds))
        };
        let since = match *seconds {
            Value::Integer(seconds) => whole(seconds),
            Value::Float(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            _ => None,
        };
        let time = since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since));
        time.map(Self)
            .ok_or_else(|| format!("not a time since 1970 in seconds: {seconds:?}"))
    }
}

/// Reads the body of a request.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, CloudWatchError> {
    ciborium::from_reader(body).map_err(|error| CloudWatchError::malformed(&error))
}

/// Response to a request that was performed.
pub(super) fn response(content: &Value) -> http::Response<Body> {
    let mut cbor = Vec::new();
    // Writing to memory cannot fail; if it did, the SDK would reject the empty body.
    let _ = ciborium::into_writer(content, &mut cbor);
    let mut response = http::Response::new(super::body(cbor));
    mark(response.headers_mut());
    response.headers_mut().insert(header::CONTENT_TYPE, CBOR);
    response
}

/// Adds the protocol and a request id, which every response carries.
pub(super) fn mark(headers: &mut HeaderMap) {
    headers.insert("smithy-protocol", HeaderValue::from_static("rpc-v2-cbor"));
    let id = HeaderValue::from_static("00000000-0000-0000-0000-000000000000");
    headers.insert("x-amzn-requestid", id);
}
