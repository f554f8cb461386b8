//! The sidecar alone, without Lambda: the binary as a developer runs it, or a container does.
//!
//! It gets the environment that the test names and nothing of the test's own. It is told to stop
//! by SIGTERM, and dies when its value is dropped; should the test itself be killed, the kernel
//! kills it too.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use nix::sys::signal::Signal;

use crate::child::Child;
use crate::log_capture::{LogCapture, NoSuchLine};

pub use crate::child::StillRunning;

/// A process that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program is not there.
    #[error("no program at {}", .0.display())]
    Missing(PathBuf),
    /// The system refused. `setpriv` comes with util-linux.
    #[error("cannot start {} through setpriv (Debian package util-linux)", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// How to start a program; see [`Process::of`].
#[derive(Debug)]
pub struct Start {
    program: PathBuf,
    command: Command,
    echo: bool,
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Prepares to start `program`, with an empty environment.
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

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.pid()
    }

    /// What it has written.
    #[must_use]
    pub fn log(&self) -> &LogCapture {
        self.child.log()
    }

    /// Waits for a line of its log that contains `text`.
    ///
    /// # Errors
    /// [`NoSuchLine`] when it does not come.
    pub async fn wait_for(&self, text: &str) -> Result<String, NoSuchLine> {
        self.log().wait_for(text).await
    }

    /// Waits for a line of its log for which `is_it` holds; `wanted` says what it is.
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

    /// How it ended, `None` while it runs.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child.ended()
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// [`StillRunning`] when it does not.
    pub async fn wait(&self) -> Result<ExitStatus, StillRunning> {
        self.child.wait().await
    }

    /// Sends it a signal; to a process that has ended, none.
    ///
    /// # Errors
    /// What the system answers.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.child.signal(signal)
    }

    /// Asks it to stop with SIGTERM and waits until it has.
    ///
    /// # Errors
    /// [`StillRunning`] when it does not.
    pub async fn terminate(&self) -> Result<ExitStatus, StillRunning> {
        // It may have ended by itself this very moment, which is as well.
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

    /// Runs it in `directory` and not in the test's own.
    #[must_use]
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Prints its lines as they come, too.
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.echo = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`StartError`] when it does not start.
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
