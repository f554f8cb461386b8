//! The processes inside a sandbox, seen from the host: the descendants of the one that was
//! started.

use std::collections::BTreeMap;
use std::fs;

/// The kernel keeps 15 letters of a process's name.
const NAME_LENGTH: usize = 15;

struct Process {
    parent: i32,
    name: String,
    state: State,
}

/// What a process does, as far as freezing is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Stopped by a signal.
    Stopped,
    /// Anything else: on a CPU, waiting for one, or asleep.
    Alive,
}

/// Ids of the descendants of `root` that run under `name`.
pub(crate) fn named(root: i32, name: &str) -> Vec<i32> {
    let name: String = name.chars().take(NAME_LENGTH).collect();
    let found = descendants(root);
    found
        .into_iter()
        .filter(|(_, process)| process.name == name)
        .map(|(pid, _)| pid)
        .collect()
}

/// Ids of the processes that `parent` itself started.
pub(crate) fn children(parent: i32) -> Vec<i32> {
    let all = running().into_iter();
    all.filter(|(_, process)| process.parent == parent)
        .map(|(pid, _)| pid)
        .collect()
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

/// Whether a process is stopped by a signal, all its threads with it, or has gone.
pub(crate) fn rests(pid: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        parse(&stat).is_none_or(|thread| thread.state == State::Stopped)
    })
}

/// The most memory that a process ever had resident, in bytes; 0 for one that has gone.
pub(crate) fn peak_resident_bytes(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

fn descendants(root: i32) -> BTreeMap<i32, Process> {
    let mut all = running();
    let is_below = |mut pid: i32| {
        while let Some(process) = all.get(&pid) {
            if process.parent == root {
                return true;
            }
            pid = process.parent;
        }
        false
    };
    let below: Vec<i32> = all.keys().copied().filter(|pid| is_below(*pid)).collect();
    all.retain(|pid, _| below.contains(pid));
    all
}

fn running() -> BTreeMap<i32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            Some((pid, parse(&stat)?))
        })
        .collect()
}

/// `pid (name) state parent …`; the name may hold anything, brackets too. A zombie counts as gone.
fn parse(stat: &str) -> Option<Process> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let mut fields = after.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z").then(|| Process {
        parent,
        name: name.to_owned(),
        state: if state == "T" {
            State::Stopped
        } else {
            State::Alive
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name_holds() {
        let process = parse("42 (a) b (c) S 7 42 42 0 -1").unwrap();
        assert_eq!((process.name.as_str(), process.parent), ("a) b (c", 7));
        assert_eq!(process.state, State::Alive);
        assert_eq!(parse("42 (a) T 7 42").unwrap().state, State::Stopped);
        assert!(parse("42 (gone) Z 7 42").is_none());
    }
}
