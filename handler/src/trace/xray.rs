//! X-Ray's form of a call: independent subsegments.
//!
//! The call is one subsegment with its stages inside. The steps of a load are subsegments of their own, since they may
//! precede the invocation.
//!
//! Format: <https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html>.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::StatusCode;
use serde::Serialize;

use super::context::SampledTrace;
use super::record::{CallOutcome, CallRecord};
use super::stages::Stage;
use super::text::{new_id, shortened};

/// Name of the subsegment of a call.
const NAME: &str = "model-sidecar";

/// Subsegment. Only an independent one has `trace_id`, `parent_id` and `type`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Subsegment {
    name: &'static str,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "type")]
    kind: Option<&'static str>,
    /// Seconds since the Unix epoch.
    start_time: f64,
    end_time: f64,
    /// The caller's error.
    #[serde(skip_serializing_if = "is_false")]
    error: bool,
    /// The queue was full.
    #[serde(skip_serializing_if = "is_false")]
    throttle: bool,
    /// The model's or the sidecar's error.
    #[serde(skip_serializing_if = "is_false")]
    fault: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<Http>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subsegments: Vec<Subsegment>,
}

#[derive(Debug, Serialize)]
struct Cause {
    exceptions: [Exception; 1],
}

#[derive(Debug, Serialize)]
struct Exception {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    message: String,
}

#[derive(Debug, Serialize)]
struct Http {
    request: HttpRequest,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<HttpResponse>,
}

#[derive(Debug, Serialize)]
struct HttpRequest {
    method: String,
    url: String,
}

#[derive(Debug, Serialize)]
struct HttpResponse {
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_length: Option<u64>,
}

/// Fields by which X-Ray can search.
#[derive(Debug, Serialize)]
struct Annotations {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_version: Option<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Returns the documents of a call, each of which is sent alone; none if X-Ray does not sample its invocation.
pub(super) fn documents(record: &CallRecord) -> Vec<Subsegment> {
    let call = &record.call;
    let Some(trace) = &call.xray else {
        return Vec::new();
    };
    let mut subsegment = Subsegment::of(NAME, call.started, record.ended).within(trace);
    let request = HttpRequest {
        method: call.method.clone(),
        url: url(&call.path),
    };
    let response = match &record.outcome {
        CallOutcome::Response {
            status,
            length,
            model,
            version,
            ..
        } => {
            subsegment.set_status(*status);
            subsegment.annotations = annotations(model.as_ref(), version.as_ref());
            Some(HttpResponse {
                status: status.as_u16(),
                content_length: *length,
            })
        }
        CallOutcome::Failure {
            error_type,
            message,
        } => {
            subsegment.fault = true;
            let exception = Exception {
                id: new_id(),
                kind: error_type,
                message: message.clone(),
            };
            subsegment.cause = Some(Cause {
                exceptions: [exception],
            });
            None
        }
    };
    subsegment.http = Some(Http { request, response });
    let stages = record.stages();
    subsegment.subsegments = stages.request.iter().map(Subsegment::from).collect();
    let mut documents = vec![subsegment];
    let steps = stages.load.iter().map(Subsegment::from);
    documents.extend(steps.map(|step| step.within(trace)));
    documents
}

impl Subsegment {
    fn of(name: &'static str, started: SystemTime, ended: SystemTime) -> Self {
        Self {
            name,
            id: new_id(),
            start_time: seconds(started),
            end_time: seconds(ended),
            ..Self::default()
        }
    }

    /// Makes the subsegment an independent one of the invocation's segment.
    fn within(self, trace: &SampledTrace) -> Self {
        Self {
            trace_id: Some(trace.trace_id.clone()),
            parent_id: Some(trace.parent_id.clone()),
            kind: Some("subsegment"),
            ..self
        }
    }

    fn set_status(&mut self, status: StatusCode) {
        self.error = status.is_client_error();
        self.throttle = status == StatusCode::TOO_MANY_REQUESTS;
        self.fault = status.is_server_error();
    }
}

impl From<&Stage> for Subsegment {
    fn from(stage: &Stage) -> Self {
        Self::of(stage.name, stage.started, stage.ended)
    }
}

/// Time in seconds since the Unix epoch, to the microsecond.
fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = u64::try_from(since.as_micros()).unwrap_or_default();
    Duration::from_micros(micros).as_secs_f64()
}

/// URL of a call, without the caller's query.
fn url(path: &str) -> String {
    shortened(&format!("http://localhost{path}"))
}

fn annotations(model: Option<&String>, version: Option<&String>) -> Option<Annotations> {
    (model.is_some() || version.is_some()).then(|| Annotations {
        model: model.cloned(),
        model_version: version.cloned(),
    })
}
