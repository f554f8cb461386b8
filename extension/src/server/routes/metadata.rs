//! Metadata of the server and of its models: `/v2`, `/v2/models/{model}`, and Triton's `/v2/models/{model}/config`.

use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};

use super::{repository, statistics};
use crate::models::LoadedModel;
use crate::protocol::v2;
use crate::server::auth::is_restricted;
use crate::server::context::ServerContext;
use crate::server::error::ApiError;
use crate::server::inbound_body::InboundBody;
use crate::server::response::{ApiResponse, json, serving_version};
use crate::server::route::ModelSelector;

/// Protocol extensions that are the operator's.
const OPERATOR_EXTENSIONS: &[&str] = &[repository::EXTENSION, statistics::EXTENSION];
/// Protocol extensions that every caller may use.
const EXTENSIONS: &[&str] = &[
    v2::BINARY_EXTENSION,
    v2::CLASSIFICATION_EXTENSION,
    v2::CONFIGURATION_EXTENSION,
];

/// `GET /v2`: returns the server's name, its version, and the protocol extensions that this caller may use.
pub(in crate::server) fn server(headers: &HeaderMap, context: &ServerContext) -> ApiResponse {
    let extensions = if is_restricted(headers, context) {
        EXTENSIONS.to_vec()
    } else {
        [OPERATOR_EXTENSIONS, EXTENSIONS].concat()
    };
    json(StatusCode::OK, v2::server_metadata(&extensions))
}

/// `GET /v2/models/{model}`: returns the signature of the model, and the age of its version.
pub(in crate::server) async fn model(
    request: &Request<InboundBody>,
    target: &ModelSelector,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    let write = |loaded: &LoadedModel| {
        let parameters = version_parameters(loaded, context);
        v2::metadata(serving_version(loaded), loaded.signature(), &parameters)
    };
    super::describe(request, target, context, write).await
}

/// `GET /v2/models/{model}/config`: returns the configuration of the model, in Triton's terms.
pub(in crate::server) async fn configuration(
    request: &Request<InboundBody>,
    target: &ModelSelector,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    let write =
        |loaded: &LoadedModel| v2::configuration(serving_version(loaded), loaded.signature());
    super::describe(request, target, context, write).await
}

/// Returns the relation of the active version to the newest version.
pub(super) fn version_parameters(
    loaded: &LoadedModel,
    context: &ServerContext,
) -> v2::VersionParameters {
    let status = context.status.get(&loaded.name).unwrap_or_default();
    v2::VersionParameters {
        digest: loaded.digest.to_string(),
        loaded_at_ms: loaded.loaded_at.0,
        confirmed_at_ms: status.checked_at.map(|at| at.0),
        problem: status.problem,
    }
}
