//! Handlers of the local API, one file for each call or group of calls.

pub(super) mod attach;
pub(super) mod health;
pub(super) mod infer;
pub(super) mod metadata;
pub(super) mod metrics;
pub(super) mod openapi;
pub(super) mod predict;
pub(super) mod repository;
pub(super) mod restore;
pub(super) mod statistics;
pub(super) mod tensorflow_serving;

use hyper::Request;
use hyper::StatusCode;

use super::await_model::active_version;
use super::context::ServerContext;
use super::error::ApiError;
use super::inbound_body::InboundBody;
use super::lookup::{check_target, find_model};
use super::request::deadline;
use super::response::{ApiResponse, json, with_model_headers};
use super::route::ModelSelector;
use crate::models::LoadedModel;

/// Returns the description of the version that the path names, as `write` makes it. Waits for the version if necessary.
async fn describe(
    request: &Request<InboundBody>,
    target: &ModelSelector,
    context: &ServerContext,
    write: impl FnOnce(&LoadedModel) -> Vec<u8>,
) -> Result<ApiResponse, ApiError> {
    let name = find_model(&target.model, context)?;
    let deadline = deadline(request.headers(), context)?;
    let loaded = active_version(name, deadline, context).await?;
    check_target(target, &loaded)?;
    let response = json(StatusCode::OK, write(&loaded));
    Ok(with_model_headers(response, &loaded))
}
