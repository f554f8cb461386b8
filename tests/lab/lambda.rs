//! A Lambda platform that runs a layer and a function as AWS Lambda does. It adds to
//! [`crate::rie`], AWS's own emulator, which has no freeze, no reset and no limits.
//!
//! [`Function`] is the callers' interface. It accepts invocations, creates an [`Environment`] if
//! all others are busy, and removes environments that are idle for long. An environment has one
//! sandbox for each extension and one for the runtime ([`sandbox`]), and a Runtime and Extensions
//! API of its own on loopback. Its phases:
//!
//! - **Init** starts with the first invocation. All extensions are started, then the runtime once
//!   all have registered. Init ends when runtime and extensions have called `next`. On demand the
//!   limit is 10 s. After the limit all processes are killed, and Init is repeated once as part of
//!   that first invocation, under the function's timeout.
//! - **Invoke.** The caller gets the response as soon as the runtime posts it. The invocation lasts
//!   until the runtime and all extensions have called `next` again.
//! - **Freeze** when all have called `next`, thaw just before the next event. Tests freeze and thaw
//!   at any moment as well; the platform's own limits then stand still with the processes.
//! - **Reset** after a timeout or the exit of a process. Extensions that registered for SHUTDOWN
//!   receive it, with 2 s in total, followed by SIGKILL. The next invocation has a new Init, with
//!   `/tmp` preserved.
//! - **Shutdown** follows the same steps and removes the environment.
//! - **Snapshot and restore** under `SnapStart`. Init ends when the runtime has called
//!   `restore/next`, or `next`, and all extensions `next`. The processes are frozen, and a restore
//!   continues them. It issues other credentials, which an endpoint of the API serves, and closes
//!   connections to the API. The runtime has 10 s until `next`. An error or a timeout fails the
//!   invocation and removes the environment.
//!
//! A snapshot is the frozen processes themselves: a process cannot be cloned here. Another restore
//! of one snapshot is another freeze of the same processes ([`Environment::restore`]). Their memory
//! and `/tmp` are not those of the snapshot, and the runtime gets no second `restore/next`. So a
//! restore does not show values that clones would share. A further environment has an Init of its
//! own. Connections to other servers stay open, unless a test cuts them ([`crate::link`]).
//!
//! All decisions are made by a pure state machine, which knows no process and no socket and takes
//! the time as an argument. Statuses, headers, bodies and error types are those of AWS's emulator,
//! whose Go sources contain the core of the real platform. Where emulator and core differ the lab
//! follows the core. The differences are the early response to the caller, with
//! `X-Amz-Function-Error`, and the reasons `spindown`, `timeout` and `failure` in lower case.
//!
//! The crate `lambda-simulator` 0.2 was evaluated. It has both APIs, and SIGSTOP for given process
//! ids. It has no process start, no limit of Init and no repetition, no resets, no reports, no
//! second environment and no managed instances.
//!
//! Not implemented: streamed responses, asynchronous invocations and their
//! limit of 1 MB, and the Telemetry API, which is `NotSupported` as in AWS's emulator.

use std::io;
use std::time::Duration;

use crate::artifacts::ArtifactError;
use crate::listener::ListenError;

mod api;
mod builder;
mod cgroup;
mod clock;
mod command;
mod environment;
mod function;
mod function_state;
mod history;
mod invocation;
mod machine;
mod metrics;
mod report;
mod role_credentials;
pub mod sandbox;
mod state;
mod trace;

pub use builder::Builder;
pub use cgroup::{CgroupError, Limits};
pub use clock::{Clock, ClockError, SharedClock};
pub use environment::Environment;
pub use function::Function;
pub use history::EnvironmentChange;
pub use invocation::{FunctionError, Invocation};
pub use report::{Report, Status};
pub use state::{NoSuchReason, ShutdownReason, State};
pub use trace::ApiCall;

/// Maximum duration of Init on demand. Source: the developer guide, "Lambda execution environment
/// lifecycle".
pub const INIT_LIMIT: Duration = Duration::from_secs(10);
/// Maximum duration of a restore under `SnapStart`, the runtime's hooks included. Source: the
/// developer guide, "Lambda `SnapStart` runtime hooks".
pub const RESTORE_LIMIT: Duration = Duration::from_secs(10);
/// Maximum duration of a shutdown. Source: as above, "Shutdown phase".
pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);
/// The runtime's share of [`SHUTDOWN_LIMIT`]: SIGTERM, then SIGKILL, before extensions get
/// SHUTDOWN. Source: `runtimeDeadlineShare` in RIE's `rapid/shutdown.go`.
pub const RUNTIME_SHUTDOWN_LIMIT: Duration = Duration::from_millis(600);
/// Maximum size of an event, in bytes. Source: the Invoke API, "Request must be smaller than
/// 6291456 bytes for the `InvokeFunction` operation".
pub const MAX_REQUEST: usize = 6 * 1024 * 1024;
/// Maximum size of a response, in bytes. Source: `MaxPayloadSize` in RIE's `interop/model.go`.
pub const MAX_RESPONSE: usize = 6 * 1024 * 1024 + 100;
/// Maximum number of registered extensions. Source: `MaxAgentsAllowed` in RIE's
/// `core/registrations.go`.
pub const MAX_EXTENSIONS: usize = 10;

/// The platform could not start, or not perform a request.
#[derive(Debug, thiserror::Error)]
pub enum LambdaError {
    /// An artifact must be built first.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// No port is available for an environment's API.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No clock could be made for an environment.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// `/tmp` cannot have a size here.
    #[error(transparent)]
    Tmp(#[from] sandbox::NoSizeLimit),
    /// An environment could not be frozen.
    #[error(transparent)]
    NotFrozen(#[from] sandbox::NotFrozen),
    /// A system call failed.
    #[error("cannot {what}")]
    Io {
        /// The attempted operation.
        what: &'static str,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The environment was shut down.
    #[error("environment {0} was shut down")]
    Gone(usize),
    /// Time can pass for an environment only while it is frozen, and only on a clock of its own.
    #[error("cannot let time pass: {0}")]
    NoTimePasses(&'static str),
    /// No process of that name runs in the environment.
    #[error("no process named {name} in the environment; running: {present:?}")]
    NoSuchProcess {
        /// The given name.
        name: String,
        /// Names of the running processes.
        present: Vec<String>,
    },
    /// The function failed where a response was expected.
    #[error("the function failed: {error:?}\n---- its log ----\n{log}\n---- end ----")]
    Failed {
        /// The failure.
        error: FunctionError,
        /// Log of all the function's environments.
        log: String,
    },
}
