//! A running sandbox: freeze, thaw, kill, wait.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::WAIT_LIMIT;
use crate::child::Child;
use crate::processes;

/// Interval between checks that processes have stopped.
const LOOK_AGAIN: Duration = Duration::from_micros(200);
/// Maximum time for a sandbox's first process to appear before a kill.
const COMES: Duration = Duration::from_secs(10);
/// Offset that a shell, and bubblewrap after it, adds to the number of a fatal signal.
const SIGNALLED: i32 = 128;

/// A process kept running after SIGSTOP.
#[derive(Debug, thiserror::Error)]
#[error("processes {still:?} do not stop within {} s of SIGSTOP", WAIT_LIMIT.as_secs())]
pub struct NotFrozen {
    still: Vec<i32>,
}

/// A process in its sandbox with all its descendants. All are killed when the value is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    pub(super) fn new(child: Child) -> Self {
        Self { child }
    }

    /// Host process ids of the processes inside, without the sandbox's own.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let first = self.first().into_iter();
        first.flat_map(processes::below).collect()
    }

    /// Host process ids of the processes inside with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<i32> {
        let first = self.first().into_iter();
        first
            .flat_map(|first| processes::named(first, name))
            .collect()
    }

    /// Names of all processes inside.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.first()
            .into_iter()
            .flat_map(processes::names)
            .collect()
    }

    /// Sends a signal to the program itself; without effect after its exit.
    pub fn signal(&self, number: Signal) {
        let first = self.first().into_iter();
        first
            .flat_map(processes::children)
            .for_each(|pid| signal(pid, number));
    }

    /// Stops all processes inside, including those started concurrently, and returns when every
    /// thread is stopped. Takes about a millisecond.
    ///
    /// # Errors
    /// [`NotFrozen`] if a process keeps running.
    pub fn freeze(&self) -> Result<(), NotFrozen> {
        let started = Instant::now();
        loop {
            let still = self.moving();
            if still.is_empty() {
                return Ok(());
            }
            if started.elapsed() > WAIT_LIMIT {
                return Err(NotFrozen { still });
            }
            for pid in still {
                signal(pid, Signal::SIGSTOP);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Continues all processes inside.
    pub fn thaw(&self) {
        for pid in self.pids() {
            signal(pid, Signal::SIGCONT);
        }
    }

    /// Returns `true` if there are processes inside and all are stopped.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        let inside = self.pids();
        !inside.is_empty() && inside.into_iter().all(processes::rests)
    }

    /// Kills all processes inside, frozen or not, and returns when they have exited.
    pub fn kill(&self) {
        // The end of a process-id namespace's first process kills all others, and the kernel
        // reports its exit after theirs. After a kill of bwrap they would outlive it briefly.
        let started = Instant::now();
        while self.child.ended().is_none() && started.elapsed() < WAIT_LIMIT {
            match self.first() {
                Some(first) => signal(first, Signal::SIGKILL),
                // The first process appears within about a millisecond. If bwrap were killed
                // before, the first process might not notice and survive.
                None if started.elapsed() < COMES => {}
                None => drop(self.child.signal(Signal::SIGKILL)),
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until the process has exited for any reason. Its descendants end with it, and the log
    /// is complete afterwards.
    pub async fn wait(&self) -> ExitStatus {
        // A status that cannot be determined counts as a kill.
        let status = self.child.until_end().await;
        status.map_or_else(|| ExitStatus::from_raw(Signal::SIGKILL as i32), of_program)
    }

    /// Exit status, `None` while the process runs.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child.ended().map(of_program)
    }

    /// Sum of the peak resident memory of each process inside, in bytes: an estimate of the peak
    /// where there are no control groups. Shared pages count repeatedly.
    #[must_use]
    pub fn peak_resident_bytes(&self) -> u64 {
        self.pids()
            .into_iter()
            .map(processes::peak_resident_bytes)
            .sum()
    }

    /// First process of the process-id namespace: bubblewrap's, whose child is the program.
    fn first(&self) -> Option<i32> {
        processes::children(self.child.pid()).into_iter().next()
    }

    fn moving(&self) -> Vec<i32> {
        let mut inside = self.pids();
        inside.retain(|pid| !processes::rests(*pid));
        inside
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        self.child.join();
    }
}

/// Status of the program: bubblewrap reports a signal as a shell does.
fn of_program(status: ExitStatus) -> ExitStatus {
    match status.code() {
        Some(code @ 129..=192) => ExitStatus::from_raw(code - SIGNALLED),
        _ => status,
    }
}

fn signal(pid: i32, signal: Signal) {
    // An error means that the process has exited since.
    let _ = kill(Pid::from_raw(pid), signal);
}
