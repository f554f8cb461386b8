//! An inference request from its body to its response, in any of the three formats.

mod format;

use std::sync::Arc;
use std::time::Instant;

use hyper::Request;

use super::await_model::active_version;
use super::context::ServerContext;
use super::error::ApiError;
use super::headers::REQUEST_ID;
use super::inbound_body::InboundBody;
use super::limits::MIN_OFF_THREAD;
use super::lookup::check_target;
use super::media_type;
use super::observer::{InferenceTrace, RunProgress};
use super::off_thread::off_thread;
use super::request::{deadline, header_length};
use super::request_body;
use super::response::{self, ApiResponse, with_model_headers};
use super::server_timing::with_server_timing;
use super::statistics::InferenceTimes;
use crate::ids::ModelName;
use crate::request_memory::Charge;

pub(super) use format::RequestFormat;

/// Runs the model, and reports the end of the request to the observer.
pub(super) async fn infer(
    request: Request<InboundBody>,
    model: &ModelName,
    format: RequestFormat,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    let mut trace = InferenceTrace {
        request_id: request.headers().get(&REQUEST_ID).cloned(),
        ..InferenceTrace::default()
    };
    let mut result = tokio::select! {
        biased;
        result = run(request, model, format, &mut trace, context) => result,
        () = context.requests_rejected() => Err(ApiError::ShuttingDown),
    };
    context.observer.finished(model, &trace, &mut result);
    match (result, trace.version) {
        // An error response also names the version.
        (Err(error), Some((loaded, _))) => Ok(with_model_headers(error.response(), &loaded)),
        (result, _) => result,
    }
}

async fn run(
    request: Request<InboundBody>,
    model: &ModelName,
    format: RequestFormat,
    trace: &mut InferenceTrace,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    let deadline = deadline(request.headers(), context)?;
    let header_length = header_length(request.headers())?;
    let media_type = media_type::other_than_json(request.headers());
    let mut charge = Charge::new(&context.account);
    let body = request_body::read(request, header_length, deadline, &mut charge, context).await?;
    let received = Instant::now();
    let loaded = active_version(model, deadline, context).await?;
    if let Some(target) = format.target() {
        check_target(target, &loaded)?;
    }
    trace.version = Some((Arc::clone(&loaded), received));
    let decoding = Instant::now();
    let (decoded, response_format) = if body.len() < MIN_OFF_THREAD {
        format.decode(
            &loaded,
            &body,
            header_length,
            media_type.as_ref(),
            &mut charge,
        )?
    } else {
        let (body, loaded) = (body.clone(), Arc::clone(&loaded));
        let decode = move |charge: &mut Charge| {
            format.decode(&loaded, &body, header_length, media_type.as_ref(), charge)
        };
        off_thread(&mut charge, deadline, context, decode).await??
    };
    // Inputs that refer to the body keep it alive, and its charge with it.
    if body.is_unique() {
        charge.shrink(body.len());
    }
    drop(body);
    charge.settle();
    let rows = decoded.rows(loaded.signature());
    context.observer.decoded(model, &decoded.inputs);
    let decode = decoding.elapsed();
    let drift = loaded.drift.as_deref();
    trace.sampled = drift.map(|drift| drift.sample_inputs(&decoded.inputs));
    let outcome = context
        .scheduler
        .run_rows(Arc::clone(&loaded), decoded, deadline, &mut charge)
        .await;
    trace.run = match outcome {
        Ok(_) => RunProgress::Succeeded,
        Err(_) => RunProgress::Failed,
    };
    let mut outcome = outcome?;
    if let (Some(drift), Some(sampled)) = (drift, &mut trace.sampled) {
        drift.sample_outputs(&outcome.outputs, sampled);
    }
    context.observer.predicted(model, &outcome.outputs);
    let encoding = Instant::now();
    let outputs = std::mem::take(&mut outcome.outputs);
    // The run has dropped the inputs.
    charge.shrink(charge.used());
    let size = response_format.encoded_size(&outputs);
    charge.grow(size)?;
    let encoded = if size < MIN_OFF_THREAD {
        response_format.encode(&loaded, outputs)?
    } else {
        let loaded = Arc::clone(&loaded);
        let encode = move |_: &mut Charge| response_format.encode(&loaded, outputs);
        off_thread(&mut charge, deadline, context, encode).await??
    };
    charge.shrink(charge.used());
    let response = response::outputs(encoded, charge)?;
    let times = InferenceTimes {
        rows: u64::try_from(rows).unwrap_or(u64::MAX),
        batched_requests: outcome.batched_requests,
        is_first: outcome.is_first,
        total: received.elapsed(),
        queue: outcome.queued,
        decode,
        infer: outcome.inferred,
        encode: encoding.elapsed(),
    };
    trace.times = Some(times);
    let response = with_model_headers(response, &loaded);
    Ok(with_server_timing(response, &times, &loaded))
}
