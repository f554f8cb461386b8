//! Triton's repository extension: the state of every model, and an immediate version check.
//!
//! Specification:
//! <https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md>. The
//! configuration decides which models exist: none is unloaded, and a load takes no parameters. A load is for callers
//! that cannot wait for `MODEL_REFRESH_INTERVAL`. Every caller that may invoke the function may request one, so that
//! the operator has to enable it.

use hyper::{Request, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::clock::Deadline;
use crate::excerpt::Excerpt;
use crate::ids::ModelName;
use crate::protocol;
use crate::request_memory::Charge;
use crate::server::context::ServerContext;
use crate::server::error::ApiError;
use crate::server::inbound_body::InboundBody;
use crate::server::limits::MAX_REPOSITORY_BODY;
use crate::server::lookup::find_model;
use crate::server::request::deadline;
use crate::server::request_body;
use crate::server::response::{ApiResponse, json, with_model_headers};
use crate::status::ModelStatus;

/// Name of the extension in the server's metadata.
pub(super) const EXTENSION: &str = "model_repository";

/// Body of a request for the index.
#[derive(Default, Deserialize)]
#[serde(default)]
struct IndexRequest {
    /// Restricts the index to models that are ready.
    ready: bool,
}

/// One model of the index.
#[derive(Serialize)]
struct IndexEntry<'a> {
    name: &'a str,
    /// Active version; empty if there is none.
    version: String,
    state: &'static str,
    /// Reason why the model is not ready, or why a newer version is not active.
    reason: String,
}

/// `POST /v2/repository/index`: returns every model, or every model that is ready.
pub(in crate::server) async fn index(
    request: Request<InboundBody>,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    let filter: IndexRequest = read_object(request, context).await?;
    let entries = context.models.names().map(|name| {
        let active = context.models.current(name);
        let status = context.status.get(name).unwrap_or_default();
        match active {
            Some(loaded) => IndexEntry {
                name: name.as_str(),
                version: loaded.version.to_string(),
                state: "READY",
                reason: status.problem.unwrap_or_default(),
            },
            None => IndexEntry {
                name: name.as_str(),
                version: String::new(),
                state: "UNAVAILABLE",
                reason: context.status.unavailable_reason(name),
            },
        }
    });
    let entries: Vec<IndexEntry<'_>> = entries
        .filter(|entry| !filter.ready || entry.state == "READY")
        .collect();
    let text = serde_json::json!(entries).to_string();
    Ok(json(StatusCode::OK, text.into_bytes()))
}

/// `POST /v2/repository/models/{model}/load`: polls the source, and responds once the check has ended and its outcome
/// is active.
pub(in crate::server) async fn load(
    request: Request<InboundBody>,
    model: &str,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    let name = find_model(model, context)?;
    if !context.allows_loads {
        return Err(ApiError::Forbidden(
            "cannot load on request: MODEL_REPOSITORY_API is not true; a new version is found \
             within MODEL_REFRESH_INTERVAL"
                .to_owned(),
        ));
    }
    let deadline = deadline(request.headers(), context)?;
    let body: serde_json::Map<String, serde_json::Value> = read_object(request, context).await?;
    let parameters = body.get("parameters").and_then(|value| value.as_object());
    if let Some(given) = parameters.and_then(|given| given.keys().next()) {
        return Err(ApiError::InvalidField {
            field: format!("parameters.{}", Excerpt(given)),
            reason: "a load takes no parameters; the model's source decides what is loaded"
                .to_owned(),
        });
    }
    check_now(name, deadline, context).await?;
    let response = json(StatusCode::OK, b"{}".to_vec());
    Ok(match context.models.current(name) {
        Some(loaded) => with_model_headers(response, &loaded),
        None => response,
    })
}

/// `POST /v2/repository/models/{model}/unload`: always an error, since the set of models is fixed.
pub(in crate::server) fn unload(
    model: &str,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    let name = find_model(model, context)?;
    Err(ApiError::Forbidden(format!(
        "model {:?} is not unloaded: MODEL_URI or MODELS decides which models are served",
        name.as_str()
    )))
}

/// Waits until a check that began after this call has ended. `Ok` if the newest version is active then.
async fn check_now(
    name: &ModelName,
    deadline: Deadline,
    context: &ServerContext,
) -> Result<(), ApiError> {
    let Some(mut status) = context.status.watch(name) else {
        return Ok(());
    };
    let check = async {
        // A running check may have polled the source before the caller published its version.
        let now = status.borrow_and_update().clone();
        if now.is_busy {
            check_ended(&mut status, now.checks_ended).await;
        }
        let before = status.borrow_and_update().checks_ended;
        context.status.request_check(name);
        check_ended(&mut status, before).await
    };
    let ended = context.thaws.within(&*context.clock, deadline, check).await;
    let model = name.to_string();
    let status = ended.ok_or_else(|| ApiError::CheckUnfinished {
        model: model.clone(),
    })?;
    match status.problem {
        None => Ok(()),
        Some(_) if context.models.current(name).is_none() => {
            Err(ApiError::NotReady(context.status.unavailable_reason(name)))
        }
        Some(problem) if status.checked_at < status.check_started_at => Err(ApiError::NotReady(
            format!("cannot check the source of model {model:?}: {problem}"),
        )),
        Some(problem) => Err(ApiError::NewestNotActive { model, problem }),
    }
}

/// Waits until more than this number of checks have ended.
async fn check_ended(status: &mut watch::Receiver<ModelStatus>, checks: u64) -> ModelStatus {
    let ended = status.wait_for(|now| now.checks_ended > checks).await;
    ended.map(|now| now.clone()).unwrap_or_default()
}

/// Reads a body that is a JSON object or empty.
async fn read_object<T: Default + for<'de> Deserialize<'de>>(
    request: Request<InboundBody>,
    context: &ServerContext,
) -> Result<T, ApiError> {
    let deadline = deadline(request.headers(), context)?;
    let mut charge = Charge::new(&context.account);
    let body = request_body::read(request, None, deadline, &mut charge, context).await?;
    if body.len() > MAX_REPOSITORY_BODY {
        return Err(ApiError::InvalidField {
            field: "the body".to_owned(),
            reason: format!(
                "{} bytes, expected at most {MAX_REPOSITORY_BODY}",
                body.len()
            ),
        });
    }
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    Ok(protocol::object(&body, "a repository request")?)
}

#[cfg(test)]
mod tests;
