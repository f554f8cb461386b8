//! A child process that never outlives its value.
//!
//! Each child has a dedicated thread that starts it, reads its output and waits for its exit. On
//! Linux a parent-death signal follows the *thread* that started the child, and the threads of an
//! asynchronous runtime come and go.

use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;

use crate::WAIT_LIMIT;
use crate::log_capture::LogCapture;

/// A process was expected to exit and did not; the message contains its log.
#[derive(Debug, thiserror::Error)]
#[error("{name} still runs after {} s\n---- its log ----\n{log}\n---- end ----", WAIT_LIMIT.as_secs())]
pub struct StillRunning {
    name: String,
    log: String,
}

#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    pid: Pid,
    log: LogCapture,
    ended: watch::Receiver<Option<ExitStatus>>,
    keeper: Option<JoinHandle<()>>,
}

impl Child {
    /// Starts `command`; its output becomes the log of `name`.
    pub(crate) fn spawn(command: Command, name: &str, echo: bool) -> io::Result<Self> {
        Self::start(command, name, LogCapture::new(name, echo), true)
    }

    /// Starts `command` and appends its output to the shared `log`, which stays open when the
    /// process exits.
    pub(crate) fn spawn_into(command: Command, name: &str, log: &LogCapture) -> io::Result<Self> {
        Self::start(command, name, log.clone(), false)
    }

    fn start(mut command: Command, name: &str, log: LogCapture, its_own: bool) -> io::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let (started, start) = mpsc::channel();
        let (end, ended) = watch::channel(None);
        let keeper = std::thread::spawn({
            let log = log.clone();
            move || {
                let status = keep(command, &log, &started);
                if its_own {
                    log.end();
                }
                end.send_replace(status);
            }
        });
        // The thread always sends; a receive error means that it died first.
        let pid = start.recv().map_err(io::Error::other)??;
        Ok(Self {
            name: name.to_owned(),
            pid,
            log,
            ended,
            keeper: Some(keeper),
        })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    pub(crate) fn log(&self) -> &LogCapture {
        &self.log
    }

    /// Exit status, `None` while the process runs.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        *self.ended.borrow()
    }

    /// Sends a signal; without effect after the exit.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match self.ended() {
            None => Ok(kill(self.pid, signal)?),
            Some(_) => Ok(()),
        }
    }

    /// Blocks until the exit, which the caller must have caused.
    pub(crate) fn join(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }

    /// Waits for the exit without a limit; the log is complete afterwards. `None` if the status
    /// cannot be determined.
    pub(crate) async fn until_end(&self) -> Option<ExitStatus> {
        let mut ended = self.ended.clone();
        let status = ended.wait_for(Option::is_some).await;
        status.map_or(None, |status| *status)
    }

    /// Waits for the exit; the log is complete afterwards.
    pub(crate) async fn wait(&self) -> Result<ExitStatus, StillRunning> {
        let mut ended = self.ended.clone();
        let wait = ended.wait_for(Option::is_some);
        if let Ok(Ok(status)) = tokio::time::timeout(WAIT_LIMIT, wait).await
            && let Some(status) = *status
        {
            return Ok(status);
        }
        Err(StillRunning {
            name: self.name.clone(),
            log: self.log.text(),
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.signal(Signal::SIGKILL);
        self.join();
    }
}

/// Starts the process, reads all its output and waits for its exit; `None` if it did not start.
fn keep(
    mut command: Command,
    log: &LogCapture,
    started: &mpsc::Sender<io::Result<Pid>>,
) -> Option<ExitStatus> {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let _ = started.send(Err(error));
            return None;
        }
    };
    let readers: Vec<_> = [
        child.stdout.take().map(|stream| log.read(stream)),
        child.stderr.take().map(|stream| log.read(stream)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let pid = i32::try_from(child.id()).unwrap_or_default();
    let _ = started.send(Ok(Pid::from_raw(pid)));
    let status = child.wait();
    for reader in readers {
        let _ = reader.join();
    }
    status.ok()
}
