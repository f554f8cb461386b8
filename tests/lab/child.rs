//! A process that lives no longer than its value.
//!
//! Each has a thread of its own that starts it, reads its output and waits for its end. The
//! thread matters: what is started to die with its parent dies, on Linux, with the *thread* that
//! started it, and an asynchronous runtime's threads come and go.

use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;

use crate::WAIT_LIMIT;
use crate::log_capture::LogCapture;

/// A process was expected to end and did not; the message carries its log.
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
    /// Starts `command`, whose output becomes the log of `name`.
    pub(crate) fn spawn(command: Command, name: &str, echo: bool) -> io::Result<Self> {
        Self::start(command, name, LogCapture::new(name, echo), true)
    }

    /// Starts `command`, whose output joins that of others in `log`; the log does not end with it.
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
        // The keeper always sends; were it to die before, that is an error as well.
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

    /// How it ended, `None` while it runs.
    pub(crate) fn ended(&self) -> Option<ExitStatus> {
        *self.ended.borrow()
    }

    /// Sends a signal; to a process that has ended, none.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        match self.ended() {
            None => Ok(kill(self.pid, signal)?),
            Some(_) => Ok(()),
        }
    }

    /// Blocks until the end, which the caller has brought about.
    pub(crate) fn join(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }

    /// Waits for the end, however long it takes; by then the log is complete. `None` when the
    /// status cannot be had.
    pub(crate) async fn until_end(&self) -> Option<ExitStatus> {
        let mut ended = self.ended.clone();
        let status = ended.wait_for(Option::is_some).await;
        status.map_or(None, |status| *status)
    }

    /// Waits for the end; by then the log is complete.
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

/// Starts it, reads all its output and waits for its end; `None` when it did not start.
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
