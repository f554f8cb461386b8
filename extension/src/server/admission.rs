//! Which call a request makes, and whether its caller may.

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderMap;

use super::Context;
use super::error::ApiError;
use super::host::{self, Transport};
use super::route::{NoRoute, Route};

/// The header by which a caller shows that it knows the environment's secret.
const TOKEN_HEADER: &str = "x-model-token";

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
    route.map_err(|reason| {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        match reason {
            NoRoute::Unknown => ApiError::NoSuchPath { method, path },
            NoRoute::Verb { verb } => ApiError::NoSuchVerb { verb },
            NoRoute::Method { allowed } => ApiError::Method {
                method,
                path,
                allowed,
            },
        }
    })
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
