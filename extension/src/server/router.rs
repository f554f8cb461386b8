//! From a request to its response: authorization, the handler of the route, compression, errors.

use hyper::Request;
use hyper::body::Body as _;
use hyper::header::{CONNECTION, HeaderValue};

use super::auth::authorize;
use super::compression;
use super::context::ServerContext;
use super::error::ApiError;
use super::host::Transport;
use super::inbound_body::InboundBody;
use super::response::{self, ApiResponse};
use super::route::Route;
use super::routes::{
    attach, health, infer, metadata, metrics, openapi, predict, repository, restore, statistics,
    tensorflow_serving,
};

/// Handles one request. Every error is a response, too.
pub(super) async fn handle(
    request: Request<InboundBody>,
    transport: Transport,
    context: &ServerContext,
) -> ApiResponse {
    let has_body = !request.body().is_end_stream();
    let accepts_gzip = compression::accepts_gzip(request.headers());
    let result = if attach::is_attachment(&request, transport) {
        attach::attach(request, context).await
    } else {
        match authorize(&request, transport, context) {
            Ok(route) => dispatch(request, route, context).await,
            Err(error) => Err(error),
        }
    };
    match result {
        Ok(response) => compression::compress(response, accepts_gzip).await,
        Err(error) => {
            let mut response = error.response();
            if has_body && error.leaves_body() {
                // The rest of the body would be read as the next request.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(CONNECTION, close);
            }
            response
        }
    }
}

async fn dispatch(
    request: Request<InboundBody>,
    route: Route,
    context: &ServerContext,
) -> Result<ApiResponse, ApiError> {
    match route {
        Route::Server => Ok(metadata::server(request.headers(), context)),
        Route::Live => Ok(health::live()),
        Route::Ready => health::ready(request.headers(), context).await,
        Route::Metrics => Ok(metrics::metrics(context)),
        Route::OpenApi => openapi::openapi(compression::accepts_gzip(request.headers())),
        Route::ModelMetadata(target) => metadata::model(&request, &target, context).await,
        Route::ModelConfiguration(target) => {
            metadata::configuration(&request, &target, context).await
        }
        Route::ModelReady(target) => health::model_ready(&target, context),
        Route::Infer(target) => infer::infer(request, target, context).await,
        Route::Statistics(target) => statistics::statistics(target.as_ref(), context),
        Route::RepositoryIndex => repository::index(request, context).await,
        Route::RepositoryLoad(model) => repository::load(request, &model, context).await,
        Route::RepositoryUnload(model) => repository::unload(&model, context),
        Route::TensorFlowStatus(target) => tensorflow_serving::status(&target, context),
        Route::TensorFlowMetadata(target) => {
            tensorflow_serving::metadata(&request, &target, context).await
        }
        Route::TensorFlowPredict(target) => {
            tensorflow_serving::predict(request, target, context).await
        }
        Route::Predict(model) => predict::predict(request, model.as_deref(), context).await,
        Route::Restore => restore::restore(request.headers(), context).await,
        Route::Options { allowed } => Ok(response::options(allowed)),
    }
}
