//! TensorFlow Serving's REST API, below `/v1/models/{model}`.

use hyper::{Request, StatusCode};

use crate::models::LoadedModel;
use crate::protocol::tfserving::{self, Availability};
use crate::server::context::ServerContext;
use crate::server::error::ApiError;
use crate::server::inbound_body::InboundBody;
use crate::server::inference::{self, RequestFormat};
use crate::server::lookup::{check_target, find_model};
use crate::server::response::{ApiResponse, json, serving_version, with_model_headers};
use crate::server::route::ModelSelector;

/// `POST /v1/models/{model}:predict`: runs the model.
pub(in crate::server) async fn predict(
    request: Request<InboundBody>,
    target: ModelSelector,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    let name = find_model(&target.model, context)?;
    inference::infer(request, name, RequestFormat::TensorFlow(target), context).await
}

/// `GET /v1/models/{model}`: returns the status of the model.
pub(in crate::server) fn status(
    target: &ModelSelector,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    let name = find_model(&target.model, context)?;
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
    Ok(with_model_headers(json(StatusCode::OK, status), &loaded))
}

/// `GET /v1/models/{model}/metadata`: returns the signature of the model.
pub(in crate::server) async fn metadata(
    request: &Request<InboundBody>,
    target: &ModelSelector,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    let write =
        |loaded: &LoadedModel| tfserving::metadata(serving_version(loaded), loaded.signature());
    super::describe(request, target, context, write).await
}
