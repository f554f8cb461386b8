//! Detection of the places where control groups can be created on this machine.

use std::fs;
use std::path::{Path, PathBuf};

use super::CgroupError;

/// The control groups of this machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Version 1.
    One(Trees),
    /// Version 2: the groups from the lab's own up to the root, nearest first.
    Two(Vec<PathBuf>),
}

/// Hierarchies of version 1. The lab's groups go to their roots, because the lab may not change its
/// own group.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trees {
    pub(super) memory: PathBuf,
    pub(super) cpu: PathBuf,
    pub(super) pids: Option<PathBuf>,
}

pub(super) fn find() -> Result<Found, CgroupError> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    read(&mounts, &own).ok_or(CgroupError::NoHierarchy)
}

/// A machine may have both versions. Version 1 is used if it has memory and CPU.
fn read(mounts: &str, own: &str) -> Option<Found> {
    if let (Some(memory), Some(cpu)) = (tree(mounts, "memory"), tree(mounts, "cpu")) {
        let pids = tree(mounts, "pids");
        return Some(Found::One(Trees { memory, cpu, pids }));
    }
    let root = fields(mounts)
        .find(|fields| fields.kind == "cgroup2")?
        .folder;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let group = Path::new(root).join(path.trim_start_matches('/'));
    let up = group
        .ancestors()
        .take_while(|group| group.starts_with(root));
    Some(Found::Two(up.map(Path::to_owned).collect()))
}

struct Mount<'a> {
    folder: &'a str,
    kind: &'a str,
    options: &'a str,
}

fn fields(mounts: &str) -> impl Iterator<Item = Mount<'_>> {
    mounts.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        Some(Mount {
            folder: fields.next()?,
            kind: fields.next()?,
            options: fields.next()?,
        })
    })
}

fn tree(mounts: &str, controller: &str) -> Option<PathBuf> {
    fields(mounts)
        .find(|mount| {
            mount.kind == "cgroup" && mount.options.split(',').any(|option| option == controller)
        })
        .map(|mount| PathBuf::from(mount.folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trees_of_version_1_are_found_wherever_they_are_mounted() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
                      cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let found = read(mounts, "4:memory:/a\n0::/\n").unwrap();
        let trees = Trees {
            memory: "/sys/fs/cgroup/memory".into(),
            cpu: "/sys/fs/cgroup/cpu,cpuacct".into(),
            pids: None,
        };
        assert_eq!(found, Found::One(trees));
    }

    #[test]
    fn in_version_2_the_groups_above_ours_are_tried_up_to_the_root() {
        let mounts = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        let found = read(mounts, "0::/user.slice/app\n").unwrap();
        let groups = [
            "/sys/fs/cgroup/user.slice/app",
            "/sys/fs/cgroup/user.slice",
            "/sys/fs/cgroup",
        ];
        assert_eq!(found, Found::Two(groups.map(PathBuf::from).to_vec()));
    }

    #[test]
    fn without_groups_there_is_nothing() {
        assert_eq!(read("proc /proc proc rw 0 0\n", ""), None);
    }
}
