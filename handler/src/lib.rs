//! The handler: events in, a call of the model sidecar, the answer out.
//!
//! For those who need no code of their own beside a model. It is the function's own runtime, so its
//! start is part of every cold start and its work part of every request: it reads the event once,
//! forwards bytes, and keeps nothing but its connections.
//!
//! What the model is, whether it is ready, and whether a request is right, only the sidecar knows;
//! the handler promises that its answer arrives whole, in the form that the caller can read, and
//! before the deadline; and that a failure is seen as one (see [`failure`]).

#![cfg_attr(
    test,
    expect(clippy::unwrap_used, reason = "a test ends at the first surprise")
)]

pub mod batch;
pub mod deadline;
pub mod event;
pub mod failure;
mod headers;
pub mod invocation;
pub mod reply;
pub mod settings;
pub mod sidecar;

use lambda_runtime::LambdaEvent;
use serde_json::value::RawValue;

use event::{BasePath, Work};
use failure::Failure;
use invocation::Invocation;
use reply::Reply;
use sidecar::Sidecar;

/// The handler: one for all invocations. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Handler {
    sidecar: Sidecar,
    base_path: BasePath,
}

impl Handler {
    /// A handler that forwards to this sidecar.
    #[must_use]
    pub fn new(sidecar: Sidecar) -> Self {
        Self {
            sidecar,
            base_path: BasePath::default(),
        }
    }

    /// The same handler, which removes this path from those that begin with it.
    #[must_use]
    pub fn with_base_path(self, base_path: BasePath) -> Self {
        Self { base_path, ..self }
    }

    /// Answers one invocation. An error is a function error; callers over HTTP never get one.
    ///
    /// # Errors
    /// When the event is no request, or a direct invocation or a whole batch of messages has no answer.
    pub async fn answer(&self, event: LambdaEvent<Box<RawValue>>) -> Result<Reply, Failure> {
        let invocation = Invocation::from(event.context);
        let (kind, work) = event::read(event.payload.get(), &self.base_path);
        // Megabytes, perhaps, and the call has its own copy of what it needs.
        drop(event.payload);

        let outcome = match work {
            Ok(Work::Batch(batch)) => batch::answer(&self.sidecar, batch, &invocation).await,
            Ok(Work::Call(call)) => self
                .sidecar
                .send(call, &invocation)
                .await
                .and_then(|answer| reply::success(kind, answer)),
            Err(failure) => Err(failure),
        };
        match outcome {
            Err(failure) if kind.is_http() => {
                // Lambda's own runtime logs function errors; it cannot see these.
                if failure.status().is_server_error() {
                    tracing::error!(error_type = failure.error_type(), "{failure}");
                }
                Ok(reply::failure(kind, &failure))
            }
            outcome => outcome,
        }
    }
}
