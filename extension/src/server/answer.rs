//! From a request to an answer.

use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use hyper::{Request, Response, StatusCode};

use super::Context;
use super::about;
use super::auth::{called, is_restricted};
use super::await_model::loaded;
use super::body::{HEADER_LENGTH_NAME, body, header_length};
use super::compression;
use super::document;
use super::error::ApiError;
use super::host::Transport;
use super::media_type;
use super::off_thread::off_thread;
use super::repository;
use super::response_body::ResponseBody;
use super::route::{Route, Target};
use super::statistics::{self, Success};
use crate::clock::Deadline;
use crate::ids::ModelName;
use crate::models::Loaded;
use crate::protocol::v2::{self, Encoded};
use crate::protocol::{AnsweredBy, BadRequest, DecodeError, Decoded, predict, tfserving};
use crate::request_memory::{Charge, Over, OverBudget};
use crate::scheduler::RunError;
use crate::tensor::{Signature, Value};

/// The invocation's deadline, as the Runtime API gives it to whoever forwards the request.
const DEADLINE_HEADER: &str = "lambda-runtime-deadline-ms";
/// Known as a name, it need not be read as one for each request.
static DEADLINE: HeaderName = HeaderName::from_static(DEADLINE_HEADER);
/// An answer is ready so much earlier than the deadline, for whoever forwards it.
const DEADLINE_MARGIN: Duration = Duration::from_millis(100);
/// The longest wait of a request that comes with no deadline, outside an invocation.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A body of so many bytes is decoded, and outputs of so many are written, off the threads that serve: it takes about a
/// millisecond.
const LARGE: usize = 256 * 1024;
/// Bytes of JSON for each byte of a tensor of single precision, of some ten digits and a comma.
const TEXT_PER_BYTE: usize = 3;

pub(super) type Answer = Response<ResponseBody>;

/// Extensions of the protocol that are the operator's.
const OPERATOR_EXTENSIONS: &[&str] = &[repository::EXTENSION, statistics::EXTENSION];
/// Extensions of the protocol that every caller may use.
const EXTENSIONS: &[&str] = &[
    v2::BINARY_EXTENSION,
    v2::CLASSIFICATION_EXTENSION,
    v2::CONFIGURATION_EXTENSION,
];

/// Answers one request; whatever goes wrong is an answer, too.
pub(super) async fn answer(
    request: Request<Incoming>,
    transport: Transport,
    context: &Context,
) -> Answer {
    let has_body = !request.body().is_end_stream();
    let accepts_gzip = compression::accepts_gzip(request.headers());
    let result = match called(&request, transport, context) {
        Ok(route) => call(request, route, context).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(answer) => compression::encode(answer, accepts_gzip).await,
        Err(error) => {
            let mut answer = error_answer(&error);
            if has_body && error.leaves_body() {
                // What is left of the body cannot be told from a next request.
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            answer
        }
    }
}

async fn call(
    request: Request<Incoming>,
    route: Route,
    context: &Context,
) -> Result<Answer, ApiError> {
    match route {
        Route::Server => Ok(server_metadata(request.headers(), context)),
        Route::Live => Ok(json(StatusCode::OK, b"{\"live\":true}".to_vec())),
        Route::Ready => about::ready(request.headers(), context).await,
        Route::OpenApi => document::answer(compression::accepts_gzip(request.headers())),
        Route::ModelMetadata(target) => about::metadata(&request, &target, context).await,
        Route::ModelConfiguration(target) => about::configuration(&request, &target, context).await,
        Route::ModelReady(target) => about::model_ready(&target, context),
        Route::Infer(target) => {
            let name = find(&target.model, context)?;
            infer(request, name, Form::OpenInference(target), context).await
        }
        Route::Statistics(target) => statistics::answer(target.as_ref(), context),
        Route::RepositoryIndex => repository::index(request, context).await,
        Route::RepositoryLoad(model) => repository::load(request, &model, context).await,
        Route::RepositoryUnload(model) => repository::unload(&model, context),
        Route::TensorFlowStatus(target) => about::tensorflow_status(&target, context),
        Route::TensorFlowMetadata(target) => {
            about::tensorflow_metadata(&request, &target, context).await
        }
        Route::TensorFlowPredict(target) => {
            let name = find(&target.model, context)?;
            infer(request, name, Form::TensorFlow(target), context).await
        }
        Route::Predict(model) => plain_predict(request, model, context).await,
        Route::Options { allowed } => Ok(options(allowed)),
    }
}

/// The server's name, version and the extensions that this caller may use.
fn server_metadata(headers: &HeaderMap, context: &Context) -> Answer {
    let extensions = if is_restricted(headers, context) {
        EXTENSIONS.to_vec()
    } else {
        [OPERATOR_EXTENSIONS, EXTENSIONS].concat()
    };
    json(StatusCode::OK, v2::server_metadata(&extensions))
}

/// What a path takes, without a body.
fn options(allowed: &'static str) -> Answer {
    let mut answer = Response::new(ResponseBody::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let allowed = HeaderValue::from_static(allowed);
    answer.headers_mut().insert(ALLOW, allowed);
    answer
}

fn error_answer(error: &ApiError) -> Answer {
    let body = serde_json::json!({ "error": error.to_string() });
    let mut answer = json(error.status(), body.to_string().into_bytes());
    match error {
        ApiError::Method { allowed, .. } => {
            let allowed = HeaderValue::from_static(allowed);
            answer.headers_mut().insert(ALLOW, allowed);
        }
        ApiError::Unauthorized { header, .. } => {
            let scheme = HeaderValue::from_static(header);
            answer.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        ApiError::NotReady(_)
        | ApiError::Ending
        | ApiError::OverBudget(OverBudget {
            over: Over::Now { .. },
            ..
        })
        | ApiError::Run(RunError::Full { .. }) => {
            answer
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    answer
}

pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(ResponseBody::from(body.into()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// The form in which a request comes and its answer goes.
enum Form {
    /// The Open Inference Protocol, for the version that the target names, if it names one.
    OpenInference(Target),
    /// TensorFlow Serving's, likewise.
    TensorFlow(Target),
    /// `/predict`.
    Plain,
}

/// What an answer must know of its request.
enum Reply {
    OpenInference(v2::Reply),
    TensorFlow(tfserving::Layout),
    Plain,
}

impl Form {
    /// What to run, and how to answer.
    fn decode(
        &self,
        body: &Bytes,
        header_length: Option<usize>,
        signature: &Signature,
        charge: &mut Charge,
    ) -> Result<(Decoded, Reply), DecodeError> {
        match self {
            Form::OpenInference(_) => v2::decode(body, header_length, signature, charge)
                .map(|(decoded, reply)| (decoded, Reply::OpenInference(reply))),
            Form::TensorFlow(_) => tfserving::decode(body, signature, charge)
                .map(|(decoded, layout)| (decoded, Reply::TensorFlow(layout))),
            Form::Plain => {
                let decoded = predict::decode(body, signature, charge);
                decoded.map(|decoded| (decoded, Reply::Plain))
            }
        }
    }

    /// What a request to this version runs, and how to answer.
    fn decode_for(
        &self,
        loaded: &Loaded,
        body: &Bytes,
        header_length: Option<usize>,
        media_type: Option<&HeaderValue>,
        charge: &mut Charge,
    ) -> Result<(Decoded, Reply), DecodeError> {
        let decoded = self.decode(body, header_length, loaded.signature(), charge);
        let (decoded, reply) = decoded.map_err(|error| match (error, header_length) {
            (DecodeError::Invalid(error), None) => {
                DecodeError::Invalid(media_type::explained(error, media_type, body))
            }
            (error, _) => error,
        })?;
        self.check_dimensions(&decoded, loaded)?;
        Ok((decoded, reply))
    }

    /// Makes sure that inputs which share a dimension agree in its size. The Open Inference Protocol gives shapes, where
    /// a size of 1 is meant to broadcast; in the other forms a single row among several is a mistake.
    fn check_dimensions(&self, decoded: &Decoded, loaded: &Loaded) -> Result<(), BadRequest> {
        let may_broadcast = matches!(self, Form::OpenInference(_));
        loaded
            .shared_dimensions()
            .check(&decoded.inputs, may_broadcast)
            .map_err(|mismatch| BadRequest(mismatch.to_string()))
    }

    /// The version that is asked for.
    fn target(&self) -> Option<&Target> {
        match self {
            Form::OpenInference(target) | Form::TensorFlow(target) => Some(target),
            Form::Plain => None,
        }
    }
}

impl Reply {
    /// Bytes that outputs take while they are written. The length of a number's text is an estimate.
    fn bytes(&self, outputs: &[(String, Value)]) -> usize {
        let bytes = outputs.iter().map(|(name, value)| {
            let is_text = match self {
                Reply::OpenInference(reply) => !reply.is_binary(name),
                Reply::TensorFlow(_) | Reply::Plain => true,
            };
            let text = if is_text { TEXT_PER_BYTE } else { 0 };
            value.memory().saturating_mul(1 + text)
        });
        bytes.fold(0, usize::saturating_add)
    }

    fn encode(
        &self,
        loaded: &Loaded,
        outputs: Vec<(String, Value)>,
    ) -> Result<Encoded, BadRequest> {
        match self {
            Reply::OpenInference(reply) => Ok(reply.encode(answered_by(loaded), outputs)),
            Reply::TensorFlow(layout) => tfserving::encode(*layout, &outputs).map(Encoded::json),
            Reply::Plain => Ok(Encoded::json(predict::encode(
                answered_by(loaded),
                &outputs,
            ))),
        }
    }
}

/// The answer that was encoded so. It keeps `charge` until it is sent.
fn response(encoded: Encoded, mut charge: Charge) -> Result<Answer, ApiError> {
    let pieces = ResponseBody::from(encoded.pieces);
    charge.grow(pieces.length())?;
    charge.settle();
    let mut answer = Response::new(pieces.with_charge(charge));
    let headers = answer.headers_mut();
    let media_type = match encoded.header_length {
        None => "application/json",
        Some(length) => {
            headers.insert(&HEADER_LENGTH_NAME, length.into());
            "application/octet-stream"
        }
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(answer)
}

/// Runs the model, and counts how that ended.
async fn infer(
    request: Request<Incoming>,
    name: &ModelName,
    form: Form,
    context: &Context,
) -> Result<Answer, ApiError> {
    let mut answering = None;
    let result = observed(name, context, async {
        let deadline = deadline(request.headers(), context)?;
        let header_length = header_length(request.headers())?;
        let media_type = media_type::other_than_json(request.headers());
        let mut charge = Charge::new(&context.account);
        let body = body(request, header_length, deadline, &mut charge, context);
        let body = body.await?;
        let received = Instant::now();
        let loaded = loaded(name, deadline, context).await?;
        if let Some(target) = form.target() {
            check_target(target, &loaded)?;
        }
        answering = Some((Arc::clone(&loaded), received));
        let decoding = Instant::now();
        let (decoded, reply) = if body.len() < LARGE {
            form.decode_for(
                &loaded,
                &body,
                header_length,
                media_type.as_ref(),
                &mut charge,
            )?
        } else {
            let (body, model) = (body.clone(), Arc::clone(&loaded));
            let decode = move |charge: &mut Charge| {
                form.decode_for(&model, &body, header_length, media_type.as_ref(), charge)
            };
            off_thread(&mut charge, deadline, context, decode).await??
        };
        // The inputs hold on to what they need of it.
        if body.is_unique() {
            charge.shrink(body.len());
        }
        drop(body);
        charge.settle();
        let rows = decoded.rows(loaded.signature());
        let decode = decoding.elapsed();
        let mut ran = context
            .scheduler
            .run_rows(Arc::clone(&loaded), decoded, deadline, &mut charge)
            .await;
        context.watch(&loaded, &mut ran);
        let mut ran = ran?;
        let encoding = Instant::now();
        let outputs = std::mem::take(&mut ran.outputs);
        // The inputs are gone.
        charge.shrink(charge.used());
        let written = reply.bytes(&outputs);
        charge.grow(written)?;
        let encoded = if written < LARGE {
            reply.encode(&loaded, outputs)?
        } else {
            let model = Arc::clone(&loaded);
            let encode = move |_: &mut Charge| reply.encode(&model, outputs);
            off_thread(&mut charge, deadline, context, encode).await??
        };
        charge.shrink(charge.used());
        let answer = response(encoded, charge)?;
        let success = Success {
            rows: u64::try_from(rows).unwrap_or(u64::MAX),
            batched_requests: ran.batched_requests,
            is_first: ran.is_first,
            whole: received.elapsed(),
            queue: ran.queued,
            decode,
            infer: ran.inferred,
            encode: encoding.elapsed(),
        };
        statistics::count(context, &loaded, Ok(success));
        let answer = named(answer, &loaded);
        Ok(timed(answer, success, name, context))
    })
    .await;
    match (result, answering) {
        // An error, too, names the version that it came from.
        (Err(error), Some((loaded, received))) => {
            statistics::count(context, &loaded, Err(received.elapsed()));
            Ok(named(error_answer(&error), &loaded))
        }
        (result, _) => result,
    }
}

async fn plain_predict(
    request: Request<Incoming>,
    model: Option<String>,
    context: &Context,
) -> Result<Answer, ApiError> {
    let name = match &model {
        Some(model) => find(model, context)?,
        None => context.models.only().ok_or_else(|| ApiError::WhichModel {
            known: known(context),
        })?,
    };
    infer(request, name, Form::Plain, context).await
}

/// Counts how an inference ended.
async fn observed(
    name: &ModelName,
    context: &Context,
    work: impl Future<Output = Result<Answer, ApiError>>,
) -> Result<Answer, ApiError> {
    let result = tokio::select! {
        biased;
        result = work => result,
        () = context.over() => Err(ApiError::Ending),
    };
    if let Some(metrics) = context.metrics.get(name) {
        match &result {
            Ok(_) => metrics.inferences.increment(1),
            Err(ApiError::Run(RunError::Full { .. })) => metrics.full.increment(1),
            Err(error) if error.status().is_client_error() => metrics.refused.increment(1),
            Err(error) => {
                metrics.errors.increment(1);
                tracing::warn!(model = %name, status = error.status().as_u16(), "an inference failed: {error}");
            }
        }
    }
    result
}

/// Observes where the time of an answer went, and names it in the answer as `Server-Timing` does, in milliseconds.
fn timed(mut answer: Answer, success: Success, name: &ModelName, context: &Context) -> Answer {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    if let Some(metrics) = context.metrics.get(name) {
        metrics.latency.record(ms(success.whole));
        metrics.queue.record(ms(success.queue));
        if success.is_first && context.scheduler.limits().batch.is_some() {
            let together = u32::try_from(success.batched_requests).unwrap_or(u32::MAX);
            metrics.batch.record(together);
        }
    }
    let mut text = String::with_capacity(80);
    let parts = [
        ("queue", success.queue),
        ("decode", success.decode),
        ("infer", success.infer),
        ("encode", success.encode),
    ];
    for (index, (part, time)) in parts.into_iter().enumerate() {
        let separator = if index > 0 { ", " } else { "" };
        // As whole numbers, which are written faster than fractions.
        let (ms, rest) = (time.as_millis(), time.subsec_micros() % 1000);
        let _ = write!(text, "{separator}{part};dur={ms}.{rest:03}");
    }
    if let Ok(value) = HeaderValue::try_from(text) {
        answer
            .headers_mut()
            .insert(HeaderName::from_static("server-timing"), value);
    }
    answer
}

pub(super) fn named(mut answer: Answer, loaded: &Loaded) -> Answer {
    let texts = loaded.texts();
    for (header, text) in [
        ("x-model-name", &texts.name),
        ("x-model-version", &texts.version),
        ("x-model-digest", &texts.digest),
    ] {
        if let Ok(value) = HeaderValue::from_maybe_shared(text.clone()) {
            answer
                .headers_mut()
                .insert(HeaderName::from_static(header), value);
        }
    }
    answer
}

pub(super) fn answered_by(loaded: &Loaded) -> AnsweredBy<'_> {
    AnsweredBy {
        model: loaded.name.as_str(),
        version: loaded.version.as_str(),
    }
}

pub(super) fn known(context: &Context) -> String {
    context
        .models
        .names()
        .map(ModelName::as_str)
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) fn find<'a>(given: &str, context: &'a Context) -> Result<&'a ModelName, ApiError> {
    context
        .models
        .name(given)
        .ok_or_else(|| ApiError::NoSuchModel {
            given: given.to_owned(),
            known: known(context),
        })
}

/// Makes sure that the active version is the one that the request names, if it names one.
pub(super) fn check_target(target: &Target, loaded: &Loaded) -> Result<(), ApiError> {
    let is_active = |version: &str| version == loaded.version.as_str();
    if let Some(given) = &target.version
        && !is_active(given)
    {
        return Err(ApiError::NoSuchVersion {
            model: target.model.clone(),
            given: given.clone(),
            current: loaded.version.to_string(),
        });
    }
    let Some(given) = &target.label else {
        return Ok(());
    };
    let points_to = loaded.labels.version(given);
    if points_to.is_some_and(|version| is_active(version.as_str())) {
        return Ok(());
    }
    Err(ApiError::NoSuchLabel {
        model: target.model.clone(),
        given: given.clone(),
        points_to: match points_to {
            Some(version) => format!("names version {:?}", version.as_str()),
            None => "names no version".to_owned(),
        },
        current: loaded.version.to_string(),
    })
}

/// The request's own deadline, or the invocation's, a margin earlier.
pub(super) fn deadline(headers: &HeaderMap, context: &Context) -> Result<Deadline, ApiError> {
    let now = context.clock.now();
    let Some(value) = headers.get(&DEADLINE) else {
        let invocation = context
            .status
            .invocation_deadline()
            .filter(|deadline| !deadline.remaining(now).is_zero());
        return Ok(invocation.map_or_else(
            || Deadline::after(now, MAX_WAIT),
            |d| d.less(DEADLINE_MARGIN),
        ));
    };
    let ms = value
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| ApiError::Header {
            name: DEADLINE_HEADER,
            value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
            expected: "milliseconds since the Unix epoch",
        })?;
    Ok(Deadline::at_unix_ms(ms).less(DEADLINE_MARGIN))
}
