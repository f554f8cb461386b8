//! From a request to an answer.

use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};

use super::about;
use super::error::ApiError;
use super::patience::Patience;
use super::repository;
use super::route::{NoRoute, Route, Target};
use super::wait::loaded;
use super::{BODY_STALL, Context, MOST_BODY};
use crate::clock::Deadline;
use crate::ids::ModelName;
use crate::models::Loaded;
use crate::protocol::{AnsweredBy, BadRequest, Decoded, predict, v2};
use crate::schedule::{Ran, RunError};
use crate::tensor::{Signature, Value};

/// The invocation's deadline, as the Runtime API gives it to whoever forwards the request.
const DEADLINE_HEADER: &str = "lambda-runtime-deadline-ms";
/// An answer is ready so much earlier than the deadline, for whoever forwards it.
const DEADLINE_MARGIN: Duration = Duration::from_millis(100);
/// The longest wait of a request that comes with no deadline, outside an invocation.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(super) type Answer = Response<Full<Bytes>>;

/// Answers one request; whatever goes wrong is an answer, too.
pub(super) async fn answer(request: Request<Incoming>, context: &Context) -> Answer {
    let result = match Route::of(request.method(), request.uri().path()) {
        Ok(Route::Server) => Ok(json(
            StatusCode::OK,
            v2::server_metadata(repository::EXTENSIONS),
        )),
        Ok(Route::Live) => Ok(json(StatusCode::OK, b"{\"live\":true}".to_vec())),
        Ok(Route::Ready) => about::ready(context),
        Ok(Route::ModelMetadata(target)) => about::metadata(&request, &target, context).await,
        Ok(Route::ModelReady(target)) => about::model_ready(&target, context),
        Ok(Route::Infer(target)) => open_inference(request, &target, context).await,
        Ok(Route::RepositoryIndex) => repository::index(request, context).await,
        Ok(Route::RepositoryLoad(model)) => repository::load(request, &model, context).await,
        Ok(Route::RepositoryUnload(model)) => repository::unload(&model, context),
        Ok(Route::Predict(model)) => plain_predict(request, model, context).await,
        Err(reason) => Err(no_route(&request, reason)),
    };
    result.unwrap_or_else(|error| error_answer(&error))
}

fn no_route(request: &Request<Incoming>, reason: NoRoute) -> ApiError {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match reason {
        NoRoute::Unknown => ApiError::NoSuchPath { method, path },
        NoRoute::Method { allowed } => ApiError::Method {
            method,
            path,
            allowed,
        },
    }
}

fn error_answer(error: &ApiError) -> Answer {
    let body = serde_json::json!({ "error": error.to_string() });
    let mut answer = json(error.status(), body.to_string().into_bytes());
    match error {
        ApiError::Method { allowed, .. } => {
            if let Ok(allowed) = HeaderValue::from_str(allowed.as_str()) {
                answer.headers_mut().insert(ALLOW, allowed);
            }
        }
        ApiError::NotReady(_) | ApiError::Ending | ApiError::Run(RunError::Full { .. }) => {
            answer
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    answer
}

pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// The form in which a request comes and its answer goes.
enum Form<'a> {
    /// The Open Inference Protocol, for the version that the target names, if it names one.
    OpenInference(&'a Target),
    /// `/predict`.
    Plain,
}

impl Form<'_> {
    /// What to run, and the id to be answered.
    fn decode(
        &self,
        body: &[u8],
        signature: &Signature,
    ) -> Result<(Decoded, Option<String>), BadRequest> {
        match self {
            Form::OpenInference(_) => v2::decode(body, signature),
            Form::Plain => predict::decode(body, signature).map(|decoded| (decoded, None)),
        }
    }

    fn encode(&self, loaded: &Loaded, id: Option<&str>, outputs: &[(String, Value)]) -> Vec<u8> {
        match self {
            Form::OpenInference(_) => v2::encode(answered_by(loaded), id, outputs),
            Form::Plain => predict::encode(answered_by(loaded), outputs),
        }
    }
}

/// Runs the model, and counts how that ended.
async fn infer(
    request: Request<Incoming>,
    name: &ModelName,
    form: Form<'_>,
    context: &Context,
) -> Result<Answer, ApiError> {
    let mut answering = None;
    let result = observed(name, context, async {
        let deadline = deadline(request.headers(), context)?;
        let body = body(request).await?;
        let received = Instant::now();
        let loaded = loaded(name, deadline, context).await?;
        if let Form::OpenInference(target) = form {
            check_version(target, &loaded)?;
        }
        answering = Some(Arc::clone(&loaded));
        let decoding = Instant::now();
        let (decoded, id) = form.decode(&body, loaded.signature())?;
        let decode = decoding.elapsed();
        let ran = context
            .scheduler
            .run(Arc::clone(&loaded), decoded, deadline)
            .await;
        context.watch(&loaded, &ran);
        let ran = ran?;
        let encoding = Instant::now();
        let encoded = form.encode(&loaded, id.as_deref(), &ran.outputs);
        let times = Times {
            received,
            decode,
            encode: encoding.elapsed(),
        };
        let answer = named(json(StatusCode::OK, encoded), &loaded);
        Ok(times.of(answer, &ran, name, context))
    })
    .await;
    match (result, answering) {
        // An error, too, names the version that it came from.
        (Err(error), Some(loaded)) => Ok(named(error_answer(&error), &loaded)),
        (result, _) => result,
    }
}

async fn open_inference(
    request: Request<Incoming>,
    target: &Target,
    context: &Context,
) -> Result<Answer, ApiError> {
    let name = find(&target.model, context)?;
    infer(request, name, Form::OpenInference(target), context).await
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

/// Where the time of an answer went.
struct Times {
    received: Instant,
    decode: Duration,
    encode: Duration,
}

impl Times {
    /// Observes them, and names them in the answer as `Server-Timing` does, in milliseconds.
    fn of(&self, mut answer: Answer, ran: &Ran, name: &ModelName, context: &Context) -> Answer {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        if let Some(metrics) = context.metrics.get(name) {
            metrics.latency.record(ms(self.received.elapsed()));
            metrics.queue.record(ms(ran.queued));
            if ran.is_first && context.scheduler.limits().batch.is_some() {
                metrics
                    .batch
                    .record(u32::try_from(ran.together).unwrap_or(u32::MAX));
            }
        }
        let mut text = String::with_capacity(80);
        let parts = [
            ("queue", ran.queued),
            ("decode", self.decode),
            ("infer", ran.inferred),
            ("encode", self.encode),
        ];
        for (index, (part, time)) in parts.into_iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            let _ = write!(text, "{separator}{part};dur={:.3}", ms(time));
        }
        if let Ok(value) = HeaderValue::try_from(text) {
            answer
                .headers_mut()
                .insert(HeaderName::from_static("server-timing"), value);
        }
        answer
    }
}

pub(super) fn named(mut answer: Answer, loaded: &Loaded) -> Answer {
    for (header, text) in [
        ("x-model-name", loaded.name.as_str()),
        ("x-model-version", loaded.version.as_str()),
    ] {
        if let Ok(value) = HeaderValue::from_str(text) {
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

pub(super) fn check_version(target: &Target, loaded: &Loaded) -> Result<(), ApiError> {
    match &target.version {
        Some(given) if *given != loaded.version.as_str() => Err(ApiError::NoSuchVersion {
            model: target.model.clone(),
            given: given.clone(),
            current: loaded.version.to_string(),
        }),
        _ => Ok(()),
    }
}

/// The request's own deadline, or the invocation's, a margin earlier.
pub(super) fn deadline(headers: &HeaderMap, context: &Context) -> Result<Deadline, ApiError> {
    let now = context.clock.now();
    let Some(value) = headers.get(DEADLINE_HEADER) else {
        let invocation = context
            .status
            .invocation_deadline()
            .filter(|deadline| !deadline.remaining(now).is_zero());
        return Ok(invocation.map_or_else(
            || Deadline::after(now, LONGEST_WAIT),
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

/// The whole body.
pub(super) async fn body(request: Request<Incoming>) -> Result<Bytes, ApiError> {
    let mut body = request.into_body();
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > MOST_BODY {
        return Err(ApiError::BodyTooLarge);
    }
    let mut whole = BytesMut::new();
    let mut patience = Patience::new(BODY_STALL);
    loop {
        let next = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => patience.poll_over(cx).map(|()| Err(ApiError::BodyTooSlow)),
        });
        let frame = next.await?;
        patience.renew();
        let Some(frame) = frame else {
            return Ok(whole.freeze());
        };
        let Ok(data) = frame.map_err(|_| ApiError::BodyBroken)?.into_data() else {
            continue;
        };
        if data.len() >= declared && whole.is_empty() {
            // All of it came at once: no copy.
            if body.is_end_stream() {
                return Ok(data);
            }
        }
        if whole.len() + data.len() > MOST_BODY {
            return Err(ApiError::BodyTooLarge);
        }
        whole.reserve(declared.saturating_sub(whole.len()).max(data.len()));
        whole.extend_from_slice(&data);
    }
}
