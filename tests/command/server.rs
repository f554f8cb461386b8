//! HTTP server: invocations on the paths of Lambda's API, and control of the lab under `/lab`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use lab::cloudwatch::CloudWatch;
use lab::lambda::{Environment, Function, LambdaError, ShutdownReason};
use lab::preview::Preview;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::response::{self, ServerResponse};
use crate::{invoke, status};

/// State of the server. Clones share it.
#[derive(Clone)]
pub(crate) struct ControlServer {
    function: Arc<Function>,
    /// Page at `/`.
    preview: Option<Arc<Preview>>,
    /// Collector of the metrics, whose clock advances with simulated freezes.
    cloudwatch: Option<Arc<CloudWatch>>,
    end: Arc<Notify>,
}

impl ControlServer {
    pub(crate) fn new(
        function: Arc<Function>,
        preview: Option<Arc<Preview>>,
        cloudwatch: Option<Arc<CloudWatch>>,
    ) -> Self {
        Self {
            function,
            preview,
            cloudwatch,
            end: Arc::default(),
        }
    }

    /// Accepts connections until a shutdown request.
    pub(crate) async fn serve(&self, listener: TcpListener) {
        loop {
            tokio::select! {
                () = self.end.notified() => return,
                accepted = listener.accept() => {
                    // An accept error concerns one connection, which was closed before it was
                    // accepted.
                    if let Ok((stream, _)) = accepted {
                        tokio::spawn(self.clone().connection(stream));
                    }
                }
            }
        }
    }

    async fn connection(self, stream: TcpStream) {
        let service =
            service_fn(|request| async { Ok::<_, Infallible>(self.answer(request).await) });
        let mut http = hyper::server::conn::http1::Builder::new();
        // A connection error means that the client disconnected.
        let _ = http
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }

    async fn answer(&self, request: Request<Incoming>) -> ServerResponse {
        let (head, body) = request.into_parts();
        if let Some(name) = invoke::function_of(head.uri.path()) {
            if head.method != Method::POST {
                return method_not_allowed(&head.method, "POST");
            }
            let Ok(body) = body.collect().await else {
                return response::error(StatusCode::BAD_REQUEST, "the request body is incomplete");
            };
            return invoke::answer(&self.function, name, &head.headers, body.to_bytes()).await;
        }
        let Some(action) = head.uri.path().strip_prefix("/lab/") else {
            match self.page(&head.method, &head.uri) {
                Ok(Some(page)) => return page,
                Ok(None) => {}
                Err(problem) => {
                    let status = StatusCode::INTERNAL_SERVER_ERROR;
                    return response::error(status, &format!("{problem:#}"));
                }
            }
            let message = format!(
                "no such path: {}; allowed: {} and the paths under /lab/",
                head.uri.path(),
                invoke::PATH
            );
            return response::error(StatusCode::NOT_FOUND, &message);
        };
        let wanted = if action == "status" { "GET" } else { "POST" };
        if head.method != wanted {
            return method_not_allowed(&head.method, wanted);
        }
        let query = Query::of(head.uri.query().unwrap_or_default());
        match self.act(action, &query).await {
            Ok(answer) => answer,
            Err(problem) => response::error(problem.status(), &problem.to_string()),
        }
    }

    /// Response with the preview's page, if the path is one of its.
    fn page(&self, method: &Method, uri: &Uri) -> anyhow::Result<Option<ServerResponse>> {
        match &self.preview {
            Some(preview) if method == Method::GET => preview.answer(uri),
            _ => Ok(None),
        }
    }

    async fn act(&self, action: &str, query: &Query) -> Result<ServerResponse, Problem> {
        let environments = self.environments(query)?;
        if action == "status" {
            return Ok(response::json(&json!(status::rows(&environments))));
        }
        let action = Action::of(action, query)?;
        let mut acted = Vec::new();
        let mut passed = Duration::ZERO;
        for environment in &environments {
            match action {
                Action::Freeze(time) => passed = passed.max(freeze(environment, time).await?),
                Action::Thaw => environment.thaw().await?,
                Action::Reset(reason) => environment.reset(reason).await?,
                Action::Shutdown(reason) => environment.shutdown(reason).await?,
            }
            acted.push(environment.number());
        }
        if let Some(cloudwatch) = &self.cloudwatch {
            cloudwatch.let_pass(passed);
        }
        let whole = matches!(action, Action::Shutdown(_)) && query.environment()?.is_none();
        if whole {
            self.end.notify_one();
        }
        Ok(response::json(
            &json!({ "environments": acted, "server": whole }),
        ))
    }

    fn environments(&self, query: &Query) -> Result<Vec<Arc<Environment>>, Problem> {
        let all = self.function.environments();
        let Some(number) = query.environment()? else {
            return Ok(all);
        };
        let numbers = all.iter().map(|environment| environment.number()).collect();
        let one = all.into_iter().find(|one| one.number() == number);
        one.map(|one| vec![one])
            .ok_or(Problem::NoSuchEnvironment { number, numbers })
    }
}

/// Action on environments.
#[derive(Clone, Copy)]
enum Action {
    Freeze(Option<Duration>),
    Thaw,
    Reset(ShutdownReason),
    Shutdown(ShutdownReason),
}

impl Action {
    fn of(name: &str, query: &Query) -> Result<Self, Problem> {
        Ok(match name {
            "freeze" => Self::Freeze(query.time()?),
            "thaw" => Self::Thaw,
            "reset" => Self::Reset(query.reason(ShutdownReason::Failure)?),
            "shutdown" => Self::Shutdown(query.reason(ShutdownReason::Spindown)?),
            _ => return Err(Problem::NoSuchAction(name.to_owned())),
        })
    }
}

/// Freezes. With a time, lets it pass and thaws again; with the machine's clock that takes real
/// time. Returns the simulated time.
async fn freeze(environment: &Environment, time: Option<Duration>) -> Result<Duration, Problem> {
    environment.freeze().await?;
    let Some(time) = time else {
        return Ok(Duration::ZERO);
    };
    let simulated = match environment.let_pass(time).await {
        Err(LambdaError::NoTimePasses(_)) => {
            tokio::time::sleep(time).await;
            Duration::ZERO
        }
        passed => {
            passed?;
            time
        }
    };
    environment.thaw().await?;
    Ok(simulated)
}

#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("no such action: {0:?}; allowed: status, freeze, thaw, reset, shutdown")]
    NoSuchAction(String),
    #[error("no environment {number}; existing: {numbers:?}")]
    NoSuchEnvironment { number: usize, numbers: Vec<usize> },
    #[error("invalid {name}={value}; allowed: {allowed}")]
    Query {
        name: &'static str,
        value: String,
        allowed: &'static str,
    },
    #[error(transparent)]
    Lambda(#[from] LambdaError),
}

impl Problem {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchAction(_) | Self::NoSuchEnvironment { .. } => StatusCode::NOT_FOUND,
            Self::Query { .. } => StatusCode::BAD_REQUEST,
            Self::Lambda(_) => StatusCode::CONFLICT,
        }
    }
}

/// Query parameters of a path under `/lab`.
struct Query(HashMap<String, String>);

impl Query {
    fn of(text: &str) -> Self {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(
            pairs
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    fn environment(&self) -> Result<Option<usize>, Problem> {
        self.parsed("environment", "an environment's number", |text| {
            text.parse().ok()
        })
    }

    fn time(&self) -> Result<Option<Duration>, Problem> {
        self.parsed("for_ms", "a whole number of milliseconds", |text| {
            text.parse().ok().map(Duration::from_millis)
        })
    }

    fn reason(&self, default: ShutdownReason) -> Result<ShutdownReason, Problem> {
        let reason = self.parsed("reason", "spindown, timeout or failure", |text| {
            text.parse().ok()
        });
        Ok(reason?.unwrap_or(default))
    }

    fn parsed<T>(
        &self,
        name: &'static str,
        allowed: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        parse(value).map(Some).ok_or_else(|| Problem::Query {
            name,
            value: value.clone(),
            allowed,
        })
    }
}

fn method_not_allowed(method: &Method, allowed: &str) -> ServerResponse {
    let message = format!("method {method} not allowed; allowed: {allowed}");
    response::error(StatusCode::METHOD_NOT_ALLOWED, &message)
}
