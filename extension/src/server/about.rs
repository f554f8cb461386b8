//! What a model is, whether it is ready, and how the version that answers stands to the newest.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};

use super::Context;
use super::answer::{Answer, answered_by, check_target, deadline, find, json, named};
use super::await_model::loaded;
use super::error::ApiError;
use super::route::Target;
use crate::clock::Deadline;
use crate::models::Loaded;
use crate::protocol::tfserving::{self, Availability};
use crate::protocol::v2;

/// Returns whether every model has a version that answers: at once, or with `Prefer: wait` as soon as that is so.
pub(super) async fn ready(headers: &HeaderMap, context: &Context) -> Result<Answer, ApiError> {
    if let Some(longest) = preferred_wait(headers) {
        let preferred = Deadline::after(context.clock.now(), longest);
        let deadline = deadline(headers, context)?.min(preferred);
        for name in context.models.names() {
            loaded(name, deadline, context).await?;
        }
    }
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

/// The preference `wait` of RFC 7240: how long the caller would wait for a better answer.
fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("prefer").iter();
    let mut preferences = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    preferences.find_map(|preference| {
        let preference = preference.split(';').next()?;
        let (name, seconds) = preference.split_once('=')?;
        let seconds = seconds.trim().trim_matches('"').parse().ok()?;
        let is_wait = name.trim().eq_ignore_ascii_case("wait");
        is_wait.then(|| Duration::from_secs(seconds))
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preference_for_waiting_is_found_among_others() {
        let wait = |values: &[&str]| {
            let values = values.iter().map(|value| {
                (
                    hyper::header::HeaderName::from_static("prefer"),
                    value.parse().unwrap(),
                )
            });
            let mut headers = HeaderMap::new();
            for (name, value) in values {
                headers.append(name, value);
            }
            preferred_wait(&headers).map(|wait| wait.as_secs())
        };
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&["wait=900"]), Some(900));
        assert_eq!(wait(&["respond-async, Wait = \"7\"; x=1"]), Some(7));
        assert_eq!(wait(&["return=minimal", "wait=0"]), Some(0));
        for other in ["wait", "wait=soon", "wait=-1", "await=3", "respond-async"] {
            assert_eq!(wait(&[other]), None, "{other}");
        }
    }
}
