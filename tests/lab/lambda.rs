//! A Lambda platform: it runs a layer and a function as AWS Lambda does, beside
//! [`crate::rie`], AWS's own emulator, which neither freezes nor resets nor counts.
//!
//! [`Function`] is what callers see: it takes invocations, makes an [`Environment`] for each that
//! finds all others busy, and takes away those that are idle for long. An environment has one
//! sandbox for each extension and one for the runtime ([`sandbox`]), a Runtime and Extensions API
//! of its own on loopback, and a life:
//!
//! - **Init**, when the first invocation comes. Every extension is started; the runtime once all
//!   have registered. Init ends when runtime and extensions have called `next`. On demand it may
//!   take 10 s; when it takes longer all processes are killed and it is done again, once, as part
//!   of that first invocation and under the function's timeout.
//! - **Invoke.** The caller is answered as soon as the runtime answers; the invocation goes on
//!   until the runtime and all extensions have called `next` again.
//! - **Freeze** when all have called `next`, thaw just before the next event. Also by hand, at any
//!   moment: the platform's own limits then stand still with the processes.
//! - **Reset**, after a timeout or when a process has died: SHUTDOWN for the extensions that ask
//!   for it, 2 s in all, SIGKILL, and a new Init at the next invocation, with `/tmp` as it was.
//! - **Shutdown**, in the same way, and the environment is gone.
//!
//! What is decided stands in a pure machine, which knows no process and no socket and takes the
//! time as an argument; statuses, headers, bodies and error types are those of AWS's emulator,
//! whose Go sources hold the core of the real platform as well. Where those two differ the lab
//! follows the core: the caller's early answer, with `X-Amz-Function-Error`, and the reasons
//! `spindown`, `timeout` and `failure` in lower case.
//!
//! The crate `lambda-simulator` 0.2 was looked at and not used. It has both APIs, and SIGSTOP for
//! process ids that it is told; it has no processes as the platform starts them, no limit of Init
//! and no repetition, no resets, no reports, no second environment and no managed instances.
//!
//! Left out: streamed responses, `SnapStart`'s restore, the Telemetry API (answered as AWS's
//! emulator answers it: not supported), asynchronous invocations and their 1 MB.

use std::io;
use std::time::Duration;

use crate::artifacts::ArtifactError;
use crate::listener::ListenError;

mod api;
mod builder;
mod cgroup;
mod clock;
mod environment;
mod function;
mod invocation;
mod machine;
mod report;
pub mod sandbox;
mod trace;

pub use builder::Builder;
pub use cgroup::{Limits, WhyNot};
pub use clock::{Clock, ClockError, SharedClock};
pub use environment::{Environment, NoSuchReason, ShutdownReason, State};
pub use function::Function;
pub use invocation::{FunctionError, Invocation};
pub use report::{Report, Status};
pub use trace::ApiCall;

/// How long Init may take on demand.
/// Source: the developer guide, "Lambda execution environment lifecycle".
pub const INIT_LIMIT: Duration = Duration::from_secs(10);
/// What a SHUTDOWN leaves an environment. Source: as above, "Shutdown phase".
pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);
/// The runtime's share of it: it gets SIGTERM, then SIGKILL, before extensions get SHUTDOWN.
/// Source: `runtimeDeadlineShare` in RIE's `rapid/shutdown.go`.
pub const RUNTIME_SHUTDOWN_LIMIT: Duration = Duration::from_millis(600);
/// The longest event, in bytes. Source: the Invoke API, "Request must be smaller than 6291456
/// bytes for the `InvokeFunction` operation".
pub const MAX_REQUEST: usize = 6 * 1024 * 1024;
/// The longest answer, in bytes. Source: `MaxPayloadSize` in RIE's `interop/model.go`.
pub const MAX_RESPONSE: usize = 6 * 1024 * 1024 + 100;
/// How many extensions may register. Source: `MaxAgentsAllowed` in RIE's `core/registrations.go`.
pub const MAX_EXTENSIONS: usize = 10;

/// The platform could not start, or not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LambdaError {
    /// Something that must be built is not there.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// No port for an environment's API.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No clock for an environment.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// `/tmp` cannot have a size here.
    #[error(transparent)]
    Tmp(#[from] sandbox::NoSizeLimit),
    /// An environment would not freeze.
    #[error(transparent)]
    NotFrozen(#[from] sandbox::NotFrozen),
    /// The system refused something.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system answered.
        source: io::Error,
    },
    /// The environment is gone, after a shutdown.
    #[error("environment {0} is gone")]
    Gone(usize),
    /// Time can pass for an environment only while it is frozen, and only on a clock of its own.
    #[error("no time can be let pass: {0}")]
    NoTimePasses(&'static str),
    /// No process of that name is inside.
    #[error("no process named {name} in the environment; there are: {present:?}")]
    NoSuchProcess {
        /// The name that was asked for.
        name: String,
        /// The names of those that run.
        present: Vec<String>,
    },
    /// The function failed where an answer was wanted.
    #[error("the function failed: {error:?}\n---- its log ----\n{log}\n---- end ----")]
    Failed {
        /// How.
        error: FunctionError,
        /// All the function's environments wrote.
        log: String,
    },
}
