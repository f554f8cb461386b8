//! An execution environment under AWS's Runtime Interface Emulator (RIE), in a sandbox that looks
//! like Lambda. `/opt` and `/var/task` are read-only, and `/tmp` is a folder of the host that tests
//! can inspect. Processes have their own process-id namespace and inherit nothing of the host's
//! environment. The network is the host's, so that the lab's servers can be reached on loopback.
//!
//! RIE's behaviour, found by experiment (`tests/lab_tests/rie.rs` verifies most of it):
//!
//! - **Nothing starts before the first invocation.** RIE starts extensions and runtime when the
//!   first event arrives; Init is part of that call. Its limit of 10 seconds is not enforced. A
//!   SIGTERM before it ends RIE without SHUTDOWN, as no extension runs.
//! - The response reaches the caller when the runtime *and* every extension have called `next`.
//! - A function's error has status 200, the error's own JSON and no header that marks it:
//!   [`Invocation::function_error`] reads the body. INVOKE events have no `tracing`.
//! - **The function's process exits** in an invocation: the extensions get SHUTDOWN with the reason
//!   `ReleaseFail` and 2 s, then SIGKILL. The caller gets a 502 with `Runtime.ExitError` after
//!   that. The *next* invocation starts everything again (log: `INIT START(…, phase: invoke)`),
//!   with `/tmp` preserved. If the process exits between two invocations, the next one fails in the
//!   same way. The extension may or may not get its INVOKE before the SHUTDOWN.
//! - **An extension's process exits**: depending on timing, the current or the next invocation is a
//!   502 with `Extension.Crash`. Otherwise it has the function's response or an empty body. The log
//!   has `Extension.Crash` each time. The exited extension gets no SHUTDOWN. All processes are
//!   started again at the next invocation.
//! - **An extension fails in Init**, by exiting or through `init/error`: 502 with an empty body,
//!   after RIE has repeated Init once. The log has `Extension.Crash` or `Extension.InitError` and
//!   not the extension's own error. Every further invocation tries again. An extension that exits
//!   within about a millisecond of its start can crash RIE (a race in RIE: `Unable to find an
//!   exitedChannel`).
//! - **An invocation exceeds the timeout**: SHUTDOWN with the reason `Timeout` and 2 s, then 200
//!   with the plain text `Task timed out after 3.00 seconds`. All is started again at the next
//!   invocation. An extension that does not call `next` in time has the same effect. It gets no
//!   SHUTDOWN, having no pending `next`, and is killed after the 2 s.
//! - **SIGTERM to RIE** sends SHUTDOWN with the reason `SandboxTerminated` to the running
//!   extensions, gives them 2 s, kills the rest and exits with 0. An invocation in progress is cut
//!   off.
//! - Two concurrent invocations crash RIE: [`ExecutionEnvironment::invoke`] serializes them.
//!
//! RIE does not emulate: freeze and thaw, memory and CPU limits, the 10 s of Init, the Telemetry
//! API, the early response.

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

/// Path on which RIE accepts invocations.
const INVOKE: &str = "/2015-03-31/functions/function/invocations";
/// Interval between attempts to connect to RIE while it starts; it does not log when it listens.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// An execution environment could not be started, invoked or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RieError {
    /// An artifact must be built first.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// No port is free.
    #[error(transparent)]
    NoFreePort(#[from] NoFreePort),
    /// The sandbox program is not installed.
    #[error("no bwrap on the PATH: `apt-get install bubblewrap`")]
    NoBubblewrap,
    /// The folder for `/tmp` could not be created, or the sandbox not be started.
    #[error("cannot {what}")]
    Io {
        /// The attempted operation.
        what: &'static str,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The sandbox or RIE exited, or never listened.
    #[error("RIE does not listen\n---- its log ----\n{log}\n---- end ----")]
    Stillborn {
        /// Its log.
        log: String,
    },
    /// An invocation got no response.
    #[error(
        "the invocation got no response\n---- the environment's log ----\n{log}\n---- end ----"
    )]
    NoAnswer {
        /// Log of the environment.
        log: String,
        /// Failure of the call.
        source: CallError,
    },
    /// The function failed where a response was expected.
    #[error(
        "the function failed: {error:?}\n---- the environment's log ----\n{log}\n---- end ----"
    )]
    Failed {
        /// The failure.
        error: FunctionError,
        /// Log of the environment.
        log: String,
    },
    /// The environment did not stop.
    #[error(transparent)]
    StillRunning(#[from] StillRunning),
    /// No process of that name runs in the environment.
    #[error("no process named {name} in the environment; running: {present:?}")]
    NoSuchProcess {
        /// The given name.
        name: String,
        /// Names of the running processes.
        present: Vec<String>,
    },
}

/// A running execution environment. Its processes are killed when it is dropped.
#[derive(Debug)]
pub struct ExecutionEnvironment {
    child: Child,
    client: Client,
    one_at_a_time: Mutex<()>,
    tmp: Arc<TempDir>,
    /// Ports of RIE's invocations, and of its Runtime and Extensions APIs.
    ports: [Port; 2],
}

impl ExecutionEnvironment {
    /// Configures an environment from the folders `layer` (at `/opt`) and `function` (at
    /// `/var/task`).
    #[must_use]
    pub fn of(layer: impl AsRef<Path>, function: impl AsRef<Path>) -> Builder {
        Builder::new(layer.as_ref(), function.as_ref())
    }

    /// Configures an environment from the staged layer and function.
    ///
    /// # Errors
    /// [`ArtifactError`] if they must be built first.
    pub fn staged() -> Result<Builder, ArtifactError> {
        let (layer, function) = (crate::artifacts::layer()?, crate::artifacts::function()?);
        Ok(Builder::new(&layer, &function))
    }

    /// Invokes the function. The first invocation starts extensions and runtime. Concurrent calls
    /// are serialized.
    ///
    /// # Errors
    /// [`RieError::NoAnswer`] if RIE closed the connection; a failed function is `Ok`.
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

    /// Invokes the function and returns its response, or `null` if that is no JSON.
    ///
    /// # Errors
    /// [`RieError::Failed`] if the function failed, [`RieError::NoAnswer`] if RIE closed the
    /// connection.
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

    /// Host folder that is mounted at `/tmp`.
    #[must_use]
    pub fn tmp(&self) -> &Path {
        self.tmp.path()
    }

    /// The same folder, shared for [`Builder::tmp`] of another environment. `/tmp` outlives the
    /// processes, as in a reset by Lambda.
    #[must_use]
    pub fn keep_tmp(&self) -> Arc<TempDir> {
        Arc::clone(&self.tmp)
    }

    /// Output of RIE, extensions and function, in order of arrival.
    #[must_use]
    pub fn log(&self) -> &LogCapture {
        self.child.log()
    }

    /// Waits for a log line that contains `text`.
    ///
    /// # Errors
    /// [`NoSuchLine`] if it does not arrive.
    pub async fn wait_for(&self, text: &str) -> Result<String, NoSuchLine> {
        self.log().wait_for(text).await
    }

    /// Waits for a log line for which `is_it` holds; `wanted` describes it.
    ///
    /// # Errors
    /// [`NoSuchLine`] if it does not arrive.
    pub async fn wait_for_line(
        &self,
        wanted: &str,
        is_it: impl Fn(&str) -> bool,
    ) -> Result<String, NoSuchLine> {
        self.log().wait_for_line(wanted, is_it).await
    }

    /// Host process ids of the environment's processes with this name, `model-sidecar` or
    /// `bootstrap`.
    #[must_use]
    pub fn processes(&self, name: &str) -> Vec<i32> {
        processes::named(self.child.pid(), name)
    }

    /// Sends a signal to every process of the environment with this name.
    ///
    /// # Errors
    /// [`RieError::NoSuchProcess`] if there is none.
    pub fn kill(&self, name: &str, signal: Signal) -> Result<(), RieError> {
        let pids = self.processes(name);
        for pid in &pids {
            // An error means that the process has exited since.
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

    /// Ends the environment as Lambda does: running extensions get SHUTDOWN and 2 s. Returns the
    /// complete log once all has ended.
    ///
    /// # Errors
    /// [`RieError::StillRunning`] if it does not end.
    pub async fn shutdown(&self) -> Result<LogCapture, RieError> {
        if self.child.ended().is_none() {
            self.kill(builder::RIE, Signal::SIGTERM)?;
        }
        self.child.wait().await?;
        Ok(self.log().clone())
    }

    /// Waits for both ports: RIE accepts invocations before its Runtime API listens, and a process
    /// that starts in between could not connect.
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
        // The end of a process-id namespace's first process kills all others, and bwrap exits after
        // them. After a kill of bwrap they would outlive it briefly.
        let first = processes::children(self.child.pid());
        if self.child.ended().is_none() && !first.is_empty() {
            for pid in first {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            }
            self.child.join();
        }
    }
}
