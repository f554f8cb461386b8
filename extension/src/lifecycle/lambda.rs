//! Client of Lambda's Extensions API, with the types of `lambda-extension`.
//!
//! The event loop of that crate is not used. It can neither hold back `next` while work is running nor stop calling
//! `next` after SHUTDOWN. It also includes a telemetry server.

use std::time::Duration;

use http_body_util::BodyExt as _;
pub use lambda_extension::Error;
use lambda_extension::{NextEvent, ShutdownEvent, requests};
use lambda_runtime_api_client::body::Body;
use lambda_runtime_api_client::{PooledClient, build_request};
use tracing::{error, info};

use super::Driver;
use crate::clock::{Clock, Deadline};

/// Path of the Extensions API.
const API: &str = "/2020-01-01/extension";
/// Header with the identifier of a registered extension.
const ID_HEADER: &str = "Lambda-Extension-Identifier";
/// Time before the deadline of SHUTDOWN that is left unused, because Lambda kills the process at the deadline.
const SHUTDOWN_MARGIN: Duration = Duration::from_millis(500);
/// Maximum time for the shutdown, whatever the deadline of the event.
const SHUTDOWN_TIME: Duration = Duration::from_millis(1_500);

/// Builder of an error request from the extension's identifier, the error's type and its details.
type ErrorRequest =
    fn(&str, &str, Option<requests::ErrorRequest<'_>>) -> Result<http::Request<Body>, Error>;

/// Registered extension during Init.
pub struct Registration {
    client: PooledClient,
    id: String,
}

/// Registers an extension for `events`. `name` must be its file name.
pub async fn register(name: &str, events: &[&str]) -> Result<Registration, Error> {
    let client = PooledClient::builder().build();
    let request = build_request()
        .method("POST")
        .uri(format!("{API}/register"))
        .header("Lambda-Extension-Name", name)
        .header("Content-Type", "application/json")
        .body(Body::from(
            serde_json::json!({"events": events}).to_string(),
        ))?;
    let response = client.call(request).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    if !head.status.is_success() {
        let text = String::from_utf8_lossy(&body);
        return Err(format!("status {}: {text}", head.status).into());
    }
    let id = head.headers.get(ID_HEADER);
    let id = id.ok_or_else(|| format!("the response has no header {ID_HEADER}"))?;
    let id = id.to_str()?.to_owned();
    Ok(Registration { client, id })
}

impl Registration {
    /// Reports a failed Init to the platform. The process must end afterwards.
    pub async fn init_error(self, kind: &str, message: &str) {
        self.error(requests::init_error, kind, message).await;
    }

    async fn error(&self, request: ErrorRequest, kind: &str, message: &str) {
        let body = requests::ErrorRequest {
            error_message: message,
            error_type: kind,
            stack_trace: Vec::new(),
        };
        let sent = match request(&self.id, kind, Some(body)) {
            Ok(request) => self.client.call(request).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(problem) = sent {
            error!("cannot report the error to the platform: {problem}");
        }
    }

    /// Returns the events; the first call of `next` ends Init.
    #[must_use]
    pub fn ready(self) -> Events {
        Events(self)
    }
}

/// Events of a registered extension.
pub struct Events(Registration);

impl Events {
    /// Handles invocations until SHUTDOWN; returns the time that is left for the shutdown.
    ///
    /// # Errors
    /// The connection to the platform failed.
    pub async fn invocations(
        &self,
        driver: &mut Driver,
        clock: &dyn Clock,
    ) -> Result<Duration, Error> {
        loop {
            driver.next_called();
            match self.next().await? {
                NextEvent::Invoke(invoke) => driver.invoked(invoke.deadline_ms).await,
                NextEvent::Shutdown(shutdown) => {
                    driver.shut_down();
                    return Ok(time_left(&shutdown, clock));
                }
            }
        }
    }

    /// Reports a failure after Init to the platform. The process must end afterwards.
    pub async fn exit_error(self, kind: &str, message: &str) {
        self.0.error(requests::exit_error, kind, message).await;
    }

    /// Waits for SHUTDOWN, on managed instances; returns the time that is left for the shutdown.
    pub async fn shutdown(&self, clock: &dyn Clock) -> Result<Duration, Error> {
        loop {
            if let NextEvent::Shutdown(shutdown) = self.next().await? {
                return Ok(time_left(&shutdown, clock));
            }
        }
    }

    /// Waits for the next event, without a limit. The process may be frozen during the wait.
    async fn next(&self) -> Result<NextEvent, Error> {
        let Events(Registration { client, id }) = self;
        let request = build_request()
            .uri(format!("{API}/event/next"))
            .header(ID_HEADER, id)
            .body(Body::empty())?;
        let (head, body) = client.call(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        if !head.status.is_success() {
            let text = String::from_utf8_lossy(&body);
            return Err(format!("`next` returned status {}: {text}", head.status).into());
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

fn time_left(shutdown: &ShutdownEvent, clock: &dyn Clock) -> Duration {
    info!(reason = shutdown.shutdown_reason, "shutting down");
    let deadline = Deadline::at_unix_ms(shutdown.deadline_ms).less(SHUTDOWN_MARGIN);
    deadline.remaining(clock.now()).min(SHUTDOWN_TIME)
}
