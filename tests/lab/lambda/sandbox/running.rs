//! A sandbox that runs: frozen, thawed, killed, waited for.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::WAIT_LIMIT;
use crate::child::Child;
use crate::processes;

/// How long to leave processes to come to rest before they are looked at again.
const LOOK_AGAIN: Duration = Duration::from_micros(200);
/// How long a sandbox that is to be killed is given to come into being.
const COMES: Duration = Duration::from_secs(10);
/// What a shell, and bubblewrap after it, adds to the number of the signal that ended a process.
const SIGNALLED: i32 = 128;

/// Something inside went on running although it was told to stop.
#[derive(Debug, thiserror::Error)]
#[error("processes {still:?} do not stop within {} s of SIGSTOP", WAIT_LIMIT.as_secs())]
pub struct NotFrozen {
    still: Vec<i32>,
}

/// A process in its sandbox, and all that it has started. Everything dies with this value.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    pub(super) fn new(child: Child) -> Self {
        Self { child }
    }

    /// The host's process ids of what runs inside; the sandbox's own processes are not among them.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let first = self.first().into_iter();
        first.flat_map(processes::below).collect()
    }

    /// The host's process ids of those inside that run under a name.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<i32> {
        let first = self.first().into_iter();
        first
            .flat_map(|first| processes::named(first, name))
            .collect()
    }

    /// The names of all that runs inside.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.first()
            .into_iter()
            .flat_map(processes::names)
            .collect()
    }

    /// Sends a signal to the program itself; to one that has ended, none.
    pub fn signal(&self, number: Signal) {
        let first = self.first().into_iter();
        first
            .flat_map(processes::children)
            .for_each(|pid| signal(pid, number));
    }

    /// Stops everything inside, and what it starts meanwhile, and returns when every thread
    /// stands still. Takes a millisecond or so.
    ///
    /// # Errors
    /// [`NotFrozen`] when something goes on.
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

    /// Lets everything inside go on.
    pub fn thaw(&self) {
        for pid in self.pids() {
            signal(pid, Signal::SIGCONT);
        }
    }

    /// Whether something is inside and all of it stands still.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        let inside = self.pids();
        !inside.is_empty() && inside.into_iter().all(processes::rests)
    }

    /// Kills everything inside, frozen or not, and returns when it is gone.
    pub fn kill(&self) {
        // The first process of a process-id space takes all others with it, and the kernel
        // reports its end once they are gone; were bwrap killed, they would outlive it a little.
        let started = Instant::now();
        while self.child.ended().is_none() && started.elapsed() < WAIT_LIMIT {
            match self.first() {
                Some(first) => signal(first, Signal::SIGKILL),
                // Still to come, within a millisecond or so. Were bwrap killed before it, the first
                // process might not learn of that and live on.
                None if started.elapsed() < COMES => {}
                None => drop(self.child.signal(Signal::SIGKILL)),
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until the process has ended, by itself or not; what it started ends with it, and
    /// all its output is in the log by then.
    pub async fn wait(&self) -> ExitStatus {
        // A status that cannot be had has been taken by a stranger: as good as killed.
        let status = self.child.until_end().await;
        status.map_or_else(|| ExitStatus::from_raw(Signal::SIGKILL as i32), of_program)
    }

    /// How it ended, `None` while it runs.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child.ended().map(of_program)
    }

    /// The sum of the most memory that each of those inside ever had resident, in bytes: what is
    /// left to say of a peak where there are no control groups. Pages that two share count twice.
    #[must_use]
    pub fn peak_resident_bytes(&self) -> u64 {
        self.pids()
            .into_iter()
            .map(processes::peak_resident_bytes)
            .sum()
    }

    /// The first process of the process-id space: bubblewrap's, whose child is the program.
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

/// The program's own status: bubblewrap reports a signal as a shell does.
fn of_program(status: ExitStatus) -> ExitStatus {
    match status.code() {
        Some(code @ 129..=192) => ExitStatus::from_raw(code - SIGNALLED),
        _ => status,
    }
}

fn signal(pid: i32, signal: Signal) {
    // One that has gone meanwhile needs no signal.
    let _ = kill(Pid::from_raw(pid), signal);
}
