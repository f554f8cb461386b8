//! Triton's statistics extension: `/v2/models/stats` and `/v2/models/{model}/stats`.
//!
//! Specification: <https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_statistics.md>.

use hyper::StatusCode;

use crate::server::context::ServerContext;
use crate::server::error::ApiError;
use crate::server::lookup::{check_target, find_model};
use crate::server::response::{ApiResponse, json, with_model_headers};
use crate::server::route::ModelSelector;

/// Name of the extension in the server's metadata.
pub(super) const EXTENSION: &str = "statistics";

/// Returns the statistics of one model, or of every model that has an active version.
pub(in crate::server) fn statistics(
    target: Option<&ModelSelector>,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    let Some(target) = target else {
        let loaded = context
            .models
            .names()
            .filter_map(|name| context.models.current(name));
        let all: Vec<_> = loaded
            .map(|loaded| context.observer.statistics(&loaded))
            .collect();
        return Ok(response(&all));
    };
    let name = find_model(&target.model, context)?;
    let Some(loaded) = context.models.current(name) else {
        return Err(ApiError::NotReady(context.status.unavailable_reason(name)));
    };
    check_target(target, &loaded)?;
    let response = response(&[context.observer.statistics(&loaded)]);
    Ok(with_model_headers(response, &loaded))
}

fn response(statistics: &[serde_json::Value]) -> ApiResponse {
    let text = serde_json::json!({ "model_stats": statistics }).to_string();
    json(StatusCode::OK, text.into_bytes())
}
