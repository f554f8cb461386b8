//! Health of the server and of its models: `/v2/health/live`, `/v2/health/ready`, `/v2/models/{model}/ready`.

use hyper::StatusCode;
use hyper::header::HeaderMap;

use super::metadata::version_parameters;
use crate::clock::Deadline;
use crate::server::await_model::active_version;
use crate::server::context::ServerContext;
use crate::server::error::ApiError;
use crate::server::lookup::{check_target, find_model};
use crate::server::request::{deadline, preferred_wait};
use crate::server::response::{ApiResponse, json, with_model_headers};
use crate::server::route::ModelSelector;

/// `GET /v2/health/live`: the process is alive.
pub(in crate::server) fn live() -> ApiResponse {
    json(StatusCode::OK, b"{\"live\":true}".to_vec())
}

/// `GET /v2/health/ready`: every model has an active version. With `Prefer: wait`, waits for that.
pub(in crate::server) async fn ready(
    headers: &HeaderMap,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    if let Some(wait) = preferred_wait(headers) {
        let preferred = Deadline::after(context.clock.now(), wait);
        let deadline = deadline(headers, context)?.min(preferred);
        for name in context.models.names() {
            active_version(name, deadline, context).await?;
        }
    }
    let missing: Vec<String> = context
        .models
        .names()
        .filter(|name| context.models.current(name).is_none())
        .map(|name| context.status.unavailable_reason(name))
        .collect();
    if missing.is_empty() {
        Ok(json(StatusCode::OK, b"{\"ready\":true}".to_vec()))
    } else {
        Err(ApiError::NotReady(missing.join("; ")))
    }
}

/// `GET /v2/models/{model}/ready`: the model has an active version.
pub(in crate::server) fn model_ready(
    target: &ModelSelector,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    let name = find_model(&target.model, context)?;
    let Some(loaded) = context.models.current(name) else {
        return Err(ApiError::NotReady(context.status.unavailable_reason(name)));
    };
    check_target(target, &loaded)?;
    let body = serde_json::json!({
        "name": name.as_str(),
        "version": loaded.version.as_str(),
        "ready": true,
        "parameters": version_parameters(&loaded, context),
    });
    let response = json(StatusCode::OK, body.to_string().into_bytes());
    Ok(with_model_headers(response, &loaded))
}
