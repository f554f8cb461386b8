//! Commands to an environment's driver, and their results.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::LambdaError;
use super::machine::{ApiRequest, ApiResponse, Event, Exit, ProcessRole};
use super::sandbox::NotFrozen;
use super::state::ShutdownReason;

/// A command to an environment.
#[derive(Debug)]
pub(super) enum EnvironmentCommand {
    /// A process inside calls the API.
    Call {
        at: Instant,
        id: Uuid,
        request: ApiRequest,
        reply: oneshot::Sender<ApiResponse>,
    },
    /// A caller has disconnected before its response.
    HungUp(Uuid),
    Begin,
    Invoke {
        event: Event,
        answer: oneshot::Sender<InvocationOutcome>,
    },
    Exited(u32, ProcessRole, Exit),
    NotLaunched(u32, ProcessRole, String),
    Freeze(oneshot::Sender<Result<(), NotFrozen>>),
    Thaw(oneshot::Sender<()>),
    /// Answered when the restore has begun.
    Restore(oneshot::Sender<()>),
    LetPass(Duration, oneshot::Sender<Result<(), LambdaError>>),
    /// Answered when the reset is complete.
    Reset(ShutdownReason, oneshot::Sender<()>),
    Shutdown(ShutdownReason, oneshot::Sender<()>),
}

/// Outcome of an invocation.
#[derive(Debug)]
pub(super) enum InvocationOutcome {
    Answered {
        body: Bytes,
        failed: bool,
    },
    /// The environment was shutting down.
    NotAccepted,
}
