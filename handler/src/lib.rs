//! The handler: converts an event to a call of the model sidecar, and its response to the event's.
//!
//! It is for functions without code of their own. The library runs in one of two processes:
//!
//! - in `bootstrap`, the function's runtime, which forwards each call over the sidecar's Unix socket ([`sidecar`]);
//! - in the sidecar itself, with `MODEL_HANDLER=attach`. `bootstrap` then only waits ([`attachment`]).
//!
//! Its start is part of every cold start and its work part of every request. It reads the event once,
//! forwards bytes, and keeps no state except its connections.
//!
//! The sidecar alone knows the model, its readiness, and the validity of a request. The handler
//! guarantees that the response arrives complete, in the caller's format, and before the deadline.
//! A failure is visible as one (see [`failure`]).

#![cfg_attr(
    test,
    expect(clippy::unwrap_used, reason = "a panic is how a test fails")
)]

pub mod attachment;
pub mod batch;
pub mod deadline;
pub mod event;
pub mod failure;
mod headers;
pub mod invocation;
pub mod limits;
pub mod response;
#[cfg(feature = "bootstrap")]
pub mod settings;
#[cfg(feature = "bootstrap")]
pub mod sidecar;
pub mod trace;
pub mod transport;

use event::{BasePath, EventContent};
use failure::Failure;
use invocation::Invocation;
use response::FunctionResponse;
use transport::Transport;

/// The handler, one for all invocations. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Handler<T> {
    transport: T,
    base_path: BasePath,
}

impl<T: Transport> Handler<T> {
    /// Returns a handler that calls the sidecar over `transport`.
    #[must_use]
    pub fn new(transport: T) -> Self {
        Self {
            transport,
            base_path: BasePath::default(),
        }
    }

    /// Sets the base path, which is removed from paths that begin with it.
    #[must_use]
    pub fn with_base_path(self, base_path: BasePath) -> Self {
        Self { base_path, ..self }
    }

    /// Processes one invocation, whose event is JSON text. An error is a function error; HTTP callers never get one.
    /// Logs each failure that is not an HTTP caller's own.
    ///
    /// # Errors
    /// If the event is no request, or a direct invocation or a whole batch of messages fails.
    pub async fn handle(
        &self,
        event: impl AsRef<str> + Send,
        invocation: &Invocation,
    ) -> Result<FunctionResponse, Failure> {
        let (kind, work) = event::read(event.as_ref(), &self.base_path);
        // The payload can be megabytes, and the call has its own copy of the body.
        drop(event);

        let outcome = match work {
            Ok(EventContent::Batch(batch)) => {
                batch::process(&self.transport, batch, invocation).await
            }
            Ok(EventContent::Call(call)) => transport::send(&self.transport, call, invocation)
                .await
                .and_then(|answer| response::success(kind, answer)),
            Err(failure) => Err(failure),
        };
        let failure = match outcome {
            Ok(response) => return Ok(response),
            Err(failure) => failure,
        };
        if !kind.is_http() {
            failure.log(invocation);
            return Err(failure);
        }
        if failure.status().is_server_error() {
            failure.log(invocation);
        }
        Ok(response::failure(kind, &failure))
    }
}
