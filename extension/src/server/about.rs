//! What a model is, whether it is ready, and how the version that answers stands to the newest.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};

use super::Context;
use super::answer::{Answer, answered_by, check_target, deadline, find, json, named};
use super::error::ApiError;
use super::route::Target;
use super::wait::loaded;
use crate::models::Loaded;
use crate::protocol::tfserving::{self, Availability};
use crate::protocol::v2;

pub(super) fn ready(context: &Context) -> Result<Answer, ApiError> {
    let missing: Vec<String> = context
        .models
        .names()
        .filter(|name| context.models.current(name).is_none())
        .map(|name| context.status.why_missing(name))
        .collect();
    if missing.is_empty() {
        Ok(json(StatusCode::OK, b"{\"ready\":true}".to_vec()))
    } else {
        Err(ApiError::NotReady(missing.join("; ")))
    }
}

pub(super) fn model_ready(target: &Target, context: &Context) -> Result<Answer, ApiError> {
    let name = find(&target.model, context)?;
    let Some(loaded) = context.models.current(name) else {
        return Err(ApiError::NotReady(context.status.why_missing(name)));
    };
    check_target(target, &loaded)?;
    let body = serde_json::json!({
        "name": name.as_str(),
        "version": loaded.version.as_str(),
        "ready": true,
        "parameters": standing(&loaded, context),
    });
    Ok(named(
        json(StatusCode::OK, body.to_string().into_bytes()),
        &loaded,
    ))
}

pub(super) async fn metadata(
    request: &Request<Incoming>,
    target: &Target,
    context: &Context,
) -> Result<Answer, ApiError> {
    let write = |loaded: &Loaded| {
        let standing = standing(loaded, context);
        v2::metadata(answered_by(loaded), loaded.signature(), &standing)
    };
    described(request, target, context, write).await
}

/// A model's configuration, in Triton's words.
pub(super) async fn configuration(
    request: &Request<Incoming>,
    target: &Target,
    context: &Context,
) -> Result<Answer, ApiError> {
    let write = |loaded: &Loaded| v2::configuration(answered_by(loaded), loaded.signature());
    described(request, target, context, write).await
}

/// A model's status, in TensorFlow Serving's form.
pub(super) fn tensorflow_status(target: &Target, context: &Context) -> Result<Answer, ApiError> {
    let name = find(&target.model, context)?;
    let Some(loaded) = context.models.current(name) else {
        let problem = context.status.get(name).and_then(|status| status.problem);
        let availability = match &problem {
            Some(problem) => Availability::Failed(problem),
            None => Availability::Loading,
        };
        return Ok(json(StatusCode::OK, tfserving::status(availability)));
    };
    check_target(target, &loaded)?;
    let status = tfserving::status(Availability::Available(loaded.version.as_str()));
    Ok(named(json(StatusCode::OK, status), &loaded))
}

/// A model's metadata, in TensorFlow Serving's form.
pub(super) async fn tensorflow_metadata(
    request: &Request<Incoming>,
    target: &Target,
    context: &Context,
) -> Result<Answer, ApiError> {
    let write = |loaded: &Loaded| tfserving::metadata(answered_by(loaded), loaded.signature());
    described(request, target, context, write).await
}

/// What `write` says of the version that the request is about, once it is there.
async fn described(
    request: &Request<Incoming>,
    target: &Target,
    context: &Context,
    write: impl FnOnce(&Loaded) -> Vec<u8>,
) -> Result<Answer, ApiError> {
    let name = find(&target.model, context)?;
    let deadline = deadline(request.headers(), context)?;
    let loaded = loaded(name, deadline, context).await?;
    check_target(target, &loaded)?;
    Ok(named(json(StatusCode::OK, write(&loaded)), &loaded))
}

/// How the version that answers stands to the newest.
fn standing(loaded: &Loaded, context: &Context) -> v2::Standing {
    let status = context.status.get(&loaded.name).unwrap_or_default();
    v2::Standing {
        digest: loaded.digest.to_string(),
        loaded_at_ms: loaded.loaded_at.0,
        confirmed_at_ms: status.checked_at.map(|at| at.0),
        problem: status.problem,
    }
}
