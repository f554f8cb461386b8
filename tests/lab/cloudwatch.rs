//! A `CloudWatch` server that accepts `PutMetricData` as current AWS SDKs send it: RPC v2 with CBOR
//! bodies, compressed or not, signed with `SigV4`. `ListMetrics` and `GetMetricData` read the data.
//!
//! The server verifies every signature and rejects what `CloudWatch` rejects, with the same error
//! codes (see `limits`). Accepted data are kept as [`Datapoint`]s for queries. As in `CloudWatch`,
//! a request is accepted whole or not at all. There is no other operation: no alarms and no
//! dashboards.
//!
//! Requests can be made to fail ([`CloudWatch::fail_next`]) or to wait at a gate
//! ([`CloudWatch::stall`]). The server goes [`down`](CloudWatch::down) and [`up`](CloudWatch::up)
//! on the same port.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ciborium::Value;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use crate::gate::Gate;
use crate::listener::{Body, ConnectionControl, Handler, ListenError, Listener};
use crate::records::{NotSeen, Records};

pub mod emf;
mod error;
mod limits;
mod query;
mod read;
mod signature;
mod statistic;
mod wire;

use error::CloudWatchError;

pub use query::{Datapoint, Filter, StatisticSet, Values};
pub use statistic::{NoSuchStatistic, Points, Statistic, aggregate};

/// Path of the operations, before their names.
const OPERATIONS: &str = "/service/GraniteServiceVersion20100801/operation/";

/// A running `CloudWatch` server on 127.0.0.1. It stops when dropped.
pub struct CloudWatch {
    listener: Listener<CloudWatchHandler>,
    front: Arc<CloudWatchHandler>,
}

/// One recorded request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Time of arrival.
    pub at: SystemTime,
    /// Status of the response.
    pub status: u16,
    /// `CloudWatch`'s error code; `None` if the data were accepted.
    pub error: Option<String>,
    /// Message of the error.
    pub message: Option<String>,
    /// Number of metrics or queries in the request, 0 if it could not be read.
    pub metrics: usize,
    /// Size of the body as sent, in bytes.
    pub bytes: usize,
    /// `true` if the body was compressed.
    pub is_compressed: bool,
}

impl CloudWatch {
    /// Starts on a free port.
    ///
    /// # Errors
    /// [`ListenError`] if no port is available.
    pub async fn start() -> Result<Self, ListenError> {
        Self::start_on(0).await
    }

    /// Starts on `port` of 127.0.0.1; 0 selects a free port.
    ///
    /// # Errors
    /// [`ListenError`] if the port is not available.
    pub async fn start_on(port: u16) -> Result<Self, ListenError> {
        let front = Arc::new(CloudWatchHandler::default());
        let listener = Listener::start(port, Arc::clone(&front)).await?;
        Ok(Self { listener, front })
    }

    /// `http://127.0.0.1:PORT`, for `AWS_ENDPOINT_URL_CLOUDWATCH`.
    #[must_use]
    pub fn url(&self) -> String {
        self.listener.url()
    }

    /// Port of the server, down or up.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Environment variables that make a process use this server: its address and the lab's keys.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let keys = crate::credentials::env().map(|(name, value)| (name.into(), value.into()));
        let mut env = Vec::from(keys);
        env.push(("AWS_ENDPOINT_URL_CLOUDWATCH".into(), self.url()));
        env
    }

    /// All accepted datapoints that match the filter.
    #[must_use]
    pub fn datapoints(&self, filter: &Filter) -> Vec<Datapoint> {
        self.front.datapoints.matching(|one| filter.matches(one))
    }

    /// Sum of all observations.
    #[must_use]
    pub fn sum(&self, filter: &Filter) -> f64 {
        query::sum(&self.datapoints(filter))
    }

    /// Number of observations, `CloudWatch`'s `SampleCount`.
    #[must_use]
    pub fn count(&self, filter: &Filter) -> f64 {
        query::count(&self.datapoints(filter))
    }

    /// Smallest value that is not exceeded by `percent` of the observations; `None` without
    /// observations. Statistic sets carry no distribution and are skipped.
    #[must_use]
    pub fn percentile(&self, filter: &Filter, percent: f64) -> Option<f64> {
        query::percentile(&self.datapoints(filter), percent)
    }

    /// Accepted datapoints that match the filter and had been accepted before, in an attempt of the
    /// same call. Attempts of a call have the same header `amz-sdk-invocation-id`.
    #[must_use]
    pub fn repeated(&self, filter: &Filter) -> Vec<Datapoint> {
        self.front.repeated.matching(|one| filter.matches(one))
    }

    /// Waits until `holds` is true for the accepted datapoints, and returns them. `wanted`
    /// describes the condition in the error message.
    ///
    /// # Errors
    /// [`NotSeen`] with all datapoints, if the condition does not become true.
    pub async fn wait_until(
        &self,
        wanted: &str,
        holds: impl FnMut(&[Datapoint]) -> bool,
    ) -> Result<Vec<Datapoint>, NotSeen> {
        self.front.datapoints.wait_until(wanted, holds).await
    }

    /// All requests answered so far.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.front.requests.all()
    }

    /// Waits until `holds` is true for the answered requests, and returns them.
    ///
    /// # Errors
    /// [`NotSeen`] with all requests, if the condition does not become true.
    pub async fn wait_for_requests(
        &self,
        wanted: &str,
        holds: impl FnMut(&[Request]) -> bool,
    ) -> Result<Vec<Request>, NotSeen> {
        self.front.requests.wait_until(wanted, holds).await
    }

    /// Fails the next `count` requests without reading them: `400` `Throttling`, `503`
    /// `ServiceUnavailable`, `500` `InternalFailure`.
    pub fn fail_next(&self, count: usize, status: u16, code: &str) {
        let error = CloudWatchError::injected(status, code);
        self.front
            .failures()
            .extend(std::iter::repeat_n(error, count));
    }

    /// Advances the server's clock, for time that passed while an execution environment was frozen.
    pub fn let_pass(&self, time: Duration) {
        let mut ahead = self.front.ahead();
        *ahead += time;
    }

    /// Makes all requests wait at the gate before they are read.
    pub fn stall(&self, gate: &Gate) {
        *self
            .front
            .gate
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(gate.clone());
    }

    /// Ends all failures and stalls; waiting requests continue.
    pub fn heal(&self) {
        self.front.failures().clear();
        let gate = self.front.gate.lock();
        if let Some(gate) = gate.unwrap_or_else(PoisonError::into_inner).take() {
            gate.open();
        }
    }

    /// Closes the port and cuts every connection.
    pub async fn down(&mut self) {
        self.listener.down().await;
    }

    /// Listens again on the same port and keeps the accepted data.
    ///
    /// # Errors
    /// [`ListenError`] if the port was taken in the interim.
    pub async fn up(&mut self) -> Result<(), ListenError> {
        self.listener.up().await
    }
}

#[derive(Default)]
struct CloudWatchHandler {
    /// Offset of the server's clock from the machine's.
    ahead: Mutex<Duration>,
    datapoints: Records<Datapoint>,
    repeated: Records<Datapoint>,
    /// Identifiers of the calls whose data were accepted.
    calls: Mutex<BTreeSet<String>>,
    requests: Records<Request>,
    failures: Mutex<VecDeque<CloudWatchError>>,
    gate: Mutex<Option<Gate>>,
}

impl Handler for CloudWatchHandler {
    async fn handle(
        &self,
        request: http::Request<Incoming>,
        _line: Arc<ConnectionControl>,
    ) -> http::Response<Body> {
        let (head, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            // The client has disconnected, so nothing reads this response.
            Err(error) => return CloudWatchError::malformed(&error).response(),
        };
        let gate = self
            .gate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        let mut record = Request {
            at: SystemTime::now(),
            status: StatusCode::OK.as_u16(),
            error: None,
            message: None,
            metrics: 0,
            bytes: body.len(),
            is_compressed: head.headers.contains_key(header::CONTENT_ENCODING),
        };
        let now = SystemTime::now() + *self.ahead();
        let failure = self.failures().pop_front();
        let outcome = match failure {
            Some(error) => Err(error),
            None => self.perform(&head, &body, now, &mut record.metrics),
        };
        let mut answer = match outcome {
            Ok(answer) => {
                self.requests.push(record);
                wire::response(&answer)
            }
            Err(error) => {
                record.status = error.status().as_u16();
                record.error = Some(error.code().to_owned());
                record.message = Some(error.message().to_owned());
                self.requests.push(record);
                error.response()
            }
        };
        // A client whose clock is off corrects its next signature by this header.
        if let Ok(date) = httpdate::fmt_http_date(now).parse() {
            answer.headers_mut().insert(header::DATE, date);
        }
        answer
    }
}

impl CloudWatchHandler {
    /// Performs one request that arrived at `now`, and returns the content of the response. Sets
    /// `metrics` to the number of the request's metrics or queries.
    fn perform(
        &self,
        head: &http::request::Parts,
        body: &Bytes,
        now: SystemTime,
        metrics: &mut usize,
    ) -> Result<Value, CloudWatchError> {
        let path = head.uri.path();
        let operation = match path.strip_prefix(OPERATIONS) {
            Some(operation) if head.method == Method::POST => operation,
            _ => return Err(CloudWatchError::unknown_operation(path)),
        };
        if text(&head.headers, "smithy-protocol") != Some("rpc-v2-cbor") {
            return Err(CloudWatchError::unknown_operation(
                "no smithy-protocol: rpc-v2-cbor",
            ));
        }
        signature::check(head, body, now)?;
        let body = decompressed(&head.headers, body)?;
        match operation {
            "PutMetricData" => {
                let input: wire::PutMetricData = wire::read(&body)?;
                *metrics = input.metric_data.len();
                limits::check(&input, now)?;
                let datapoints = query::datapoints(input, now);
                if self.is_repeated(&head.headers) {
                    self.repeated.extend(datapoints.clone());
                }
                self.datapoints.extend(datapoints);
                Ok(Value::Map(Vec::new()))
            }
            "ListMetrics" => read::list(&wire::read(&body)?, &self.datapoints.all(), now),
            "GetMetricData" => {
                let input: read::GetMetricData = wire::read(&body)?;
                *metrics = input.metric_data_queries.len();
                read::get(&input, &self.datapoints.all())
            }
            _ => Err(CloudWatchError::unknown_operation(path)),
        }
    }

    /// Notes the call of an accepted request; `true` if it was accepted before.
    fn is_repeated(&self, headers: &HeaderMap) -> bool {
        let Some(call) = text(headers, "amz-sdk-invocation-id") else {
            return false;
        };
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        !calls.insert(call.to_owned())
    }

    fn ahead(&self) -> std::sync::MutexGuard<'_, Duration> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, VecDeque<CloudWatchError>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn decompressed(headers: &HeaderMap, body: &Bytes) -> Result<Bytes, CloudWatchError> {
    let mut plain = Vec::new();
    match text(headers, "content-encoding") {
        None => plain.extend_from_slice(body),
        Some("gzip") => {
            // Reading one byte past the limit is enough to detect an oversized body.
            let most = limits::LARGEST_REQUEST as u64 + 1;
            let mut reader = flate2::read::GzDecoder::new(&body[..]).take(most);
            reader
                .read_to_end(&mut plain)
                .map_err(|error| CloudWatchError::malformed(&error))?;
        }
        Some(other) => {
            let error = io::Error::other(format!("content encoding {other}"));
            return Err(CloudWatchError::malformed(&error));
        }
    }
    if plain.len() > limits::LARGEST_REQUEST {
        return Err(CloudWatchError::too_large());
    }
    Ok(plain.into())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}
