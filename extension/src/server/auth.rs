//! Which call a request makes, and whether its caller may.

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderMap;

use super::Context;
use super::error::ApiError;
use super::host::{self, Transport};
use super::route::{self, NoRoute, Route};

/// The header by which a caller shows that it knows the environment's secret.
const TOKEN_HEADER: &str = "x-model-token";

/// The header by which the handler marks requests from outside the execution environment, in place of its callers' own.
/// A direct caller that sets it only restricts itself.
const REMOTE_HEADER: &str = "x-model-remote";

/// Returns whether the request's caller may not use the operator's calls. The route is the parsed one, so that no
/// spelling of a path gets around it.
pub(super) fn is_restricted(headers: &HeaderMap, context: &Context) -> bool {
    !context.allows_remote_operations && is_remote(headers)
}

fn is_remote(headers: &HeaderMap) -> bool {
    headers.contains_key(REMOTE_HEADER)
}

/// Which call it is, if its caller may make it.
pub(super) fn called(
    request: &Request<Incoming>,
    transport: Transport,
    context: &Context,
) -> Result<Route, ApiError> {
    if context.is_open_machine && transport == Transport::Tcp {
        host::check(request)?;
    }
    let route = Route::of(request.method(), request.uri().path());
    // Whether the process is alive is no secret, and is asked by those who know none.
    if route != Ok(Route::Live) {
        check_token(request.headers(), context)?;
    }
    let headers = request.headers();
    match route {
        Ok(route) if route.is_operation() && is_restricted(headers, context) => {
            Err(ApiError::Operation)
        }
        Ok(route) => Ok(route),
        Err(reason) => {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            Err(match reason {
                NoRoute::Unknown => ApiError::NoSuchPath {
                    method,
                    path,
                    known: known(headers, context),
                },
                NoRoute::Verb { verb } => ApiError::NoSuchVerb { verb },
                NoRoute::Method { allowed } => ApiError::Method {
                    method,
                    path,
                    allowed,
                },
            })
        }
    }
}

/// The paths that this caller may use.
fn known(headers: &HeaderMap, context: &Context) -> String {
    let paths = route::all(!is_restricted(headers, context));
    if is_remote(headers) {
        paths + "; if the path has a prefix that is not the sidecar's, MODEL_BASE_PATH removes it"
    } else {
        paths
    }
}

fn check_token(headers: &HeaderMap, context: &Context) -> Result<(), ApiError> {
    let Some(token) = &context.token else {
        return Ok(());
    };
    let problem = match headers.get(TOKEN_HEADER) {
        Some(given) if token.is(given.as_bytes()) => return Ok(()),
        Some(_) => "is not the token",
        None => "is missing",
    };
    Err(ApiError::Unauthorized {
        header: TOKEN_HEADER,
        problem,
    })
}
