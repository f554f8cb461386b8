//! Mapping from paths and headers to the calls of the API.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::super::machine::{ApiRequest, ApiResponse};
use super::IDENTIFIER;

const RUNTIME: &str = "/2018-06-01/";
const EXTENSIONS: &str = "/2020-01-01/extension/";

/// A routed call.
#[derive(Debug)]
pub(super) enum Route {
    Runtime(RuntimeCall),
    Register,
    Next,
    InitError,
    ExitError,
    /// The Telemetry API or its predecessor, the Logs API: not supported, which is not an error.
    NotSupported(&'static str, &'static str),
    /// The credentials of the role, under `SnapStart`.
    Credentials,
    Ping,
    NoSuchPath,
    /// The path exists, the method is not allowed.
    NoSuchMethod,
}

#[derive(Debug)]
pub(super) enum RuntimeCall {
    Next,
    Response(String),
    Error(String),
    InitError,
    RestoreNext,
    RestoreError,
}

impl Route {
    pub(super) fn of(method: &Method, path: &str) -> Self {
        let (route, wanted) = Self::of_path(path);
        if matches!(route, Self::NoSuchPath) || method == wanted {
            route
        } else {
            Self::NoSuchMethod
        }
    }

    fn of_path(path: &str) -> (Self, Method) {
        match path {
            "/2022-07-01/telemetry" => {
                let route =
                    Self::NotSupported("Telemetry.NotSupported", "Telemetry API is not supported");
                return (route, Method::PUT);
            }
            "/2020-08-15/logs" => {
                let route = Self::NotSupported("Logs.NotSupported", "Logs API is not supported");
                return (route, Method::PUT);
            }
            super::CREDENTIALS => return (Self::Credentials, Method::GET),
            _ => {}
        }
        if let Some(call) = path.strip_prefix(EXTENSIONS) {
            return match call {
                "register" => (Self::Register, Method::POST),
                "event/next" => (Self::Next, Method::GET),
                "init/error" => (Self::InitError, Method::POST),
                "exit/error" => (Self::ExitError, Method::POST),
                _ => (Self::NoSuchPath, Method::GET),
            };
        }
        let call = match path.strip_prefix(RUNTIME) {
            Some("ping") => return (Self::Ping, Method::GET),
            Some("runtime/invocation/next") => {
                return (Self::Runtime(RuntimeCall::Next), Method::GET);
            }
            Some("runtime/restore/next") => {
                return (Self::Runtime(RuntimeCall::RestoreNext), Method::GET);
            }
            Some("runtime/restore/error") => RuntimeCall::RestoreError,
            Some("runtime/init/error") => RuntimeCall::InitError,
            Some(rest) => {
                let call = rest
                    .strip_prefix("runtime/invocation/")
                    .and_then(|rest| rest.split_once('/'));
                match call {
                    Some((id, "response")) => RuntimeCall::Response(id.to_owned()),
                    Some((id, "error")) => RuntimeCall::Error(id.to_owned()),
                    _ => return (Self::NoSuchPath, Method::GET),
                }
            }
            None => return (Self::NoSuchPath, Method::GET),
        };
        (Self::Runtime(call), Method::POST)
    }

    /// The call, or the response if there is nothing to decide.
    pub(super) fn request(
        self,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<ApiRequest, ApiResponse> {
        let text = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
        let from = text(IDENTIFIER);
        let kind = text("lambda-extension-function-error-type");
        let runtime_kind = text("lambda-runtime-function-error-type");
        Ok(match self {
            Self::Runtime(RuntimeCall::Next) => ApiRequest::RuntimeNext,
            Self::Runtime(RuntimeCall::Response(id)) => ApiRequest::Response {
                id,
                mode: text("lambda-runtime-function-response-mode"),
                body,
            },
            Self::Runtime(RuntimeCall::Error(id)) => ApiRequest::Error { id, body },
            Self::Runtime(RuntimeCall::InitError) => ApiRequest::RuntimeInitError {
                body,
                kind: runtime_kind,
            },
            Self::Runtime(RuntimeCall::RestoreNext) => ApiRequest::RestoreNext,
            Self::Runtime(RuntimeCall::RestoreError) => {
                ApiRequest::RestoreError { kind: runtime_kind }
            }
            Self::Register => ApiRequest::Register {
                name: text("lambda-extension-name"),
                account: text("lambda-extension-accept-feature")
                    .is_some_and(|list| list.split(',').any(|one| one.trim() == "accountId")),
                body,
            },
            Self::Next => ApiRequest::ExtensionNext { from },
            Self::InitError => ApiRequest::ExtensionInitError { from, kind },
            Self::ExitError => ApiRequest::ExtensionExitError { from, kind },
            Self::NotSupported(kind, message) => {
                return Err(ApiResponse::error(StatusCode::ACCEPTED, kind, message));
            }
            Self::Ping => return Err(ApiResponse::new(StatusCode::OK, "pong").plain()),
            // Answered before, where there are any.
            Self::Credentials | Self::NoSuchPath => return Err(ApiResponse::no_such_path()),
            Self::NoSuchMethod => {
                return Err(ApiResponse::new(StatusCode::METHOD_NOT_ALLOWED, "").plain());
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &Method, path: &str) -> Option<StatusCode> {
        let route = Route::of(method, path);
        let answer = route.request(&HeaderMap::new(), Bytes::new());
        answer.err().map(|reply| reply.status)
    }

    #[test]
    fn every_call_has_one_path_and_one_method() {
        let calls = [
            (Method::GET, "/2018-06-01/runtime/invocation/next"),
            (Method::POST, "/2018-06-01/runtime/invocation/1f/response"),
            (Method::POST, "/2018-06-01/runtime/invocation/1f/error"),
            (Method::POST, "/2018-06-01/runtime/init/error"),
            (Method::GET, "/2018-06-01/runtime/restore/next"),
            (Method::POST, "/2018-06-01/runtime/restore/error"),
            (Method::POST, "/2020-01-01/extension/register"),
            (Method::GET, "/2020-01-01/extension/event/next"),
            (Method::POST, "/2020-01-01/extension/init/error"),
            (Method::POST, "/2020-01-01/extension/exit/error"),
        ];
        for (method, path) in calls {
            assert_eq!(status(&method, path), None, "{path}");
            assert_eq!(
                status(&Method::DELETE, path),
                Some(StatusCode::METHOD_NOT_ALLOWED),
                "{path}"
            );
        }
        for path in [
            "/",
            "/2018-06-01/runtime",
            "/2018-06-01/runtime/invocation/1f/",
            "/2020-01-01/extension",
        ] {
            assert_eq!(
                status(&Method::GET, path),
                Some(StatusCode::NOT_FOUND),
                "{path}"
            );
        }
        assert_eq!(
            status(&Method::PUT, "/2022-07-01/telemetry"),
            Some(StatusCode::ACCEPTED)
        );
    }
}
