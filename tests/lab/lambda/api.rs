//! The Runtime and Extensions APIs of one environment, over HTTP. Calls are parsed here, passed to
//! the machine with their time of arrival, and answered with the machine's decision. Paths, and the
//! responses to wrong paths, are those of RIE's router.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::command::EnvironmentCommand;
use super::machine::{ApiRequest, ApiResponse};
use super::role_credentials::RoleCredentials;
use super::trace::{ApiCall, abbreviated};
use crate::listener::{Body, ConnectionControl, Handler};
use crate::records::Records;

mod route;

use route::Route;

/// Header with the identifier that `register` returned.
const IDENTIFIER: &str = "lambda-extension-identifier";

/// Path of the credentials under `SnapStart`.
pub(super) const CREDENTIALS: &str = "/2021-04-23/credentials";

/// Parses calls and writes responses.
pub(super) struct Api {
    commands: mpsc::UnboundedSender<EnvironmentCommand>,
    made: Instant,
    trace: Arc<Records<ApiCall>>,
    /// Credentials of the role; `None` if the processes have them as variables.
    credentials: Option<Arc<RoleCredentials>>,
    /// Names of the registered callers by identifier.
    names: Mutex<BTreeMap<String, String>>,
}

impl Api {
    pub(super) fn new(
        commands: mpsc::UnboundedSender<EnvironmentCommand>,
        made: Instant,
        trace: Arc<Records<ApiCall>>,
        credentials: Option<Arc<RoleCredentials>>,
    ) -> Self {
        Self {
            commands,
            made,
            trace,
            credentials,
            names: Mutex::default(),
        }
    }

    /// Passes a call to the machine; `None` if the call will never be answered.
    async fn ask(&self, at: Instant, id: Uuid, request: ApiRequest) -> Option<ApiResponse> {
        let (reply, answer) = oneshot::channel();
        let call = EnvironmentCommand::Call {
            at,
            id,
            request,
            reply,
        };
        self.commands.send(call).ok()?;
        let mut presence = Presence {
            commands: &self.commands,
            id: Some(id),
        };
        let answer = answer.await.ok();
        presence.id = None;
        answer
    }

    fn name_of(&self, headers: &HeaderMap, route: &Route) -> String {
        let text = |name: &str| headers.get(name)?.to_str().ok();
        if let Some(name) = text("lambda-extension-name") {
            return name.to_owned();
        }
        if let Some(identifier) = text(IDENTIFIER) {
            let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            return names
                .get(identifier)
                .cloned()
                .unwrap_or_else(|| "unknown".to_owned());
        }
        match route {
            Route::Runtime(_) => "runtime".to_owned(),
            _ => "unknown".to_owned(),
        }
    }

    fn learn(&self, name: &str, reply: &ApiResponse) {
        let identifier = reply
            .headers
            .iter()
            .find(|(header, _)| *header == IDENTIFIER);
        if let Some((_, identifier)) = identifier {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.insert(identifier.clone(), name.to_owned());
        }
    }
}

/// Reports a disconnected caller: its connection's task is dropped before the response.
struct Presence<'a> {
    commands: &'a mpsc::UnboundedSender<EnvironmentCommand>,
    id: Option<Uuid>,
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let _ = self.commands.send(EnvironmentCommand::HungUp(id));
        }
    }
}

impl Handler for Api {
    async fn handle(
        &self,
        request: http::Request<Incoming>,
        _: Arc<ConnectionControl>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let route = Route::of(&head.method, head.uri.path());
        // A call without a body arrives with its headers.
        let received = Instant::now();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) => return plain(StatusCode::BAD_REQUEST, ""),
        };
        let at = if body.is_empty() {
            received
        } else {
            Instant::now()
        };
        let from = self.name_of(&head.headers, &route);
        let place = self.trace.push(ApiCall {
            from: from.clone(),
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            request: abbreviated(&body),
            asked: at.saturating_duration_since(self.made),
            answered: None,
            status: None,
            response: String::new(),
        });
        let reply = match (&route, &self.credentials) {
            (Route::Credentials, Some(credentials)) => {
                let authorization = head.headers.get(header::AUTHORIZATION);
                let authorization = authorization.and_then(|value| value.to_str().ok());
                Some(credentials.response(authorization))
            }
            _ => match route.request(&head.headers, body) {
                Ok(request) => self.ask(at, Uuid::new_v4(), request).await,
                Err(answer) => Some(answer),
            },
        };
        let Some(reply) = reply else {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "");
        };
        self.learn(&from, &reply);
        self.trace.amend(place, |call| {
            call.answered = Some(self.made.elapsed());
            call.status = Some(reply.status);
            call.response = abbreviated(&reply.body);
        });
        render(reply)
    }
}

fn render(reply: ApiResponse) -> Response<Body> {
    let mut response = response(reply.status, reply.body);
    let headers = response.headers_mut();
    if let Some(kind) = reply.content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    for (name, value) in reply.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// A response that is not JSON.
fn plain(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = response(status, Bytes::from_static(text.as_bytes()));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

pub(super) fn response(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(body).map_err(|none| match none {}).boxed_unsync());
    *response.status_mut() = status;
    response
}
