//! Triton's repository extension: what is served here and in which state, and a check of a model's source now.
//!
//! Specification:
//! <https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md>. Which
//! models there are is the configuration's business: none is unloaded, and a load takes no parameters. It is for those
//! who cannot wait for `MODEL_REFRESH_INTERVAL`, and whoever may invoke the function may call it, so that it is there
//! only where the operator has said so.

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Context;
use super::answer::{Answer, deadline, find, json, named};
use super::body::body;
use super::error::ApiError;
use crate::clock::Deadline;
use crate::excerpt::Excerpt;
use crate::ids::ModelName;
use crate::protocol;
use crate::request_memory::Charge;
use crate::status::ModelStatus;

/// What the server's metadata calls it.
pub(super) const EXTENSION: &str = "model_repository";

/// Maximum size of a body of these calls, in bytes.
const MAX_TEXT: usize = 64 * 1024;

/// What an index is to hold.
#[derive(Default, Deserialize)]
#[serde(default)]
struct IndexRequest {
    ready: bool,
}

/// One model of the index.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    /// The version that answers; empty while there is none.
    version: String,
    state: &'static str,
    /// Why it is not ready, or why a newer version does not answer.
    reason: String,
}

/// Every model, or every one that is ready.
pub(super) async fn index(
    request: Request<Incoming>,
    context: &Context,
) -> Result<Answer, ApiError> {
    let asked: IndexRequest = read(request, context).await?;
    let entries = context.models.names().map(|name| {
        let answering = context.models.current(name);
        let status = context.status.get(name).unwrap_or_default();
        match answering {
            Some(loaded) => Entry {
                name: name.as_str(),
                version: loaded.version.to_string(),
                state: "READY",
                reason: status.problem.unwrap_or_default(),
            },
            None => Entry {
                name: name.as_str(),
                version: String::new(),
                state: "UNAVAILABLE",
                reason: context.status.why_missing(name),
            },
        }
    });
    let entries: Vec<Entry<'_>> = entries
        .filter(|entry| !asked.ready || entry.state == "READY")
        .collect();
    let text = serde_json::json!(entries).to_string();
    Ok(json(StatusCode::OK, text.into_bytes()))
}

/// Has the model's source asked, and answers when that check, and what followed from it, has ended.
pub(super) async fn load(
    request: Request<Incoming>,
    model: &str,
    context: &Context,
) -> Result<Answer, ApiError> {
    let name = find(model, context)?;
    if !context.allows_loads {
        return Err(ApiError::Forbidden(
            "a load is not offered here: MODEL_REPOSITORY_API is not true; a new version is found \
             by itself, within MODEL_REFRESH_INTERVAL"
                .to_owned(),
        ));
    }
    let deadline = deadline(request.headers(), context)?;
    let asked: serde_json::Map<String, serde_json::Value> = read(request, context).await?;
    let parameters = asked.get("parameters").and_then(|value| value.as_object());
    if let Some(given) = parameters.and_then(|given| given.keys().next()) {
        return Err(ApiError::Field {
            field: format!("parameters.{}", Excerpt(given)),
            reason: "a load takes no parameters here; what is loaded is what the model's source \
                     holds"
                .to_owned(),
        });
    }
    checked(name, deadline, context).await?;
    let answer = json(StatusCode::OK, b"{}".to_vec());
    Ok(match context.models.current(name) {
        Some(loaded) => named(answer, &loaded),
        None => answer,
    })
}

/// Which models there are does not change.
pub(super) fn unload(model: &str, context: &Context) -> Result<Answer, ApiError> {
    let name = find(model, context)?;
    Err(ApiError::Forbidden(format!(
        "model {:?} is not unloaded: which models are served is what MODEL_URI or MODELS says",
        name.as_str()
    )))
}

/// Waits until a check that began after this call has ended; fine when the newest version answers then.
async fn checked(name: &ModelName, deadline: Deadline, context: &Context) -> Result<(), ApiError> {
    let Some(mut status) = context.status.watch(name) else {
        return Ok(());
    };
    let check = async {
        // One that is under way may have asked before there was what the caller wants loaded.
        let now = status.borrow_and_update().clone();
        if now.busy {
            ended(&mut status, now.attempts).await;
        }
        let before = status.borrow_and_update().attempts;
        context.status.want_check(name);
        ended(&mut status, before).await
    };
    let ended = context.thaws.within(&*context.clock, deadline, check).await;
    let model = name.to_string();
    let status = ended.ok_or_else(|| ApiError::CheckGoesOn {
        model: model.clone(),
    })?;
    match status.problem {
        None => Ok(()),
        Some(_) if context.models.current(name).is_none() => {
            Err(ApiError::NotReady(context.status.why_missing(name)))
        }
        Some(problem) if status.checked_at < status.asked_at => Err(ApiError::NotReady(format!(
            "the source of model {model:?} could not be asked: {problem}"
        ))),
        Some(problem) => Err(ApiError::NotNewest { model, problem }),
    }
}

/// Waits for the end of a check after these.
async fn ended(status: &mut watch::Receiver<ModelStatus>, attempts: u64) -> ModelStatus {
    let ended = status.wait_for(|now| now.attempts > attempts).await;
    ended.map(|now| now.clone()).unwrap_or_default()
}

/// A body that is an object in JSON, or nothing at all.
async fn read<T: Default + for<'de> Deserialize<'de>>(
    request: Request<Incoming>,
    context: &Context,
) -> Result<T, ApiError> {
    let deadline = deadline(request.headers(), context)?;
    let mut charge = Charge::new(&context.account);
    let body = body(request, None, deadline, &mut charge, context).await?;
    let wrong = |reason: String| ApiError::Field {
        field: "the body".to_owned(),
        reason,
    };
    // It is read as a tree, which takes many times its length.
    if body.len() > MAX_TEXT {
        return Err(wrong(format!(
            "{} bytes came, expected at most {MAX_TEXT}",
            body.len()
        )));
    }
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    Ok(protocol::object(&body, "a repository request")?)
}

#[cfg(test)]
mod tests;
