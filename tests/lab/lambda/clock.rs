//! The clock of an execution environment: the machine's, or one by which an hour of freeze takes
//! no time.
//!
//! What the monotonic clock does while Lambda freezes an environment is not documented, so there
//! are two kinds of [`SharedClock`]: one [jumps](Clock::Jumps), as the wall clock does, and one
//! [stands still](Clock::StandsStill) and does not even count the real time that a freeze took.
//! [`SharedClock::let_pass`] lets any time pass while everything is frozen. Processes see it
//! through `clock.c`, a library that is loaded before all others: in programs that ask the time
//! of their C library, and so not in Go's.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use crate::artifacts;

/// Where a sandbox shows the clock's folder.
pub(super) const INSIDE: &str = "/lab/clock";
/// The variable by which a process gets the library.
pub(super) const VARIABLE: (&str, &str) = ("LD_PRELOAD", "/lab/clock/clock.so");
/// The library's name in that folder, and that of the file that it maps; `clock.c` knows both.
const LIBRARY: &str = "clock.so";
const OFFSETS: &str = "offsets";

/// What the clocks of an environment do while it is frozen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// They are the machine's own; a freeze takes as long as it takes.
    #[default]
    Real,
    /// Both clocks go on: after the thaw, timers are overdue.
    Jumps,
    /// The wall clock goes on, the monotonic clock stands still.
    StandsStill,
}

/// No clock could be made.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// Its library is to be built first.
    #[error(transparent)]
    Artifact(#[from] artifacts::ArtifactError),
    /// Its folder could not be made.
    #[error("cannot make a folder for the environment's clock")]
    Io(#[from] io::Error),
}

/// The clock that all processes of an environment see.
#[derive(Debug)]
pub struct SharedClock {
    stands_still: bool,
    folder: TempDir,
    file: File,
    state: Mutex<State>,
}

/// What is added to the machine's clocks, in nanoseconds; and since when all is frozen.
#[derive(Debug, Default)]
struct State {
    realtime: i64,
    monotonic: i64,
    frozen: Option<Instant>,
}

impl SharedClock {
    /// Makes a clock of a kind; `None` for [`Clock::Real`], which takes nothing.
    ///
    /// # Errors
    /// [`ClockError`] when `make stage` is due, or no folder can be made.
    pub fn new(kind: Clock) -> Result<Option<Self>, ClockError> {
        let stands_still = match kind {
            Clock::Real => return Ok(None),
            Clock::Jumps => false,
            Clock::StandsStill => true,
        };
        let folder = tempfile::Builder::new().prefix("lab-clock").tempdir()?;
        std::fs::copy(artifacts::clock()?, folder.path().join(LIBRARY))?;
        let file = File::create_new(folder.path().join(OFFSETS))?;
        let clock = Self {
            stands_still,
            folder,
            file,
            state: Mutex::default(),
        };
        clock.write(&State::default())?;
        Ok(Some(clock))
    }

    /// To be called when everything has been frozen.
    pub fn froze(&self) {
        self.state().frozen.get_or_insert_with(Instant::now);
    }

    /// To be called before anything is thawed.
    ///
    /// # Errors
    /// When the offsets cannot be written.
    pub fn thawed(&self) -> io::Result<()> {
        let mut state = self.state();
        if let Some(since) = state.frozen.take()
            && self.stands_still
        {
            state.monotonic -= nanoseconds(since.elapsed());
        }
        self.write(&state)
    }

    /// Lets time pass while everything is frozen.
    ///
    /// # Errors
    /// When the offsets cannot be written.
    pub fn let_pass(&self, time: Duration) -> io::Result<()> {
        let mut state = self.state();
        state.realtime += nanoseconds(time);
        if !self.stands_still {
            state.monotonic += nanoseconds(time);
        }
        self.write(&state)
    }

    /// The environment's wall clock.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        SystemTime::now() + Duration::from_nanos(self.state().realtime.unsigned_abs())
    }

    /// The folder to be shown at [`INSIDE`].
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Written in one piece, and while nothing runs that could read half of it.
    fn write(&self, state: &State) -> io::Result<()> {
        let mut offsets = [0; 16];
        offsets[..8].copy_from_slice(&state.realtime.to_ne_bytes());
        offsets[8..].copy_from_slice(&state.monotonic.to_ne_bytes());
        self.file.write_all_at(&offsets, 0)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}
