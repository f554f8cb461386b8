//! The processes inside a sandbox, seen from the host: the descendants of the one that was
//! started.

use std::collections::BTreeMap;
use std::fs;

/// The kernel keeps 15 letters of a process's name.
const NAME_LENGTH: usize = 15;

struct Process {
    parent: i32,
    name: String,
}

/// Ids of the descendants of `root` that run under `name`.
pub(super) fn named(root: i32, name: &str) -> Vec<i32> {
    let name: String = name.chars().take(NAME_LENGTH).collect();
    let found = descendants(root);
    found
        .into_iter()
        .filter(|(_, process)| process.name == name)
        .map(|(pid, _)| pid)
        .collect()
}

/// Ids of the processes that `parent` itself started.
pub(super) fn children(parent: i32) -> Vec<i32> {
    let all = running().into_iter();
    all.filter(|(_, process)| process.parent == parent)
        .map(|(pid, _)| pid)
        .collect()
}

/// Names of all descendants of `root`.
pub(super) fn names(root: i32) -> Vec<String> {
    let found = descendants(root);
    found.into_values().map(|process| process.name).collect()
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name_holds() {
        let process = parse("42 (a) b (c) S 7 42 42 0 -1").unwrap();
        assert_eq!((process.name.as_str(), process.parent), ("a) b (c", 7));
        assert!(parse("42 (gone) Z 7 42").is_none());
    }
}
