//! The handler: converts an event to a call of the model sidecar, and its response to the event's.
//!
//! It is for functions without code of their own. The handler is the function's runtime, so its
//! start is part of every cold start and its work part of every request. It reads the event once,
//! forwards bytes, and keeps no state except its connections.
//!
//! The sidecar alone knows the model, its readiness, and the validity of a request. The handler
//! guarantees that the response arrives complete, in the caller's format, and before the deadline.
//! A failure is visible as one (see [`failure`]).

#![cfg_attr(
    test,
    expect(clippy::unwrap_used, reason = "a panic is how a test fails")
)]

pub mod batch;
pub mod deadline;
pub mod event;
pub mod failure;
mod headers;
pub mod invocation;
mod limits;
pub mod response;
pub mod settings;
pub mod sidecar;

use lambda_runtime::LambdaEvent;
use serde_json::value::RawValue;

use event::{BasePath, EventContent};
use failure::Failure;
use invocation::Invocation;
use response::FunctionResponse;
use sidecar::Sidecar;

/// The handler, one for all invocations. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Handler {
    sidecar: Sidecar,
    base_path: BasePath,
}

impl Handler {
    /// Returns a handler that forwards to this sidecar.
    #[must_use]
    pub fn new(sidecar: Sidecar) -> Self {
        Self {
            sidecar,
            base_path: BasePath::default(),
        }
    }

    /// Sets the base path, which is removed from paths that begin with it.
    #[must_use]
    pub fn with_base_path(self, base_path: BasePath) -> Self {
        Self { base_path, ..self }
    }

    /// Processes one invocation. An error is a function error; HTTP callers never get one.
    ///
    /// # Errors
    /// If the event is no request, or a direct invocation or a whole batch of messages fails.
    pub async fn handle(
        &self,
        event: LambdaEvent<Box<RawValue>>,
    ) -> Result<FunctionResponse, Failure> {
        let invocation = Invocation::from(event.context);
        let (kind, work) = event::read(event.payload.get(), &self.base_path);
        // The payload can be megabytes, and the call has its own copy of the body.
        drop(event.payload);

        let outcome = match work {
            Ok(EventContent::Batch(batch)) => {
                batch::process(&self.sidecar, batch, &invocation).await
            }
            Ok(EventContent::Call(call)) => self
                .sidecar
                .send(call, &invocation)
                .await
                .and_then(|answer| response::success(kind, answer)),
            Err(failure) => Err(failure),
        };
        match outcome {
            Err(failure) if kind.is_http() => {
                // Lambda's runtime logs function errors, but not these.
                if failure.status().is_server_error() {
                    tracing::error!(error_type = failure.error_type(), "{failure}");
                }
                Ok(response::failure(kind, &failure))
            }
            outcome => outcome,
        }
    }
}
