//! Clock of an execution environment: the machine's, or a shifted clock with which an hour of
//! freeze takes no time.
//!
//! AWS does not document the behaviour of the monotonic clock in a freeze, so there are two kinds
//! of [`SharedClock`]. One [jumps](Clock::Jumps), as the wall clock does. The other [stands
//! still](Clock::StandsStill) and does not even count the real time of the freeze.
//! [`SharedClock::let_pass`] passes any time while everything is frozen. Processes see the clock
//! through `clock.c`, a preloaded library. It affects programs that read the time through their C
//! library, so not those of Go.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use crate::artifacts;

/// Path of the clock's folder in a sandbox.
pub(super) const INSIDE: &str = "/lab/clock";
/// Variable that preloads the library.
pub(super) const VARIABLE: (&str, &str) = ("LD_PRELOAD", "/lab/clock/clock.so");
/// Name of the library, and of the file that it maps; `clock.c` contains both.
const LIBRARY: &str = "clock.so";
const OFFSETS: &str = "offsets";

/// Behaviour of an environment's clocks while it is frozen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// The clocks are the machine's; a freeze lasts its real time.
    #[default]
    Real,
    /// Both clocks advance: after the thaw, timers are overdue.
    Jumps,
    /// The wall clock advances, the monotonic clock stands still.
    StandsStill,
}

/// No clock could be made.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The preloaded library must be built first.
    #[error(transparent)]
    Artifact(#[from] artifacts::ArtifactError),
    /// The clock's folder could not be created.
    #[error("cannot create a folder for the environment's clock")]
    Io(#[from] io::Error),
}

/// Clock that all processes of an environment see.
#[derive(Debug)]
pub struct SharedClock {
    stands_still: bool,
    folder: TempDir,
    file: File,
    state: Mutex<ClockState>,
}

/// Offsets from the machine's clocks, in nanoseconds, and the start of the freeze.
#[derive(Debug, Default)]
struct ClockState {
    realtime: i64,
    monotonic: i64,
    frozen: Option<Instant>,
}

impl SharedClock {
    /// Creates a clock; `None` for [`Clock::Real`], which needs none.
    ///
    /// # Errors
    /// [`ClockError`] if `make stage` must be run, or no folder can be created.
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
        clock.write(&ClockState::default())?;
        Ok(Some(clock))
    }

    /// Must be called when everything has been frozen.
    pub fn froze(&self) {
        self.state().frozen.get_or_insert_with(Instant::now);
    }

    /// Must be called before anything is thawed.
    ///
    /// # Errors
    /// If the offsets cannot be written.
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
    /// If the offsets cannot be written.
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

    /// Folder to mount at [`INSIDE`].
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Written in one call, and while no process runs that could read a partial write.
    fn write(&self, state: &ClockState) -> io::Result<()> {
        let mut offsets = [0; 16];
        offsets[..8].copy_from_slice(&state.realtime.to_ne_bytes());
        offsets[8..].copy_from_slice(&state.monotonic.to_ne_bytes());
        self.file.write_all_at(&offsets, 0)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, ClockState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}
