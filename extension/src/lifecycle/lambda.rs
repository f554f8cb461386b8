//! Driven by Lambda's Extensions API, in the words of `lambda-extension`.
//!
//! The loop is ours: `next` can be held back while there is work, and after SHUTDOWN it is never called again, neither of
//! which the crate's own loop knows. That one would also carry a server for telemetry that nobody here listens to.

use std::time::Duration;

use http_body_util::BodyExt as _;
pub use lambda_extension::Error;
use lambda_extension::{NextEvent, ShutdownEvent, requests};
use lambda_runtime_api_client::body::Body;
use lambda_runtime_api_client::{PooledClient, build_request};
use tracing::{error, info};

use super::Driver;
use crate::clock::{Clock, Deadline};

/// Where this version of the Extensions API is.
const API: &str = "/2020-01-01/extension";
/// What the platform calls a registered extension.
const ID_HEADER: &str = "Lambda-Extension-Identifier";
/// Lambda kills 2 s after SHUTDOWN; what is done by then is done.
const SHUTDOWN_MARGIN: Duration = Duration::from_millis(500);
/// The longest time for the last flush, whatever deadline the event brings.
const SHUTDOWN_TIME: Duration = Duration::from_millis(1_500);

/// Makes the request of an error, from the extension's id, the error's type and what is said of it.
type ErrorRequest =
    fn(&str, &str, Option<requests::ErrorRequest<'_>>) -> Result<http::Request<Body>, Error>;

/// A registered extension whose Init has not ended yet.
pub struct Registration {
    client: PooledClient,
    id: String,
}

/// Registers the extension of this name, which is that of its file, with the platform, for these events.
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
        let words = String::from_utf8_lossy(&body);
        return Err(format!("it answered {}: {words}", head.status).into());
    }
    let id = head.headers.get(ID_HEADER);
    let id = id.ok_or_else(|| format!("its answer lacks the header {ID_HEADER}"))?;
    let id = id.to_str()?.to_owned();
    Ok(Registration { client, id })
}

impl Registration {
    /// Tells the platform that Init failed, and why. The process ends after this.
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
            error!("the platform could not be told why the sidecar ends: {problem}");
        }
    }

    /// The events from the end of Init on; the first call of `next` ends it.
    #[must_use]
    pub fn ready(self) -> Events {
        Events(self)
    }
}

/// The events of a registered extension.
pub struct Events(Registration);

impl Events {
    /// Does what is due at each invocation, until SHUTDOWN; gives the time that is left for the end. An error
    /// is that of the connection to the platform.
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

    /// Tells the platform that the extension failed after Init, and why. The process ends after this.
    pub async fn exit_error(self, kind: &str, message: &str) {
        self.0.error(requests::exit_error, kind, message).await;
    }

    /// Waits for SHUTDOWN alone, on managed instances; gives the time that is left for the end.
    pub async fn shutdown(&self, clock: &dyn Clock) -> Result<Duration, Error> {
        loop {
            if let NextEvent::Shutdown(shutdown) = self.next().await? {
                return Ok(time_left(&shutdown, clock));
            }
        }
    }

    /// The next event, however long that takes. The process may be frozen meanwhile.
    async fn next(&self) -> Result<NextEvent, Error> {
        let Events(Registration { client, id }) = self;
        let request = build_request()
            .uri(format!("{API}/event/next"))
            .header(ID_HEADER, id)
            .body(Body::empty())?;
        let (head, body) = client.call(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        if !head.status.is_success() {
            let words = String::from_utf8_lossy(&body);
            return Err(format!("`next` was answered {}: {words}", head.status).into());
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

fn time_left(shutdown: &ShutdownEvent, clock: &dyn Clock) -> Duration {
    info!(reason = shutdown.shutdown_reason, "shutting down");
    let deadline = Deadline::at_unix_ms(shutdown.deadline_ms).less(SHUTDOWN_MARGIN);
    deadline.remaining(clock.now()).min(SHUTDOWN_TIME)
}
