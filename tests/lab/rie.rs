//! An execution environment: a layer and a function under AWS's Runtime Interface Emulator (RIE),
//! in a sandbox that looks as Lambda does. `/opt` and `/var/task` are read-only, `/tmp` is a
//! folder of the host that tests can look into, processes have a process-id space of their own,
//! and nothing of the host's environment comes in. The network is the host's, so that the lab's
//! servers can be reached on loopback.
//!
//! What RIE does, found by trying (`tests/lab_tests/rie.rs` holds most of it):
//!
//! - **Nothing starts before the first invocation.** RIE listens, and starts extensions and
//!   runtime when the first event comes; Init is part of that call. Its 10 seconds are not
//!   enforced. A SIGTERM before it ends RIE with no SHUTDOWN, since nobody is there to get one.
//! - The answer reaches the caller when the runtime *and* every extension have called `next`.
//! - A function's error is answered with status 200, the error's own JSON and no header to tell
//!   it by: [`Invocation::function_error`] reads the body. INVOKE events carry no `tracing`.
//! - **The function's process dies** in an invocation: the extensions get SHUTDOWN with the reason
//!   `ReleaseFail` and 2 s, then SIGKILL; the caller gets a 502 with `Runtime.ExitError` after
//!   that. The *next* invocation starts everything again (log: `INIT START(…, phase: invoke)`),
//!   with `/tmp` as it was. If it dies between two invocations, the next one fails in the same
//!   way, and the extension may or may not see its INVOKE before the SHUTDOWN.
//! - **An extension's process dies**: the invocation under way, or the next one, is a 502 with
//!   `Extension.Crash`, or with the function's answer, or with an empty body, as the function was
//!   slower or faster than RIE; the log has `Extension.Crash` each time. The dead one gets no
//!   SHUTDOWN; all is started again at the next invocation.
//! - **An extension fails in Init**, by exiting or through `init/error`: 502 with an empty body,
//!   RIE having tried a second time at once; the log has `Extension.Crash` or
//!   `Extension.InitError` and not the extension's own error. Every further invocation tries
//!   again. One that exits within a millisecond or so of its start can take RIE with it (a race
//!   in RIE: `Unable to find an exitedChannel`).
//! - **An invocation takes longer than the timeout**: SHUTDOWN with the reason `Timeout` and 2 s,
//!   then 200 with the plain text `Task timed out after 3.00 seconds`; all is started again at
//!   the next invocation. An extension that doesn't call `next` in time counts as well, and gets
//!   no SHUTDOWN, since it does not ask for one: it is killed after the 2 s.
//! - **SIGTERM to RIE** sends SHUTDOWN with the reason `SandboxTerminated` to the extensions that
//!   run, gives them 2 s, kills what is left and exits with 0; an invocation under way is cut off.
//! - Two invocations at once crash it: [`ExecutionEnvironment::invoke`] lets one in at a time.
//!
//! It leaves to the real platform: freeze and thaw, memory and CPU limits, the 10 s of Init, the
//! Telemetry API, the early answer.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::WAIT_LIMIT;
use crate::artifacts::ArtifactError;
use crate::child::{Child, StillRunning};
use crate::http::{CallError, Client};
use crate::log_capture::{LogCapture, NoSuchLine};
use crate::ports::{NoFreePort, Port};
use crate::processes;

mod builder;
mod invocation;

pub use builder::Builder;
pub use invocation::{FunctionError, Invocation};

/// Where RIE takes invocations.
const INVOKE: &str = "/2015-03-31/functions/function/invocations";
/// How often RIE's port is tried while it starts: it says nothing when it listens.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// An execution environment could not be started, asked or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RieError {
    /// Something that must be built is not there.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// No port is free.
    #[error(transparent)]
    NoFreePort(#[from] NoFreePort),
    /// The sandbox's program is not installed.
    #[error("no bwrap on the PATH: `apt-get install bubblewrap`")]
    NoBubblewrap,
    /// `/tmp`'s folder could not be made, or the sandbox not be started.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system answered.
        source: io::Error,
    },
    /// The sandbox or RIE in it ended, or never listened.
    #[error("RIE does not listen\n---- its log ----\n{log}\n---- end ----")]
    Stillborn {
        /// All it wrote.
        log: String,
    },
    /// An invocation brought no answer.
    #[error(
        "the invocation brought no answer\n---- the environment's log ----\n{log}\n---- end ----"
    )]
    NoAnswer {
        /// All the environment wrote.
        log: String,
        /// What happened to the call.
        source: CallError,
    },
    /// The function failed where an answer was wanted.
    #[error(
        "the function failed: {error:?}\n---- the environment's log ----\n{log}\n---- end ----"
    )]
    Failed {
        /// How.
        error: FunctionError,
        /// All the environment wrote.
        log: String,
    },
    /// It did not stop.
    #[error(transparent)]
    StillRunning(#[from] StillRunning),
    /// No process of that name is inside.
    #[error("no process named {name} in the environment; there are: {present:?}")]
    NoSuchProcess {
        /// The name that was asked for.
        name: String,
        /// The names of those that run.
        present: Vec<String>,
    },
}

/// A running execution environment. Its processes die when it is dropped.
#[derive(Debug)]
pub struct ExecutionEnvironment {
    child: Child,
    client: Client,
    one_at_a_time: Mutex<()>,
    tmp: Arc<TempDir>,
    /// Where RIE takes invocations, and where it serves the Runtime and Extensions APIs.
    ports: [Port; 2],
}

impl ExecutionEnvironment {
    /// Prepares to run the folders `layer` (at `/opt`) and `function` (at `/var/task`).
    #[must_use]
    pub fn of(layer: impl AsRef<Path>, function: impl AsRef<Path>) -> Builder {
        Builder::new(layer.as_ref(), function.as_ref())
    }

    /// Prepares to run the staged layer and function.
    ///
    /// # Errors
    /// [`ArtifactError`] when they are to be built first.
    pub fn staged() -> Result<Builder, ArtifactError> {
        let (layer, function) = (crate::artifacts::layer()?, crate::artifacts::function()?);
        Ok(Builder::new(&layer, &function))
    }

    /// Invokes the function. The first invocation starts extensions and runtime. Calls made
    /// side by side wait for each other.
    ///
    /// # Errors
    /// [`RieError::NoAnswer`] when RIE broke off; a failed function is an answer.
    pub async fn invoke(&self, event: &Value) -> Result<Invocation, RieError> {
        let _turn = self.one_at_a_time.lock().await;
        match self.client.post(INVOKE, event).await {
            Ok(answer) => Ok(Invocation::of(answer)),
            Err(source) => Err(RieError::NoAnswer {
                log: self.log().text(),
                source,
            }),
        }
    }

    /// Invokes the function and returns its answer, JSON or else `null`.
    ///
    /// # Errors
    /// [`RieError::Failed`] when the function failed, [`RieError::NoAnswer`] when RIE broke off.
    pub async fn answer(&self, event: &Value) -> Result<Value, RieError> {
        let invocation = self.invoke(event).await?;
        match invocation.function_error() {
            None => Ok(invocation.json.unwrap_or_default()),
            Some(error) => Err(RieError::Failed {
                error,
                log: self.log().text(),
            }),
        }
    }

    /// The folder of the host that is `/tmp` inside.
    #[must_use]
    pub fn tmp(&self) -> &Path {
        self.tmp.path()
    }

    /// That folder to be handed on, to [`Builder::tmp`] of another environment: `/tmp` outlives
    /// the processes, as it does when Lambda resets an environment.
    #[must_use]
    pub fn keep_tmp(&self) -> Arc<TempDir> {
        Arc::clone(&self.tmp)
    }

    /// What RIE, extensions and function have written, as it came.
    #[must_use]
    pub fn log(&self) -> &LogCapture {
        self.child.log()
    }

    /// Waits for a line of the log that contains `text`.
    ///
    /// # Errors
    /// [`NoSuchLine`] when it does not come.
    pub async fn wait_for(&self, text: &str) -> Result<String, NoSuchLine> {
        self.log().wait_for(text).await
    }

    /// Waits for a line of the log for which `is_it` holds; `wanted` says what it is.
    ///
    /// # Errors
    /// [`NoSuchLine`] when it does not come.
    pub async fn wait_for_line(
        &self,
        wanted: &str,
        is_it: impl Fn(&str) -> bool,
    ) -> Result<String, NoSuchLine> {
        self.log().wait_for_line(wanted, is_it).await
    }

    /// The host's process ids of the processes inside that run under a name, `model-sidecar` or
    /// `bootstrap`.
    #[must_use]
    pub fn processes(&self, name: &str) -> Vec<i32> {
        processes::named(self.child.pid(), name)
    }

    /// Sends a signal to every process inside that runs under a name.
    ///
    /// # Errors
    /// [`RieError::NoSuchProcess`] when there is none.
    pub fn kill(&self, name: &str, signal: Signal) -> Result<(), RieError> {
        let pids = self.processes(name);
        for pid in &pids {
            // One that has gone meanwhile needs no signal.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), signal);
        }
        if pids.is_empty() {
            return Err(RieError::NoSuchProcess {
                name: name.to_owned(),
                present: processes::names(self.child.pid()),
            });
        }
        Ok(())
    }

    /// Ends the environment as Lambda does: the extensions that run get SHUTDOWN and 2 s. Returns
    /// once all is over; the log is complete then.
    ///
    /// # Errors
    /// [`RieError::StillRunning`] when it does not end.
    pub async fn shutdown(&self) -> Result<LogCapture, RieError> {
        if self.child.ended().is_none() {
            self.kill(builder::RIE, Signal::SIGTERM)?;
        }
        self.child.wait().await?;
        Ok(self.log().clone())
    }

    /// Waits for both ports: RIE takes invocations before its Runtime API listens, and a process
    /// started by then finds nobody there.
    async fn wait_ready(&self) -> Result<(), RieError> {
        let started = Instant::now();
        let api = Client::tcp(self.ports[1].number());
        loop {
            match self.client.connect().await.and(api.connect().await) {
                Ok(_) => return Ok(()),
                Err(_) if self.child.ended().is_some() || started.elapsed() > WAIT_LIMIT => {
                    return Err(RieError::Stillborn {
                        log: self.log().text(),
                    });
                }
                Err(_) => tokio::time::sleep(TRY_AGAIN).await,
            }
        }
    }
}

impl Drop for ExecutionEnvironment {
    fn drop(&mut self) {
        // The first process of the sandbox's own process-id space takes all the others with it,
        // and bwrap ends once they are gone; were bwrap killed, they would outlive it a little.
        let first = processes::children(self.child.pid());
        if self.child.ended().is_none() && !first.is_empty() {
            for pid in first {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            }
            self.child.join();
        }
    }
}
