//! Processes inside a sandbox, seen from the host: the descendants of the process that was started.

use std::collections::BTreeMap;
use std::fs;

/// Maximum length of a process's name in the kernel.
const NAME_LENGTH: usize = 15;

struct ProcessStat {
    parent: i32,
    name: String,
    state: RunState,
}

/// State of a process for freezing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunState {
    /// Stopped by a signal.
    Stopped,
    /// Any other state: running, runnable or sleeping.
    Alive,
}

/// Ids of the descendants of `root` named `name`.
pub(crate) fn named(root: i32, name: &str) -> Vec<i32> {
    let name: String = name.chars().take(NAME_LENGTH).collect();
    let found = descendants(root);
    found
        .into_iter()
        .filter(|(_, process)| process.name == name)
        .map(|(pid, _)| pid)
        .collect()
}

/// Ids of the direct children of `parent`, without zombies.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    let all = started_by(parent).into_iter();
    all.filter(|pid| read(*pid).is_some()).collect()
}

/// Names of all descendants of `root`.
pub(crate) fn names(root: i32) -> Vec<String> {
    let found = descendants(root);
    found.into_values().map(|process| process.name).collect()
}

/// Ids of all descendants of `root`.
pub(crate) fn below(root: i32) -> Vec<i32> {
    descendants(root).into_keys().collect()
}

/// Returns `true` if all threads of a process are stopped by a signal, or if it has exited.
pub(crate) fn rests(pid: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        parse(&stat).is_none_or(|thread| thread.state == RunState::Stopped)
    })
}

/// Peak resident memory of a process, in bytes; 0 after its exit.
pub(crate) fn peak_resident_bytes(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

fn descendants(root: i32) -> BTreeMap<i32, ProcessStat> {
    let mut found = BTreeMap::new();
    let mut to_visit = vec![root];
    while let Some(parent) = to_visit.pop() {
        for pid in started_by(parent) {
            if let Some(process) = read(pid) {
                found.insert(pid, process);
            }
            to_visit.push(pid);
        }
    }
    found
}

/// The kernel lists the children of each thread. Where that is not compiled in, all processes are
/// scanned, which takes ten times as long.
fn started_by(parent: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(children) => found.extend(children.split_whitespace().flat_map(str::parse::<i32>)),
            Err(_) if thread.path().exists() => return started_by_any_thread(parent),
            // The thread has exited since.
            Err(_) => {}
        }
    }
    found
}

fn started_by_any_thread(parent: i32) -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| read(*pid).is_some_and(|process| process.parent == parent))
        .collect()
}

fn read(pid: i32) -> Option<ProcessStat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Parses `pid (name) state parent …`; the name may contain any character, brackets too. A zombie
/// counts as exited.
fn parse(stat: &str) -> Option<ProcessStat> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut fields = after.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z").then(|| ProcessStat {
        parent,
        name: name.to_owned(),
        state: if state == "T" {
            RunState::Stopped
        } else {
            RunState::Alive
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_parsed_with_any_name() {
        let process = parse("42 (a) b (c) S 7 42 42 0 -1").unwrap();
        assert_eq!((process.name.as_str(), process.parent), ("a) b (c", 7));
        assert_eq!(process.state, RunState::Alive);
        assert_eq!(parse("42 (a) T 7 42").unwrap().state, RunState::Stopped);
        assert!(parse("42 (gone) Z 7 42").is_none());
    }

    #[test]
    fn both_methods_find_the_same_children() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let (own, pid) = (std::process::id().cast_signed(), child.id().cast_signed());
        let found = [started_by(own), started_by_any_thread(own)].map(|all| all.contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, [true, true]);
        assert!(!children(own).contains(&pid));
    }
}
