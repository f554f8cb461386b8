//! `POST /predict` and `POST /models/{model}/predict`, of the sidecar's own format.

use hyper::Request;

use crate::server::context::ServerContext;
use crate::server::error::ApiError;
use crate::server::inbound_body::InboundBody;
use crate::server::inference::{self, RequestFormat};
use crate::server::lookup::{find_model, only_model};
use crate::server::response::ApiResponse;

/// Runs the model of this name, or the only model.
pub(in crate::server) async fn predict(
    request: Request<InboundBody>,
    model: Option<&str>,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    let name = match model {
        Some(model) => find_model(model, context)?,
        None => only_model(context)?,
    };
    inference::infer(request, name, RequestFormat::Plain, context).await
}
