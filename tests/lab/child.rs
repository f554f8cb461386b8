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
    pub(crate) fn spawn(mut command: Command, name: &str, echo: bool) -> io::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let log = LogCapture::new(name, echo);
        let (started, start) = mpsc::channel();
        let (end, ended) = watch::channel(None);
        let keeper = std::thread::spawn({
            let log = log.clone();
            move || keep(command, &log, &started, &end)
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

fn keep(
    mut command: Command,
    log: &LogCapture,
    started: &mpsc::Sender<io::Result<Pid>>,
    end: &watch::Sender<Option<ExitStatus>>,
) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
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
    log.end();
    end.send_replace(status.ok());
}
