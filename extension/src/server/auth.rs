//! Authentication and authorization: the `Host` over TCP, the token, and the operator's calls.

use hyper::Request;
use hyper::header::HeaderMap;

use super::context::ServerContext;
use super::error::ApiError;
use super::headers::{REMOTE, TOKEN};
use super::host::{self, Transport};
use super::inbound_body::InboundBody;
use super::route::{self, Route, RouteError};

/// Returns the route of a request that its caller may make.
pub(super) fn authorize(
    request: &Request<InboundBody>,
    transport: Transport,
    context: &ServerContext,
) -> Result<Route, ApiError> {
    if context.is_local_machine && transport == Transport::Tcp {
        host::check(request)?;
    }
    let headers = request.headers();
    let route = Route::of(request.method(), request.uri().path());
    // Liveness probes have no token, and that the process is alive is no secret.
    if route != Ok(Route::Live) && transport != Transport::InProcess {
        check_token(headers, context)?;
    }
    // Decided by the parsed route, so that no spelling of a path evades the check.
    match route {
        Ok(route) if route.is_operation() && is_restricted(headers, context) => {
            Err(ApiError::RemoteOperation)
        }
        Ok(route) => Ok(route),
        Err(error) => Err(route_error(error, request, context)),
    }
}

/// Returns `true` if the caller may not use the operator's calls.
pub(super) fn is_restricted(headers: &HeaderMap, context: &ServerContext) -> bool {
    !context.allows_remote_operations && is_remote(headers)
}

/// Returns `true` for a request from outside the execution environment.
pub(super) fn is_remote(headers: &HeaderMap) -> bool {
    headers.contains_key(REMOTE)
}

fn route_error(
    error: RouteError,
    request: &Request<InboundBody>,
    context: &ServerContext,
) -> ApiError {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match error {
        RouteError::UnknownPath => ApiError::UnknownPath {
            method,
            path,
            known: known_paths(request.headers(), context),
        },
        RouteError::UnknownVerb { verb } => ApiError::UnknownVerb { verb },
        RouteError::MethodNotAllowed { allowed } => ApiError::MethodNotAllowed {
            method,
            path,
            allowed,
        },
    }
}

/// Returns the paths that this caller may use.
fn known_paths(headers: &HeaderMap, context: &ServerContext) -> String {
    let paths = route::known_paths(!is_restricted(headers, context));
    if is_remote(headers) {
        paths + "; if the path has a prefix that is not the sidecar's, MODEL_BASE_PATH removes it"
    } else {
        paths
    }
}

/// Checks the token of a request, if one is required.
pub(super) fn check_token(headers: &HeaderMap, context: &ServerContext) -> Result<(), ApiError> {
    let Some(token) = &context.token else {
        return Ok(());
    };
    let problem = match headers.get(TOKEN) {
        Some(given) if token.is(given.as_bytes()) => return Ok(()),
        Some(_) => "is not the token",
        None => "is missing",
    };
    Err(ApiError::Unauthorized {
        header: TOKEN,
        problem,
    })
}
