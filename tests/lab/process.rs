//! The sidecar alone, without Lambda: the binary as run by a developer or in a container.
//!
//! Its environment contains only the variables that the test sets. It is stopped by SIGTERM, and
//! killed when its value is dropped. If the test itself is killed, the kernel kills the process
//! too.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use nix::sys::signal::Signal;

use crate::child::Child;
use crate::log_capture::{LogCapture, NoSuchLine};

pub use crate::child::StillRunning;

/// The process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program does not exist.
    #[error("no program at {}", .0.display())]
    Missing(PathBuf),
    /// The operating system refused. `setpriv` is part of util-linux.
    #[error("cannot start {} through setpriv (Debian package util-linux)", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

/// Configuration of a process; see [`Process::of`].
#[derive(Debug)]
pub struct Start {
    program: PathBuf,
    command: Command,
    echo: bool,
}

/// A running process.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Configures `program`, with an empty environment.
    #[must_use]
    pub fn of(program: impl AsRef<Path>) -> Start {
        let program = program.as_ref().to_owned();
        let mut command = Command::new("/usr/bin/setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&program)
            .env_clear();
        Start {
            program,
            command,
            echo: false,
        }
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// Output of the process.
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

    /// Exit status, `None` while the process runs.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child.ended()
    }

    /// Waits until the process exits by itself.
    ///
    /// # Errors
    /// [`StillRunning`] if it does not exit.
    pub async fn wait(&self) -> Result<ExitStatus, StillRunning> {
        self.child.wait().await
    }

    /// Sends a signal; without effect after the exit.
    ///
    /// # Errors
    /// Error of the operating system.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.child.signal(signal)
    }

    /// Sends SIGTERM and waits for the exit.
    ///
    /// # Errors
    /// [`StillRunning`] if it does not exit.
    pub async fn terminate(&self) -> Result<ExitStatus, StillRunning> {
        // An error means that the process has just exited by itself.
        let _ = self.signal(Signal::SIGTERM);
        self.wait().await
    }
}

impl Start {
    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets several variables.
    #[must_use]
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.command.envs(variables);
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Runs the process in `directory` instead of the test's.
    #[must_use]
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Also prints its output to the terminal.
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.echo = true;
        self
    }

    /// Starts the process.
    ///
    /// # Errors
    /// [`StartError`] if it does not start.
    pub fn start(self) -> Result<Process, StartError> {
        if !self.program.is_file() {
            return Err(StartError::Missing(self.program));
        }
        let name = self.program.file_name().map(OsStr::to_string_lossy);
        let name = name.unwrap_or_default().into_owned();
        let child = Child::spawn(self.command, &name, self.echo);
        match child {
            Ok(child) => Ok(Process { child }),
            Err(source) => Err(StartError::Spawn {
                program: self.program,
                source,
            }),
        }
    }
}
