//! `POST /v2/models/{model}/infer`, of the Open Inference Protocol.

use hyper::Request;

use crate::server::context::ServerContext;
use crate::server::error::ApiError;
use crate::server::inbound_body::InboundBody;
use crate::server::inference::{self, RequestFormat};
use crate::server::lookup::find_model;
use crate::server::response::ApiResponse;
use crate::server::route::ModelSelector;

/// Runs the model.
pub(in crate::server) async fn infer(
    request: Request<InboundBody>,
    target: ModelSelector,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    let name = find_model(&target.model, context)?;
    inference::infer(request, name, RequestFormat::OpenInference(target), context).await
}
