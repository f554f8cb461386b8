//! Limits of memory and CPU by a function's memory size: a control group for all processes of an
//! environment.
//!
//! The kernel's control groups come in two versions with different files; [`Limits`] is the same
//! over both. Where groups cannot be created, as without root, [`CgroupError`] gives the reason,
//! and the platform runs without limits. Groups are removed with their value. Groups of a killed
//! lab are removed by the next one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

mod hierarchy;
mod v1;
mod v2;

/// Memory size that gives one CPU.
const MB_FOR_ONE_CPU: u64 = 1_769;
/// Period over which a group gets its share of CPU time.
const PERIOD_MICROS: u64 = 20_000;
/// The kernel's minimum for a share.
const MIN_MICROS: u64 = 1_000;
/// Maximum number of processes and threads of an environment.
const MAX_TASKS: u64 = 1_024;
const MB: u64 = 1024 * 1024;
/// Prefix of the groups' names, before the lab's process id and a number.
const NAME: &str = "model-sidecar-lab";

/// Reason why no limits can be set.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The kernel has no groups for memory and CPU.
    #[error("no control groups for memory and cpu are mounted")]
    NoHierarchy,
    /// The groups are not writable.
    #[error("cannot make a control group at {}", path.display())]
    Refused {
        /// Path that could not be created or written.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// No process can move into a created group.
    #[error("no process can join the control group {}: {answer}", path.display())]
    NotJoined {
        /// The group.
        path: PathBuf,
        /// Output of the shell.
        answer: String,
    },
}

/// Limits of one environment, shared by its runtime and extensions.
#[derive(Debug)]
pub struct Limits {
    version: Version,
    groups: Vec<PathBuf>,
    memory: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Resources of a group.
#[derive(Clone, Copy, Debug)]
struct Share {
    memory_bytes: u64,
    cpu_micros: u64,
}

impl Share {
    fn of(memory_mb: u32) -> Self {
        let memory_mb = u64::from(memory_mb);
        Self {
            memory_bytes: memory_mb * MB,
            cpu_micros: (memory_mb * PERIOD_MICROS / MB_FOR_ONE_CPU).max(MIN_MICROS),
        }
    }
}

impl Limits {
    /// Creates groups for a memory size: its memory, CPU in proportion with one CPU at 1,769 MB,
    /// 1,024 processes and threads.
    ///
    /// # Errors
    /// [`CgroupError`] if that is not possible here.
    pub fn for_memory(memory_mb: u32) -> Result<Self, CgroupError> {
        let share = Share::of(memory_mb);
        let name = next_name();
        let limits = match hierarchy::find()? {
            hierarchy::Found::One(parents) => v1::make(&parents, &name, share)?,
            hierarchy::Found::Two(parents) => v2::make(&parents, &name, share)?,
        };
        limits.try_joining()?;
        Ok(limits)
    }

    /// Peak memory use in bytes, including file pages that the kernel charges to this group.
    #[must_use]
    pub fn peak_bytes(&self) -> Option<u64> {
        number(&self.memory.join(match self.version {
            Version::One => "memory.max_usage_in_bytes",
            Version::Two => "memory.peak",
        }))
    }

    /// Returns `true` if the kernel's OOM killer has ended a process.
    #[must_use]
    pub fn oom_killed(&self) -> bool {
        let file = match self.version {
            Version::One => "memory.oom_control",
            Version::Two => "memory.events",
        };
        let text = fs::read_to_string(self.memory.join(file)).unwrap_or_default();
        oom_kills(&text) > 0
    }

    /// Files through which a process joins: it writes its id to each.
    pub(super) fn joined_through(&self) -> impl Iterator<Item = PathBuf> {
        self.groups.iter().map(|group| group.join("cgroup.procs"))
    }

    /// Checks that a process can join: a group can often be created and not be joined.
    fn try_joining(&self) -> Result<(), CgroupError> {
        for group in &self.groups {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", r#"echo $$ >"$1""#, "sh"]);
            let answer = match shell.arg(group.join("cgroup.procs")).output() {
                Ok(output) if output.status.success() => continue,
                Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(CgroupError::NotJoined {
                path: group.clone(),
                answer,
            });
        }
        Ok(())
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        for group in &self.groups {
            remove(group);
        }
    }
}

/// A name unique to this lab.
fn next_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{NAME}-{}-{number}", std::process::id())
}

/// Creates a group below `parent`, and removes groups of labs that no longer run.
fn make(parent: &Path, name: &str) -> Result<PathBuf, CgroupError> {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if is_left_over(&entry.file_name().to_string_lossy()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
    let group = parent.join(name);
    match fs::create_dir(&group) {
        Ok(()) => Ok(group),
        Err(source) => Err(CgroupError::Refused {
            path: group,
            source,
        }),
    }
}

fn is_left_over(name: &str) -> bool {
    let rest = name
        .strip_prefix(NAME)
        .and_then(|rest| rest.strip_prefix('-'));
    rest.and_then(|rest| rest.split_once('-'))
        .is_some_and(|(pid, _)| !Path::new("/proc").join(pid).exists())
}

/// Removes a group. Its last process may still be exiting, so removal is retried.
fn remove(group: &Path) {
    for _ in 0..1_000 {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            _ => return,
        }
    }
}

fn write(group: &Path, file: &str, value: &impl ToString) -> Result<(), CgroupError> {
    let path = group.join(file);
    fs::write(&path, value.to_string()).map_err(|source| CgroupError::Refused { path, source })
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn oom_kills(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|number| number.trim().parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_in_proportion_to_memory() {
        for (memory_mb, micros) in [
            (1_769, 20_000),
            (3_538, 40_000),
            (128, 1_447),
            (10_240, 115_771),
        ] {
            assert_eq!(Share::of(memory_mb).cpu_micros, micros, "{memory_mb} MB");
        }
        assert_eq!(Share::of(128).memory_bytes, 134_217_728);
    }

    #[test]
    fn oom_kills_are_counted_in_both_versions_files() {
        assert_eq!(
            oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            2
        );
        assert_eq!(
            oom_kills("low 0\nhigh 0\nmax 9\noom 3\noom_kill 1\noom_group_kill 0\n"),
            1
        );
        assert_eq!(
            oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"),
            0
        );
    }

    #[test]
    fn only_groups_of_exited_labs_are_stale() {
        assert!(is_left_over("model-sidecar-lab-4194305-0"));
        assert!(!is_left_over(&next_name()));
        assert!(!is_left_over("system.slice"));
    }
}
