//! Version 2: one hierarchy for all resources. A group that contains processes cannot delegate
//! resources to child groups. The lab's groups are therefore siblings of its own group, or higher
//! up where the resources are delegated.

use std::fs;
use std::path::{Path, PathBuf};

use super::{
    CgroupError, Limits, MAX_TASKS, PERIOD_MICROS, Share, Version, make as make_group, write,
};

/// Creates a group below the first of `parents` that delegates memory and CPU and is writable.
pub(super) fn make(parents: &[PathBuf], name: &str, share: Share) -> Result<Limits, CgroupError> {
    let mut refused = CgroupError::NoHierarchy;
    for parent in parents
        .iter()
        .filter(|parent| hands_on(parent, "memory") && hands_on(parent, "cpu"))
    {
        match make_below(parent, name, share) {
            Ok(limits) => return Ok(limits),
            Err(why_not) => refused = why_not,
        }
    }
    Err(refused)
}

fn make_below(parent: &Path, name: &str, share: Share) -> Result<Limits, CgroupError> {
    let group = make_group(parent, name)?;
    let limits = Limits {
        version: Version::Two,
        groups: vec![group.clone()],
        memory: group.clone(),
    };
    write(&group, "memory.max", &share.memory_bytes)?;
    if group.join("memory.swap.max").exists() {
        write(&group, "memory.swap.max", &0)?;
    }
    write(
        &group,
        "cpu.max",
        &format!("{} {PERIOD_MICROS}", share.cpu_micros),
    )?;
    if hands_on(parent, "pids") {
        write(&group, "pids.max", &MAX_TASKS)?;
    }
    Ok(limits)
}

fn hands_on(parent: &Path, controller: &str) -> bool {
    let handed_on = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
    handed_on.split_whitespace().any(|word| word == controller)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_goes_where_memory_and_cpu_are_handed_on() {
        let tree = tempfile::tempdir().unwrap();
        let (own, user) = (tree.path().join("user/app"), tree.path().join("user"));
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("cgroup.subtree_control"), "").unwrap();
        fs::write(user.join("cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        fs::write(
            tree.path().join("cgroup.subtree_control"),
            "cpuset cpu memory\n",
        )
        .unwrap();
        let limits = make(&[own, user.clone()], "mine", Share::of(256)).unwrap();

        let read = |file: &str| fs::read_to_string(user.join("mine").join(file)).unwrap();
        assert_eq!(read("memory.max"), "268435456");
        assert_eq!(read("cpu.max"), "2894 20000");
        assert_eq!(read("pids.max"), "1024");
        fs::write(user.join("mine/memory.peak"), "4096\n").unwrap();
        assert_eq!(limits.peak_bytes(), Some(4096));
    }

    #[test]
    fn without_delegated_resources_there_are_no_limits() {
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join("cgroup.subtree_control"), "cpuset pids").unwrap();
        let error = make(&[tree.path().to_owned()], "mine", Share::of(256)).unwrap_err();
        assert!(matches!(error, CgroupError::NoHierarchy), "{error}");
    }
}
